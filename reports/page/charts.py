"""The report's charts, each a function from numbers to inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from robustness.numerics.intervals import Share
from robustness.reports.page.svg import Axes, Drawing
from robustness.reports.summary.breakdown import Course
from robustness.reports.wording import exact, percent, percent_range, shorten, signed
from robustness.runs import smallest_epsilon

WIDTH, HEIGHT = 460.0, 268.0
_QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]
CHANNELS = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}
_MOST_LABELS = 13
_MOST_MARKS = 4
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


@dataclass(frozen=True)
class Surviving:
    """The flips, and the unchanged originals, that reach the goal in a JPEG file of a quality."""

    quality: int
    flips: Share
    originals: Share | None


@dataclass(frozen=True)
class Label:
    """The name of a line: where the line ends, the name, and the CSS class that colours both."""

    x: float
    y: float
    words: str
    look: str


def curve(
    lines: Sequence[Line],
    worst: Line,
    unit: str,
    start: float,
    what: str,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Draw a share over epsilon: each attack, and all together with 95 % intervals.

    Points are measured. Between two points nothing was: the line keeps the value of the smaller epsilon.

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
        Values on the epsilon axis, with their names.
    """
    points = [(e, s) for e, s in worst.points if s.share is not None]
    end = max((e for e, _ in points), default=1.0)
    description = "; ".join(f"epsilon {exact(e)}: {percent(s.share)}" for e, s in points)
    alone = len(lines) <= 1
    axes = _shares_over(
        f"epsilon, {unit}", end, f"{what} over epsilon, all attacks together. {description}.", alone
    )
    drawing = axes.drawing
    for epsilon in {e for e, _ in points}:
        drawing.line(axes.x(epsilon), axes.box[3], axes.x(epsilon), axes.box[3] + 4, "base")
    begin = (axes.x(0), axes.y(start))
    places = [begin, *((axes.x(e), axes.y(s.share or 0)) for e, s in points)]
    drawing.path(_stairs(places), "line worst" if alone else "line worst wide")
    labels = [] if alone else [Label(*places[-1], "all together", "strong")]
    for number, line in enumerate([] if alone else lines):
        measured = [(e, s.share) for e, s in line.points if s.share is not None]
        if not measured:
            continue
        ends = [begin, *((axes.x(e), axes.y(v)) for e, v in measured)]
        look = _series(number)
        drawing.path(_stairs(ends), f"line {look} dash{number % 4}")
        for (x, y), (e, v) in zip(ends[1:], measured, strict=True):
            drawing.dot(x, y, 2.4, f"{look} point", f"{line.name}, {exact(e)}: {percent(v)}")
        labels.append(Label(*ends[-1], shorten(line.name, 17), look))
    for (x, _), (_, s) in zip(places[1:], points, strict=True):
        if s.low is not None and s.high is not None:
            drawing.line(x, axes.y(s.low), x, axes.y(s.high), "whisker")
    drawing.dot(*begin, 3.5, "worst-dot", f"0: {percent(start)}")
    for (x, y), (e, s) in zip(places[1:], points, strict=True):
        tip = f"{exact(e)}: {percent(s.share)} ({percent_range(s.low, s.high)})"
        drawing.dot(x, y, 3.5, "worst-dot", tip)
    # A falling curve leaves the upper right free, a rising one the lower right.
    _marked(axes, [m for m in marks if 0 <= m.at <= end], end, from_top=start > 0)
    _name_lines(axes, labels)
    return drawing.markup()


def _series(number: int) -> str:
    """The CSS class of a line: its colour."""
    return f"series{number % 8}"


