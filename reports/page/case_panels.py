"""One flip laid out for the page: three pictures, the steps between them, and pixel values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from markupsafe import Markup

from robustness.errors import RunError
from robustness.images.png import from_png
from robustness.reports import wording
from robustness.reports.page import charts, pixels
from robustness.reports.summary import metrics, perception
from robustness.reports.summary.cases import CaseRow, Step
from robustness.reports.summary.tables import ReadableRun

_SHOWN = 256
"""Side on the page, in CSS pixels, to which small pictures are enlarged by a whole factor."""
_LARGEST = 384
"""Longest side of a picture in the page, in pixels; larger ones are reduced by a whole factor."""

ALTERED = "A picture of this flip is not the file that the audit saved. Do not trust this flip."


@dataclass(frozen=True)
class Shot:
    """A picture on the page: its data URI, its size in CSS pixels, and its alternative text."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Bar:
    """The bar of one class under a step: its probability, and whether it is the largest (`wins`)."""

    name: str
    share: float
    meter: Markup
    wins: bool


@dataclass(frozen=True)
class StripStep:
    """One step of the attack; one pixel of its picture is the mean of `averaged` x `averaged` pixels."""

    number: int
    shot: Shot
    bars: tuple[Bar, ...]
    averaged: int = 1


@dataclass(frozen=True)
class Cell:
    """A number, and the CSS class that colours it."""

    value: str
    look: str


@dataclass(frozen=True)
class Numbers:
    """A square of pixel values: its place in words, its first row and column, and three grids of cells."""

    place: str
    top: int
    left: int
    grids: tuple[tuple[str, tuple[tuple[Cell, ...], ...]], ...]


@dataclass(frozen=True)
class CasePanel:
    """One flip as the page shows it. Where its pictures cannot be shown, `problem` says why.

    `doubt` says what speaks against the evidence. `ssim` is None for pictures smaller than its window. One
    pixel of a large picture stands for `reduced` x `reduced` pixels.
    """

    case: CaseRow
    before: str
    after: str
    problem: str = ""
    shots: tuple[tuple[str, Shot], ...] = ()
    factor: str = ""
    frame: Markup | None = None
    measured: metrics.Change | None = None
    ssim: float | None = None
    colour: float | None = None
    doubt: str = ""
    steps: tuple[StripStep, ...] = ()
    numbers: Numbers | None = None
    change: np.ndarray | None = None
    reduced: int = 1


def case_panel(run: ReadableRun, case: CaseRow, names: tuple[str, ...]) -> CasePanel:
    """Read the pictures of one case, measure them again, and lay them out."""
    before, after = wording.class_name(names, case.before), wording.class_name(names, case.after)
    if case.original is None or case.png is None:
        return CasePanel(case, before, after, problem="The run kept no pictures of this flip.")
    try:
        original, flip = read_picture(run, case.original), read_picture(run, case.png)
        delta = metrics.delta(original, flip)
    except (RunError, OSError, ValueError, SyntaxError) as error:
        return CasePanel(case, before, after, problem=f"Its pictures cannot be shown: {error}")
    factor = pixels.amplification(delta)
    printed = f"{factor:g}"
    patch = pixels.patch(original, flip)
    small, reduced = pixels.thumbnail(original, _LARGEST)
    return CasePanel(
        case=case,
        before=before,
        after=after,
        shots=(
            ("Original", enlarged(small, f"The original, classified as {before}")),
            (
                "Adversarial",
                enlarged(
                    pixels.thumbnail(flip, _LARGEST)[0],
                    f"The changed picture, classified as {after}",
                ),
            ),
            (
                f"Difference × {printed}",
                enlarged(
                    pixels.amplified(pixels.strongest(delta, reduced), factor),
                    f"The change, multiplied by {printed} around middle grey",
                ),
            ),
        ),
        factor=printed,
        frame=charts.frame(original.shape[:2], patch.top, patch.left, patch.before.shape),
        measured=metrics.change(original, flip),
        ssim=perception.ssim(original, flip),
        colour=perception.colour_difference(original, flip),
        doubt=doubt(run, case, original, flip),
        steps=_strip(run, case, names),
        numbers=_numbers(patch, original.shape[-1]),
        change=delta,
        reduced=reduced,
    )


def read_picture(run: ReadableRun, name: str) -> np.ndarray:
    """Return a picture of the run, uint8 (height, width, channels); RunError, OSError, ... if damaged."""
    return from_png(run.png(name))


