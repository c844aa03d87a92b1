"""The worst cases at the top of the page: original, adversarial picture and difference, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from robustness.errors import RunError
from robustness.reports import wording
from robustness.reports.page import pixels
from robustness.reports.page.case_panels import Shot, doubt, enlarged, read_picture
from robustness.reports.summary import metrics
from robustness.reports.summary.cases import CaseRow
from robustness.reports.summary.tables import ReadableRun
from robustness.threat.norms import NORMS

_MOST = 320
"""Longest side of a picture in the page, in pixels; larger ones are reduced by a whole factor."""
_SHOWN = 176
"""Side in CSS pixels to which small pictures are enlarged by a whole factor."""


@dataclass(frozen=True)
class Triptych:
    """One flip: its three pictures with classes and confidences.

    Attributes
    ----------
    case, before, after
        The flip, and the classes by name.
    original, adversarial, difference
        The pictures.
    gain, scale, reach
        The factor of the difference, its colour scale, and the count at the ends of the scale.
    change
        The size of the change in words.
    smooth
        Whether the pictures have about as many pixels as the page shows, so that they need no squares.
    reduced
        One pixel of a large picture stands for `reduced` x `reduced` pixels; 1 for others.
    doubt
        What speaks against the evidence; "" if nothing does.
    address
        The address of the case in the case browser.
    """

    case: CaseRow
    before: str
    after: str
    original: Shot
    adversarial: Shot
    difference: Shot
    gain: str
    scale: Shot
    reach: int
    change: str
    smooth: bool
    reduced: int
    doubt: str
    address: str


def triptychs(
    run: ReadableRun, cases: tuple[CaseRow, ...], names: tuple[str, ...], norm: str
) -> tuple[Triptych, ...]:
    """Return the cases whose pictures can be shown, as triptychs."""
    laid_out = (_triptych(run, case, names, norm) for case in cases)
    return tuple(one for one in laid_out if one is not None)


def _triptych(
    run: ReadableRun, case: CaseRow, names: tuple[str, ...], norm: str
) -> Triptych | None:
    if case.original is None or case.png is None:
        return None
    try:
        original, flip = read_picture(run, case.original), read_picture(run, case.png)
        change = metrics.delta(original, flip)
    except (RunError, OSError, ValueError, SyntaxError):
        return None
    before, after = wording.class_name(names, case.before), wording.class_name(names, case.after)
    factor = pixels.amplification(change)
    reach = max(1, int(np.abs(change).max(initial=0)))
    small, reduced = pixels.thumbnail(original, _MOST)
    scale = pixels.difference_scale(reach, factor, original.shape[-1])
    return Triptych(
        case=case,
        before=before,
        after=after,
        original=enlarged(small, f"The original, classified as {before}", _SHOWN),
        adversarial=enlarged(
            pixels.thumbnail(flip, _MOST)[0],
            f"The adversarial picture, classified as {after}",
            _SHOWN,
        ),
        difference=enlarged(
            pixels.amplified(pixels.strongest(change, reduced), factor),
            f"The difference, multiplied by {factor:g} around middle grey",
            _SHOWN,
        ),
        gain=f"{factor:g}",
        scale=Shot(
            pixels.data_uri(scale),
            scale.shape[1],
            scale.shape[0],
            f"Colours of the difference, from −{reach} to +{reach} counts",
        ),
        reach=reach,
        change=_change(case, original, flip, norm),
        smooth=max(small.shape[:2]) > _SHOWN // 2,
        reduced=reduced,
        doubt=doubt(run, case, original, flip),
        address=f"#name={quote(wording.visible(case.name))}",
    )


def _change(case: CaseRow, original: np.ndarray, flip: np.ndarray, norm: str) -> str:
    """The size of the change in the norm of the run; in a threat without a known norm the epsilon."""
    measure = NORMS.get(norm)
    if measure is None:
        return f"within epsilon {wording.budget(norm, case.epsilon)}"
    size = wording.number(measure.distance(original, flip))
    return f"{measure.measure} {size}{' of 255' if norm == 'linf' else ''}"
