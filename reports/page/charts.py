"""The report's charts, each a function from numbers to inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from robustness.numerics.intervals import Share
from robustness.reports.page.svg import Axes, Drawing
from robustness.reports.summary.breakdown import Course
from robustness.reports.wording import percent, percent_range, shorten, signed
from robustness.runs import smallest_epsilon

WIDTH, HEIGHT = 460.0, 268.0
_QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]
CHANNELS = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}
_MOST_LABELS = 8
_ROOM = 128
"""Width right of a chart for the names of its lines."""


@dataclass(frozen=True)
class Line:
    """A flip rate at each epsilon."""

    name: str
    points: tuple[tuple[float, Share], ...]


@dataclass(frozen=True)
class Mark:
    """A value on the epsilon axis, such as a median, and its interval; None for an open end."""

    name: str
    at: float
    low: float | None
    high: float | None


def curve(
    lines: Sequence[Line],
    worst: Line,
    unit: str,
    start: float,
    what: str,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Draw a share over epsilon: each attack, and all together with the 95 % interval.

    Parameters
    ----------
    lines, worst
        The share of each attack, and of all attacks together.
    unit
        The unit of epsilon.
    start
        The share at epsilon 0.
    what
        The name of the share.
    marks
        Values on the epsilon axis.
    """
    points = [(e, s) for e, s in worst.points if s.share is not None]
    end = max((e for e, _ in points), default=1.0)
    description = "; ".join(f"epsilon {e:g}: {percent(s.share)}" for e, s in points)
    alone = len(lines) <= 1
    axes = _shares_over(
        f"epsilon, {unit}", end, f"{what} over epsilon, all attacks together. {description}.", alone
    )
    drawing = axes.drawing
    axes.ticks_across([0.0, *(e for e, _ in points)], ["0", *(f"{e:g}" for e, _ in points)])
    low = [(axes.x(e), axes.y(s.low or 0)) for e, s in points]
    high = [(axes.x(e), axes.y(1 if s.high is None else s.high)) for e, s in points]
    begin = (axes.x(0), axes.y(start))
    drawing.path([begin, *low, *reversed(high)], "band", closed=True)
    _marked(drawing, axes, [m for m in marks if 0 <= m.at <= end], end)
    labels = []
    for number, line in enumerate(lines if not alone else []):
        kept = [(e, s.share) for e, s in line.points if s.share is not None]
        places = [begin, *((axes.x(e), axes.y(v)) for e, v in kept)]
        drawing.path(places, f"line dash{number % 4}")
        labels.append((places[-1][1], shorten(line.name, 17), "tick"))
    places = [begin, *((axes.x(e), axes.y(s.share or 0)) for e, s in points)]
    drawing.path(places, "line worst")
    drawing.dot(*begin, 3.5, "worst-dot", f"0: {percent(start)}")
    for (x, y), (e, s) in zip(places[1:], points, strict=True):
        drawing.dot(
            x, y, 3.5, "worst-dot", f"{e:g}: {percent(s.share)} ({percent_range(s.low, s.high)})"
        )
    if not alone:
        _name_lines(axes, [*labels, (places[-1][1], "all together", "tick strong")])
    return drawing.markup()


def _shares_over(what: str, end: float, says: str, alone: bool) -> Axes:
    """An empty chart of shares over `what`, 0 to `end`; space for names unless a line is `alone`."""
    drawing = Drawing(WIDTH, HEIGHT, says)
    right = WIDTH - (16 if alone else _ROOM)
    axes = Axes(drawing, (44, 14, right, HEIGHT - 44), (0, end), (0, 1))
    axes.ticks_up(_QUARTERS, [f"{100 * q:.0f} %" for q in _QUARTERS])
    drawing.text((44 + right) / 2, HEIGHT - 6, what, "axis", "middle")
    return axes


