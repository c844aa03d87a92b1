"""What a picture of a case shows: its pixels, the classes with their probabilities, and words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustness.errors import RunError
from robustness.reports import wording
from robustness.reports.case_pictures.letters import class_names
from robustness.reports.page import pixels
from robustness.reports.page.case_panels import class_shares, doubt, read_picture
from robustness.reports.summary import metrics
from robustness.reports.summary.cases import CaseRow
from robustness.reports.summary.tables import ReadableRun

MOST = 768
"""Longest side of a picture in a strip, in pixels; larger ones are reduced by a whole factor."""
SIDE = 256
"""Side in pixels to which small pictures are enlarged by a whole factor."""


@dataclass(frozen=True)
class Bar:
    """A class with its probability 0..1; `wins` if that is the largest."""

    name: str
    share: float
    wins: bool


@dataclass(frozen=True)
class Sheet:
    """A case ready to be drawn.

    Attributes
    ----------
    before, after, difference
        uint8 pictures (height, width, 3), enlarged or reduced as `scale` says; the difference is
        amplified by `gain` around middle grey.
    scale
        Pixels of the drawing for one of the picture; below 1 if it is reduced.
    gain, reach
        The factor of the difference, and its largest size in counts.
    colours
        The colours of the difference, (rows, columns, 3).
    bars
        The classes of the original, and of the adversarial picture.
    patch
        The square of pixel values with the largest change.
    title, note
        Two lines of text.
    """

    before: np.ndarray
    after: np.ndarray
    difference: np.ndarray
    scale: float
    gain: float
    reach: int
    colours: np.ndarray
    bars: tuple[tuple[Bar, ...], tuple[Bar, ...]]
    patch: pixels.Patch
    channels: int
    title: str
    note: str


def sheet(run: ReadableRun, case: CaseRow) -> Sheet:
    """Read the pictures of a case and lay out what is drawn.

    Raises
    ------
    RunError
        If a picture is missing, damaged, or not the one that the audit saved.
    """
    names = class_names(run.manifest.class_names)
    original, flip = _checked(run, case)
    change = metrics.delta(original, flip)
    gain = pixels.amplification(change)
    reach = max(1, int(np.abs(change).max(initial=0)))
    small, reduced = pixels.thumbnail(original, MOST)
    grown = max(1, SIDE // max(small.shape[:2])) if reduced == 1 else 1
    difference = pixels.amplified(pixels.strongest(change, reduced), gain)
    words = [
        wording.shorten(case.attack, 60),
        f"flips within {wording.budget(run.manifest.config.norm or '', case.epsilon)}",
        f"largest change {reach if change.any() else 0} of 255",
    ]
    bars = _bars(case, names)
    replaced = set(names) - set(run.manifest.class_names)
    if any(bar.name in replaced and bar.name.startswith("class ") for bar in sum(bars, ())):
        words.append("class names in letters that cannot be drawn are numbers, from 0")
    if reduced > 1:
        words.append(f"reduced: 1 pixel is {reduced} × {reduced}, of the difference the largest")
    return Sheet(
        before=_shown(small, grown),
        after=_shown(pixels.thumbnail(flip, MOST)[0], grown),
        difference=_shown(difference, grown),
        scale=grown / reduced,
        gain=gain,
        reach=reach,
        colours=pixels.difference_scale(reach, gain, original.shape[-1]),
        bars=bars,
        patch=pixels.patch(original, flip),
        channels=original.shape[-1],
        title=wording.shorten(case.name, 80),
        note=", ".join(words),
    )


def _checked(run: ReadableRun, case: CaseRow) -> tuple[np.ndarray, np.ndarray]:
    try:
        original, flip = (read_picture(run, str(name)) for name in (case.original, case.png))
        metrics.delta(original, flip)
        objection = doubt(run, case, original, flip)
    except (OSError, ValueError, SyntaxError) as error:
        raise RunError(
            f"The pictures of {wording.shorten(case.name, 60)} cannot be shown: {error}. Restore the run "
            "from a copy, or resume it, which writes them again."
        ) from None
    if objection:
        raise RunError(f"{objection} `robustness verify` says what else does not agree.")
    return original, flip


def _shown(picture: np.ndarray, factor: int) -> np.ndarray:
    """A picture as RGB without transparency, enlarged by a whole factor."""
    colours = picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1].repeat(3, axis=-1)
    return colours.repeat(factor, axis=0).repeat(factor, axis=1)


def _bars(case: CaseRow, names: tuple[str, ...]) -> tuple[tuple[Bar, ...], tuple[Bar, ...]]:
    """All known probabilities of both pictures: those of the kept steps, or that of the winner."""
    steps = {step.png: step for step in case.steps}
    both = []
    for png, number, share in (
        (case.original, case.before, case.confidence_before),
        (case.png, case.after, case.confidence_after),
    ):
        step = steps.get(str(png))
        if step is not None:
            shares = class_shares(step, case, names)
            both.append(tuple(Bar(one.name, one.share, one.wins) for one in shares))
        elif share is not None:
            both.append((Bar(wording.class_name(names, number), share, wins=True),))
        else:
            both.append(())
    return both[0], both[1]
