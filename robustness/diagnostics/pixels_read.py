"""Makes D29: whether the deployed resize reads the whole picture, or lets an attacker choose few pixels."""

from __future__ import annotations

from robustness.diagnostics import Diagnosis, ok, skipped, warn
from robustness.diagnostics.stored_run import StoredRun
from robustness.runs.deployed_schema import PixelsReadEntry

LEAST = 0.5
"""The smallest share of the pixels that a resize may read of the median picture."""
_CUT = 0.005
"""The smallest share of a picture outside the crop that is mentioned."""


def reads_whole_picture(record: StoredRun) -> Diagnosis:
    """Make D29: warn if the resize reads less than half of the median picture's pixels.

    Pixels outside a crop do not count: no resize reads them, and an attacker gains nothing from them.
    """
    read, deployment = record.manifest.pixels_read, record.manifest.config.deployment
    if deployment is None or not deployment.at_full_size:
        return skipped("D29", "Images of the model's own size were attacked, after any resize.")
    if read is None:
        return skipped("D29", "The run did not record which pixels its pipeline reads.")
    evidence = {
        "size": _size(read.height, read.width),
        "pictures": f"{read.pictures} of {read.total}",
        "share": read.share,
        "share_within_crop": read.share_of_window,
        "median_size": _size(*_median(read)),
        "median_share": read.median_share,
        "median_share_within_crop": read.median_share_of_window,
        "pipeline": read.convention,
    }
    cut = read.median_share < read.median_share_of_window - _CUT
    if read.median_share_of_window < LEAST:
        of = "what the crop keeps" if cut else "the picture"
        return warn(
            "D29",
            f"The resize ignores {_percent(1 - read.median_share_of_window)} of {of}: {_reading(read)}, and "
            "these alone decide what the model sees (image-scaling attacks: Xiao et al. 2019, Quiring et al. "
            "2020, Gao et al. 2022). Resize with antialiasing or by area, in training too.",
            **evidence,
        )
    rest = "; the crop cuts off most of the others" if cut else ""
    return ok("D29", f"{_reading(read)}{rest}.", **evidence)


def _reading(read: PixelsReadEntry) -> str:
    name = read.convention or "The pipeline"
    if read.stands_in:
        name = f"{name}, which stands in for the own function,"
    return f"{name} reads {_percent(read.median_share)} of the pixels of a {_size(*_median(read))} picture"


def _median(read: PixelsReadEntry) -> tuple[int, ...]:
    """Height and width of the median picture; runs without it have the most frequent size."""
    return read.median or (read.height, read.width)


def _size(height: int, width: int) -> str:
    return f"{width} × {height}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