def altered(run: ReadableRun, names: Iterable[str | None]) -> bool:
    """Whether the bytes of a file have another hash than the one in its name; RunError if it is missing."""
    return any(
        hashlib.sha256(run.png(name)).hexdigest() != PurePosixPath(name).stem
        for name in names
        if name
    )


def doubt(run: ReadableRun, case: CaseRow, original: np.ndarray, flip: np.ndarray) -> str:
    """Return what speaks against the evidence: a file that does not match its name or the table; or ""."""
    if altered(run, (case.original, case.png)):
        return ALTERED
    largest = metrics.change(original, flip).linf
    if case.linf is not None and abs(case.linf - largest) > 1e-6:
        return (
            f"The largest change is {wording.number(case.linf)} in the table, but "
            f"{wording.number(largest)} in the pictures. Do not trust this flip."
        )
    return ""


def enlarged(picture: np.ndarray, alt: str, most: int = _SHOWN) -> Shot:
    """Return a picture for the page, enlarged by the whole factor with which it fits into `most`."""
    height, width = picture.shape[:2]
    scale = max(1, most // max(height, width))
    return Shot(pixels.data_uri(picture), width * scale, height * scale, alt)


def _strip(run: ReadableRun, case: CaseRow, names: tuple[str, ...]) -> tuple[StripStep, ...]:
    steps = []
    for step in case.steps:
        try:
            small, factor = pixels.thumbnail(read_picture(run, step.png))
        except (RunError, OSError, ValueError, SyntaxError):
            continue
        bars = _bars(step, case, names)
        classes = ", ".join(f"{bar.name} {wording.percent(bar.share)}" for bar in bars)
        where = f"After step {step.number}" if step.number else "The original"
        shot = enlarged(small, f"{where}: {classes}", 128)
        steps.append(StripStep(step.number, shot, bars, factor))
    return tuple(steps)


@dataclass(frozen=True)
class ClassShare:
    """A class, its probability, whether that is the largest, and the look of its bar."""

    name: str
    share: float
    wins: bool
    look: str


def class_shares(step: Step, case: CaseRow, names: tuple[str, ...]) -> tuple[ClassShare, ...]:
    """Return the probabilities of the class before, of the class after, and of all others together."""
    probabilities = step.probabilities
    wanted = [c for c in (case.before, case.after) if c is not None and c < len(probabilities)]
    winner = int(np.argmax(probabilities))
    shown = [
        ClassShare(
            wording.class_name(names, c),
            probabilities[c],
            c == winner,
            "accent" if c == case.after else "calm",
        )
        for c in dict.fromkeys(wanted)
    ]
    others = len(probabilities) - len(shown)
    if others > 0:
        rest = max(0.0, 1 - sum(entry.share for entry in shown))
        name = f"{others} others"
        if others == 1:
            name = next(
                wording.class_name(names, c) for c in range(len(probabilities)) if c not in wanted
            )
        shown.append(ClassShare(name, rest, winner not in wanted, "faint"))
    return tuple(shown)


def _bars(step: Step, case: CaseRow, names: tuple[str, ...]) -> tuple[Bar, ...]:
    return tuple(
        Bar(entry.name, entry.share, charts.meter(entry.share, f"bar {entry.look}"), entry.wins)
        for entry in class_shares(step, case, names)
    )


def _numbers(patch: pixels.Patch, channels: int) -> Numbers:
    names = charts.CHANNELS.get(channels)
    channel = names[patch.channel] if names else f"number {patch.channel}"
    rows, columns = patch.before.shape
    largest = max(1, int(np.abs(patch.difference).max(initial=0)))
    return Numbers(
        place=(
            f"channel {channel}, rows {patch.top}–{patch.top + rows - 1}, "
            f"columns {patch.left}–{patch.left + columns - 1}"
        ),
        top=patch.top,
        left=patch.left,
        grids=(
            ("Before", _grid(patch.before, _grey)),
            ("After", _grid(patch.after, _grey)),
            ("Difference", _grid(patch.difference, lambda value: _signed(value, largest))),
        ),
    )


def _grid(values: np.ndarray, cell: Callable[[int], Cell]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(tuple(cell(int(value)) for value in row) for row in values)


def _grey(value: int) -> Cell:
    """A value in one of sixteen shades of grey."""
    return Cell(str(value), f"g{value // 16}")


def _signed(value: int, largest: int) -> Cell:
    """A signed change in one of four shades, the strongest for the largest change of the square."""
    if value == 0:
        return Cell("0", "zero")
    level = -(-4 * abs(value) // largest)
    return Cell(wording.signed(value), f"{'up' if value > 0 else 'down'}{level}")
