"""Distances of the flips of a run, and the sizes of the pictures that they are of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from robustness.reports.summary import metrics
from robustness.runs.schema import ModelEntry
from robustness.threat.norms import NORMS, Norm, has_own_column


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest of a distance over all flips, in `unit`."""

    name: str
    unit: str
    low: float
    median: float
    high: float


def distances_of(
    flips: pd.DataFrame, model: ModelEntry, norm: Norm, sizes: Mapping[str, tuple[int, int]]
) -> tuple[Range, ...]:
    """Return the ranges of the distances of flips.

    Parameters
    ----------
    flips : table
        The first flip of each image.
    model : ModelEntry
        The audited model.
    norm : Norm
        The norm of the run.
    sizes : mapping
        Height and width of the pictures that are attacked at their own size, by image.
    """
    components = _components(flips["image"], model, sizes)
    noise = [
        metrics.psnr(length, count)
        for length, count in zip(flips["l2"], components, strict=True)
        if count and not math.isnan(length)
    ]
    others = [NORMS[name] for name in sorted(NORMS) if name != "l0"]
    others += [norm] if has_own_column(norm) else []
    columns = [
        (NORMS["l0"].title, NORMS["l0"].unit[1], flips["l0"]),
        ("Changed components (L0)", "components", flips["components"]),
        *((one.title, one.unit[1], flips[one.column]) for one in others),
        ("Peak signal to noise", "dB", pd.Series(noise, dtype="float64")),
    ]
    return tuple(
        Range(name, unit, float(v.min()), float(v.median()), float(v.max()))
        for name, unit, column in columns
        if not (v := column.dropna()).empty
    )


def picture_shape(
    model: ModelEntry, sizes: Mapping[str, tuple[int, int]]
) -> tuple[int, ...] | None:
    """Return the shape of the largest attacked picture; `sizes` as for `distances_of`."""
    shape = model.input_shape
    if not shape or not sizes:
        return tuple(shape) if shape else None
    return (*max(sizes.values(), key=math.prod), shape[-1])


def _components(
    images: pd.Series, model: ModelEntry, sizes: Mapping[str, tuple[int, int]]
) -> list[int]:
    """How many numbers the attacked picture of each image has; 0 where that is not known."""
    shape = model.input_shape
    if not shape:
        return [0] * len(images)
    pictures = {key: math.prod(size) * shape[-1] for key, size in sizes.items()}
    return [pictures.get(key, math.prod(shape)) for key in images]
