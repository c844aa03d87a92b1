"""Makes D29: whether the deployed resize reads the whole picture, or lets an attacker choose few pixels."""

from __future__ import annotations

from robustness.diagnostics import Diagnosis, ok, skipped, warn
from robustness.diagnostics.stored_run import StoredRun
from robustness.runs.schema import PixelsReadEntry

LEAST = 0.5
"""The smallest share of the pixels that a resize may read of the median picture."""
_REMEDY = (
    "Resize with antialiasing or by area (antialias=True, Pillow's box or bilinear, OpenCV's INTER_AREA), and "
    "train with the same."
)


def reads_whole_picture(record: StoredRun) -> Diagnosis:
    """Make D29: warn if the resize reads less than half of the median picture's pixels.

    Pixels outside a crop do not count: no resize reads them, and an attacker gains nothing from them.
    """
    found = record.manifest.pixels_read
    deployment = record.manifest.config.deployment
    if deployment is None or not deployment.at_full_size:
        return skipped("D29", "Images of the model's own size were attacked, after any resize.")
    if found is None:
        return skipped("D29", "The run did not record which pixels its pipeline reads.")
    evidence = {
        "size": _size(found.height, found.width),
        "pictures": f"{found.pictures} of {found.total}",
        "share": found.share,
        "share_within_crop": found.share_of_window,
        "median_size": _size(*found.median),
        "median_share": found.median_share,
        "median_share_within_crop": found.median_share_of_window,
        "pipeline": found.convention,
    }
    said = f"{_subject(found)} of a picture of {_size(*found.median)} pixels"
    unread = 1 - found.median_share_of_window
    if found.median_share_of_window < LEAST:
        return warn(
            "D29",
            f"The resize ignores {_percent(unread)} of the picture: {said}, it reads "
            f"{_percent(found.median_share)} of the pixels, and these alone decide what the model sees "
            "(image-scaling attacks: Xiao et al. 2019, Quiring et al. 2020, Gao et al. 2022). " + _REMEDY,
            **evidence,
        )
    cropped = found.median_share < found.median_share_of_window - 0.005
    rest = "; the others are mostly cut off by the crop" if cropped else ""
    return ok("D29", f"{said}, it reads {_percent(found.median_share)} of the pixels{rest}.", **evidence)


def _subject(found: PixelsReadEntry) -> str:
    name = found.convention or "the pipeline"
    return f"as far as {name}, which stands in for the own function, tells," if found.stands_in else name


def _size(height: int, width: int) -> str:
    return f"{width} x {height}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