def _stairs(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of a line that is level from each place to the next, and steps there."""
    corners = [places[0]]
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _shares_over(what: str, end: float, says: str, alone: bool, *, whole: bool = False) -> Axes:
    """An empty chart of shares over `what`, 0 to `end`; space for names unless a line is `alone`.

    `whole` says that there is nothing between whole numbers.
    """
    drawing = Drawing(WIDTH, HEIGHT, says)
    right = WIDTH - (16 if alone else _ROOM)
    axes = Axes(drawing, (44, 14, right, HEIGHT - 44), (0, end), (0, 1))
    axes.ticks_up(_QUARTERS, [f"{100 * q:.0f} %" for q in _QUARTERS])
    ticks = [v for v in round_ticks(end) if not whole or v.is_integer()]
    axes.ticks_across(ticks, [f"{v:,.12g}" for v in ticks])
    drawing.text((44 + right) / 2, HEIGHT - 6, what, "axis", "middle")
    return axes


def round_ticks(end: float, most: int = 6) -> list[float]:
    """Return 2 to `most` + 1 (`most` from 3 on) round numbers from 0 to `end`: 0, 2, 4 ..."""
    rough = end / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    return [round(step * i, 12) for i in range(math.floor(end / step * (1 + 1e-9)) + 1)]


def _name_lines(axes: Axes, labels: list[Label]) -> None:
    """Write names right of a chart, each joined to the end of its line."""
    left = axes.box[2] + 12
    shown = labels[:_MOST_LABELS]
    for y, label in _apart(shown, 15, axes.box[1], axes.box[3]):
        axes.drawing.path([(label.x, label.y), (axes.box[2] + 3, label.y), (left - 2, y)], "leader")
        axes.drawing.text(left, y + 4, label.words, f"tick {label.look}")
    if len(labels) > len(shown):
        words = f"and {len(labels) - len(shown)} more"
        axes.drawing.text(left, axes.box[3] + 18, words, "tick")


def _marked(axes: Axes, marks: Sequence[Mark], end: float, *, from_top: bool) -> None:
    drawing = axes.drawing
    for number, mark in enumerate(marks[:_MOST_MARKS]):
        y = axes.box[1] + 8 + 15 * number if from_top else axes.box[3] - 8 - 15 * number
        low, high = min(mark.low or 0.0, end), end if mark.high is None else min(mark.high, end)
        drawing.line(axes.x(mark.at), y, axes.x(mark.at), axes.box[3], "median-stem")
        drawing.line(axes.x(low), y, axes.x(high), y, "median-line")
        interval = smallest_epsilon.reach(mark.low, mark.high)
        tooltip = f"{mark.name}: {mark.at:.3g} (95 % interval {interval})"
        drawing.dot(axes.x(mark.at), y, 4, "median", tooltip)
        words = f"{mark.name} {mark.at:.3g}"
        room = axes.box[2] - axes.x(high)
        if room > 6.3 * len(words):
            drawing.text(axes.x(high) + 6, y + 4, words, "tick ink")
        elif axes.x(low) - axes.box[0] > 6.3 * len(words):
            drawing.text(axes.x(low) - 6, y + 4, words, "tick ink", "end")
        else:
            drawing.text(axes.box[2], y + 15, words, "tick ink", "end")


def course(courses: Sequence[Course], attacks: Sequence[str]) -> Markup:
    """Draw the share of flipped images over the steps, or passes, of some of the `attacks`.

    An attack has the same colour in every chart: that of its place among `attacks`.
    """
    end = max(c.points[-1][0] for c in courses) or 1.0
    unit = courses[0].unit
    description = "; ".join(
        f"{c.attack}: {percent(c.points[-1][1])} after {c.points[-1][0]:g}" for c in courses
    )
    alone = len(courses) <= 1
    says = f"Share of images flipped over {unit}. {description}."
    axes = _shares_over(unit, end, says, alone, whole=True)
    drawing = axes.drawing
    labels = []
    for one in courses:
        number = attacks.index(one.attack)
        places = _stairs([(axes.x(0), axes.y(0)), *((axes.x(x), axes.y(v)) for x, v in one.points)])
        places.append((axes.x(end), places[-1][1]))
        look = "worst" if alone else f"{_series(number)} dash{number % 4}"
        drawing.path(places, f"line {look}")
        labels.append(Label(*places[-1], shorten(one.attack, 17), _series(number)))
    if not alone:
        _name_lines(axes, labels)
    return drawing.markup()


def survival(points: Sequence[Surviving], uploaded: int | None) -> Markup:
    """Draw which share of flips survives as a JPEG file of each quality, with 95 % intervals.

    Parameters
    ----------
    points : by quality, each with at least one flip.
    uploaded : the quality of the run's files; None if they are not JPEG.
    """
    ordered = sorted(points, key=lambda point: point.quality)
    description = "; ".join(f"{p.quality}: {percent(p.flips.share)}" for p in ordered)
    drawing = Drawing(
        WIDTH, HEIGHT, f"Share of flips that survive, by JPEG quality. {description}."
    )
    ends = (ordered[0].quality - 2, ordered[-1].quality + 2)
    axes = Axes(drawing, (44, 24, WIDTH - 16, HEIGHT - 44), ends, (0, 1))
    axes.ticks_up(_QUARTERS, [f"{100 * q:.0f} %" for q in _QUARTERS])
    axes.ticks_across([p.quality for p in ordered], [str(p.quality) for p in ordered])
    middle = (axes.box[0] + axes.box[2]) / 2
    drawing.text(middle, HEIGHT - 6, "JPEG quality", "axis", "middle")
    if uploaded is not None and ends[0] <= uploaded <= ends[1]:
        x = axes.x(uploaded)
        drawing.line(x, axes.box[1], x, axes.box[3], "median-stem")
        drawing.text(axes.box[2], 10, f"uploaded at {uploaded}", "tick ink", "end")
    clean = [(p, p.originals) for p in ordered if p.originals and p.originals.share is not None]
    places = [(axes.x(p.quality), axes.y(share.share or 0)) for p, share in clean]
    if places:
        drawing.path(places, "line dash2")
    for (x, y), (p, share) in zip(places, clean, strict=True):
        drawing.dot(x, y, 2.4, "part-robust", f"originals, {p.quality}: {percent(share.share)}")
    places = [(axes.x(p.quality), axes.y(p.flips.share or 0)) for p in ordered]
    drawing.path(places, "line worst")
    for (x, y), p in zip(places, ordered, strict=True):
        if p.flips.low is not None and p.flips.high is not None:
            drawing.line(x, axes.y(p.flips.low), x, axes.y(p.flips.high), "whisker")
        tip = f"{p.quality}: {percent(p.flips.share)} ({percent_range(p.flips.low, p.flips.high)})"
        drawing.dot(x, y, 3.5, "worst-dot", tip)
    names = [("flips", "part-flipped"), *([("originals", "part-robust")] if clean else [])]
    _legend(drawing, axes.box[0], names)
    return drawing.markup()


def _apart(
    labels: Sequence[Label], gap: float, top: float, bottom: float
) -> list[tuple[float, Label]]:
    """The labels with heights at which none overlaps another, as near to their lines as possible."""
    placed: list[tuple[float, Label]] = []
    # The line of all attacks is never below another one, so its label is placed first.
    for label in sorted(labels, key=lambda one: (round(one.y, 1), one.look != "strong")):
        placed.append((max(label.y, placed[-1][0] + gap) if placed else max(label.y, top), label))
    # What ended too low moves up, and pushes only the labels that it would overlap.
    lowest = bottom
    for place in range(len(placed) - 1, -1, -1):
        y, label = placed[place]
        placed[place] = (min(y, lowest), label)
        lowest = placed[place][0] - gap
    return placed


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
    marks = round_ticks(top, 4)
    axes.ticks_up(marks, [f"{100 * v:.4g} %" if v else "0" for v in marks])
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
            says = f"{signed(int(value))} in {name}: {percent(float(part))}"
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
        x += 32 + 7.2 * len(name)


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
    step = max(1.0, round_ticks(max(top, deep), 4)[1])
    marks = [step * i for i in range(-int(deep // step), int(top // step) + 1)]
    axes.ticks_up(marks, [f"{abs(m):,g}" for m in marks])
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


def frame(shape: tuple[int, int], top: int, left: int, size: tuple[int, int]) -> Markup:
    """Draw an outline of `size` to put over a picture of `shape`, both (height, width)."""
    drawing = Drawing(shape[1], shape[0], "Outline of the pixel values below", kind="frame")
    drawing.rect(left, top, size[1], size[0], "frame-dark")
    drawing.rect(left, top, size[1], size[0], "frame-light")
    return drawing.markup()