def _name_lines(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write names right of the ends of their lines: (height, name, look) each."""
    for y, words, look in _apart(labels[-_MOST_LABELS:], 15, axes.box[1], axes.box[3]):
        axes.drawing.text(axes.box[2] + 9, y + 4, words, look)


def _marked(drawing: Drawing, axes: Axes, marks: Sequence[Mark], end: float) -> None:
    for number, mark in enumerate(marks):
        y = axes.box[3] - 7 - 9 * number
        low, high = min(mark.low or 0.0, end), end if mark.high is None else min(mark.high, end)
        drawing.line(axes.x(low), y, axes.x(high), y, "median-line")
        interval = smallest_epsilon.reach(mark.low, mark.high)
        tooltip = (
            f"median smallest epsilon of {mark.name}: {mark.at:.3g} (95 % interval {interval})"
        )
        drawing.dot(axes.x(mark.at), y, 4, "median", tooltip)


def course(courses: Sequence[Course]) -> Markup:
    """Draw the share of flipped images over the steps, or passes, of some attacks."""
    end = max(c.points[-1][0] for c in courses) or 1.0
    unit = courses[0].unit
    description = "; ".join(
        f"{c.attack}: {percent(c.points[-1][1])} after {c.points[-1][0]:g}" for c in courses
    )
    alone = len(courses) <= 1
    axes = _shares_over(unit, end, f"Share of images flipped over {unit}. {description}.", alone)
    drawing = axes.drawing
    step = next(s for s in _nice(end / 6) if s >= end / 6)
    ticks = [step * i for i in range(int(end / step) + 1)]
    axes.ticks_across(ticks, [f"{v:,.0f}" for v in ticks])
    labels = []
    for number, one in enumerate(courses):
        places, last = [(axes.x(0), axes.y(0))], 0.0
        for x, share in one.points:
            places += [(axes.x(x), axes.y(last)), (axes.x(x), axes.y(share))]
            last = share
        places.append((axes.x(end), axes.y(last)))
        drawing.path(places, "line worst" if alone else f"line dash{number % 4}")
        labels.append((places[-1][1], shorten(one.attack, 17), "tick"))
    if not alone:
        _name_lines(axes, labels)
    return drawing.markup()


def _nice(least: float) -> list[float]:
    """1, 2, 5, 10, 20 ... from 1 to beyond `least`."""
    numbers: list[float] = []
    power = 1
    while not numbers or numbers[-1] < least:
        numbers += [1.0 * power, 2.0 * power, 5.0 * power]
        power *= 10
    return numbers


def _apart(
    labels: list[tuple[float, str, str]], gap: float, top: float, bottom: float
) -> list[tuple[float, str, str]]:
    """The labels moved down until none overlaps the next, then up together if they end too low."""
    placed: list[tuple[float, str, str]] = []
    # The line of all attacks is never below another one, so its label is placed first.
    for y, words, look in sorted(
        labels, key=lambda one: (round(one[0], 1), one[2] != "tick strong")
    ):
        placed.append((max(y, placed[-1][0] + gap) if placed else max(y, top), words, look))
    excess = max(0.0, placed[-1][0] - bottom) if placed else 0.0
    return [(y - excess, words, look) for y, words, look in placed]


def deltas(histogram: pd.DataFrame) -> Markup:
    """Draw which share of each channel changed by how many counts; unchanged values are left out.

    `histogram` has an index of counts and a column per channel. Wide ranges are put into bins.
    """
    table, step = _gathered(histogram)
    share = table / histogram.sum().clip(lower=1)
    top = float(share[share.index != 0].to_numpy().max(initial=0)) or 1.0
    names = CHANNELS.get(share.shape[1], tuple(f"channel {i}" for i in range(share.shape[1])))
    drawing = Drawing(
        WIDTH,
        HEIGHT,
        f"Frequency of each change from {table.index.min()} to {table.index.max()}.",
    )
    reach = max(abs(int(table.index.min())), abs(int(table.index.max())), 1)
    high = 1.04 * top
    axes = Axes(
        drawing, (48, 24, WIDTH - 12, HEIGHT - 44), (-reach - step / 2, reach + step / 2), (0, high)
    )
    axes.ticks_up([0, top / 2, top], [percent(v) if v else "0" for v in (0, top / 2, top)])
    counts = [c for c in range(-reach, reach + 1) if c % step == 0]
    axes.ticks_across([float(c) for c in counts], [signed(c) for c in counts])
    drawing.text((48 + WIDTH - 12) / 2, HEIGHT - 6, "change in counts", "axis", "middle")
    slot = (axes.x(step) - axes.x(0)) * 0.78
    each = slot / share.shape[1]
    for count, row in share.iterrows():
        value = float(str(count))
        for place, (name, part) in enumerate(zip(names, row, strict=True)):
            if not value or not part:
                continue
            x = axes.x(value) - slot / 2 + place * each
            says = f"{value:+g} in {name}: {percent(float(part))}"
            height = axes.box[3] - axes.y(float(part))
            drawing.rect(x, axes.y(float(part)), max(0.6, each - 0.6), height, f"bar {name}", says)
    drawing.line(axes.box[0], axes.box[3], axes.box[2], axes.box[3], "base")
    _legend(drawing, axes.box[0], [(name, f"bar {name}") for name in names])
    return drawing.markup()


def _legend(drawing: Drawing, x: float, entries: Sequence[tuple[str, str]]) -> None:
    """Write names with their colours above a chart, from `x` on."""
    for name, look in entries:
        drawing.rect(x, 2, 9, 9, look)
        drawing.text(x + 14, 10, name, "tick")
        x += 32 + 6.4 * len(name)


def _gathered(histogram: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The table in bins of an odd width, so that the middle bin holds only unchanged values."""
    reach = max(abs(int(histogram.index.min())), abs(int(histogram.index.max())), 1)
    step = max(1, -(-reach // 16))
    step += step % 2 == 0
    if step == 1:
        return histogram, 1
    changed = histogram[histogram.index != 0]
    middles = [step * round(int(count) / step) for count in changed.index]
    # A small change must not get into the bin of unchanged values, which is not drawn.
    middles = [m or (step if c > 0 else -step) for m, c in zip(middles, changed.index, strict=True)]
    return changed.groupby(middles).sum(), step


def confidences(
    above: Sequence[int], below: Sequence[int], names: tuple[str, str], description: str
) -> Markup:
    """Draw two histograms of confidence, one upwards and one downwards, with their `names`."""
    top, deep = max(*above, 1), max(*below, 0)
    drawing = Drawing(WIDTH, HEIGHT, description)
    span = (-max(deep, 0.02 * top), max(top, 0.02 * deep))
    axes = Axes(drawing, (44, 24, WIDTH - 20, HEIGHT - 44), (0, 1), span)
    marks = [-deep, 0, top] if deep > 0.1 * top else [0, top]
    axes.ticks_up([float(m) for m in marks], [str(abs(m)) for m in marks])
    axes.ticks_across(_QUARTERS, [f"{100 * q:.0f} %" for q in _QUARTERS])
    drawing.text((44 + WIDTH - 20) / 2, HEIGHT - 6, "confidence", "axis", "middle")
    width = (axes.box[2] - axes.box[0]) / len(above)
    for values, look, sign in ((above, "bar calm", 1), (below, "bar accent", -1)):
        for place, count in enumerate(values):
            if count:
                low, high = sorted((axes.y(0), axes.y(sign * count)))
                share = place / len(values)
                says = f"{100 * share:.0f}–{100 * (share + 1 / len(values)):.0f} %: {count}"
                drawing.rect(
                    axes.box[0] + place * width + 1, low, width - 2, high - low, look, says
                )
    drawing.line(axes.box[0], axes.y(0), axes.box[2], axes.y(0), "base")
    _legend(drawing, axes.box[0], list(zip(names, ("bar calm", "bar accent"), strict=True)))
    return drawing.markup()


def interval(share: Share) -> Markup:
    """Draw a small bar from 0 to 100 % with the interval as a line and the share as a dot."""
    description = f"{percent(share.share)}, interval {percent_range(share.low, share.high)}"
    drawing = Drawing(120, 14, description, kind="interval")
    drawing.line(4, 7, 116, 7, "track")
    if share.share is not None and share.low is not None and share.high is not None:
        drawing.line(4 + 112 * share.low, 7, 4 + 112 * share.high, 7, "reach")
        drawing.dot(4 + 112 * share.share, 7, 4, "worst-dot")
    return drawing.markup()


def meter(share: float, look: str) -> Markup:
    """Draw a bar as long as a share 0..1; the page shows its number beside it."""
    drawing = Drawing(100, 6, percent(share), kind="meter").stretched()
    drawing.rect(0, 0, 100, 6, "track-fill")
    drawing.rect(0, 0, 100 * min(1.0, max(0.0, share)), 6, look)
    return drawing.markup()


def parts(counts: Sequence[tuple[str, int]]) -> Markup:
    """Draw one bar divided into parts: (CSS class, count) each."""
    total = sum(count for _, count in counts) or 1
    description = ", ".join(f"{name} {count}" for name, count in counts if count)
    drawing = Drawing(1000, 10, description or "nothing", kind="parts").stretched()
    drawing.rect(0, 0, 1000, 10, "track-fill")
    x = 0.0
    for name, count in counts:
        width = 1000 * count / total
        gap = 2.0 if width > 6 else 0.0
        drawing.rect(x, 0, width - gap, 10, f"part-{name}", f"{name}: {count}")
        x += width
    return drawing.markup()


def frame(shape: tuple[int, int], top: int, left: int, size: tuple[int, int]) -> Markup:
    """Draw an outline of `size` to put over a picture of `shape`, both (height, width)."""
    drawing = Drawing(shape[1], shape[0], "Outline of the pixel values below", kind="frame")
    drawing.rect(left, top, size[1], size[0], "frame-dark")
    drawing.rect(left, top, size[1], size[0], "frame-light")
    return drawing.markup()
