"""One flip laid out for the page: three pictures, the steps between them, the numbers inside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from markupsafe import Markup

from robustness.errors import RunError
from robustness.images.png import from_png
from robustness.reports import wording
from robustness.reports.page import charts
from robustness.reports.page import pixels as pictures
from robustness.reports.summary import metrics
from robustness.reports.summary.cases import CaseRow, Step
from robustness.reports.summary.tables import ReadableRun

_SHOWN = 256
"""Side on the page, in CSS pixels, that small pictures are enlarged to by a whole factor."""


@dataclass(frozen=True)
class Shot:
    """A picture on the page: its data URI, its size there, what it shows in words."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Bar:
    """One class under a picture of the strip."""

    name: str
    share: float
    meter: Markup
    wins: bool


@dataclass(frozen=True)
class StripStep:
    """One picture of the strip; `averaged` by how many pixels a side it was made smaller."""

    number: int
    shot: Shot
    bars: tuple[Bar, ...]
    averaged: int = 1


@dataclass(frozen=True)
class Cell:
    """A number and the class of the page that colours it."""

    value: str
    look: str


@dataclass(frozen=True)
class Numbers:
    """The square of numbers: where it is, in words and by its first row and column; three grids of cells."""

    place: str
    top: int
    left: int
    grids: tuple[tuple[str, tuple[tuple[Cell, ...], ...]], ...]


@dataclass(frozen=True)
class CasePanel:
    """Everything about one flip. Without pictures `problem` says why there are none."""

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


def case_panel(run: ReadableRun, case: CaseRow, names: tuple[str, ...]) -> CasePanel:
    """Read the pictures of one case, measure them anew, and lay them out."""
    before, after = wording.class_name(names, case.before), wording.class_name(names, case.after)
    if case.original is None or case.png is None:
        return CasePanel(case, before, after, problem="The run kept no pictures of this flip.")
    try:
        original, flip = _read(run, case.original), _read(run, case.png)
        delta = metrics.delta(original, flip)
    except (RunError, OSError, ValueError, SyntaxError) as error:
        return CasePanel(case, before, after, problem=f"Its pictures cannot be shown: {error}")
    factor = pictures.amplification(delta)
    printed = f"{factor:g}"
    patch = pictures.patch(original, flip)
    return CasePanel(
        case=case,
        before=before,
        after=after,
        shots=(
            ("Original", _shot(original, f"The original, which the model takes for {before}")),
            ("Adversarial", _shot(flip, f"The changed picture, taken for {after}")),
            (
                f"Difference × {printed}",
                _shot(
                    pictures.amplified(delta, factor),
                    f"The change, multiplied by {printed} around middle grey",
                ),
            ),
        ),
        factor=printed,
        frame=charts.frame(original.shape[:2], patch.top, patch.left, patch.before.shape),
        measured=metrics.change(original, flip),
        ssim=metrics.ssim(original, flip),
        colour=metrics.colour_difference(original, flip),
        doubt=_doubt(run, case, original, flip),
        steps=_strip(run, case, names),
        numbers=_numbers(patch, original.shape[-1]),
        change=delta,
    )


def _read(run: ReadableRun, name: str) -> np.ndarray:
    return from_png(run.png(name))


def _doubt(run: ReadableRun, case: CaseRow, original: np.ndarray, flip: np.ndarray) -> str:
    """What speaks against the evidence: a file that is not what its name or the table says."""
    for name in (case.original, case.png):
        if name and hashlib.sha256(run.png(name)).hexdigest() != PurePosixPath(name).stem:
            return "A picture of this flip is not the file the audit saved; do not trust it."
    largest = metrics.change(original, flip).linf
    if case.linf is not None and abs(case.linf - largest) > 1e-6:
        return (
            f"The table says that the largest change is {wording.number(case.linf)}, the pictures "
            f"say {wording.number(largest)}; do not trust this flip."
        )
    return ""


def _shot(pixels: np.ndarray, alt: str, most: int = _SHOWN) -> Shot:
    height, width = pixels.shape[:2]
    scale = max(1, most // max(height, width))
    return Shot(pictures.data_uri(pixels), width * scale, height * scale, alt)


def _strip(run: ReadableRun, case: CaseRow, names: tuple[str, ...]) -> tuple[StripStep, ...]:
    steps = []
    for step in case.steps:
        try:
            small, factor = pictures.thumbnail(_read(run, step.png))
        except (RunError, OSError, ValueError, SyntaxError):
            continue
        bars = _bars(step, case, names)
        said = ", ".join(f"{bar.name} {wording.percent(bar.share)}" for bar in bars)
        where = f"After step {step.number}" if step.number else "The original"
        shot = _shot(small, f"{where}: {said}", 128)
        steps.append(StripStep(step.number, shot, bars, factor))
    return tuple(steps)


@dataclass(frozen=True)
class ClassShare:
    """A class, its probability, whether it has the largest, and how its bar looks."""

    name: str
    share: float
    wins: bool
    look: str


def shares(step: Step, case: CaseRow, names: tuple[str, ...]) -> tuple[ClassShare, ...]:
    """The class before, the class after, and what is left for all others, if there are others."""
    every = step.probabilities
    wanted = [c for c in (case.before, case.after) if c is not None and c < len(every)]
    winner = int(np.argmax(every))
    found = [
        ClassShare(
            wording.class_name(names, c),
            every[c],
            c == winner,
            "accent" if c == case.after else "calm",
        )
        for c in dict.fromkeys(wanted)
    ]
    others = len(every) - len(found)
    if others > 0:
        rest = max(0.0, 1 - sum(one.share for one in found))
        name = f"{others} others"
        if others == 1:
            name = next(wording.class_name(names, c) for c in range(len(every)) if c not in wanted)
        found.append(ClassShare(name, rest, winner not in wanted, "faint"))
    return tuple(found)


def _bars(step: Step, case: CaseRow, names: tuple[str, ...]) -> tuple[Bar, ...]:
    return tuple(
        Bar(one.name, one.share, charts.meter(one.share, f"bar {one.look}"), one.wins)
        for one in shares(step, case, names)
    )


def _numbers(patch: pictures.Patch, channels: int) -> Numbers:
    names = charts.CHANNELS.get(channels)
    channel = names[patch.channel] if names else f"number {patch.channel}"
    rows, columns = patch.before.shape
    top = max(1, int(np.abs(patch.difference).max(initial=0)))
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
            ("Difference", _grid(patch.difference, lambda v: _signed(v, top))),
        ),
    )


def _grid(values: np.ndarray, cell: Callable[[int], Cell]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(tuple(cell(int(value)) for value in row) for row in values)


def _grey(value: int) -> Cell:
    """A value on one of sixteen greys."""
    return Cell(str(value), f"g{value // 16}")


def _signed(value: int, top: int) -> Cell:
    """A signed change, stronger the nearer it is to the largest of the square, in four steps."""
    if value == 0:
        return Cell("0", "zero")
    level = -(-4 * abs(value) // top)
    return Cell(wording.signed(value), f"{'up' if value > 0 else 'down'}{level}")
