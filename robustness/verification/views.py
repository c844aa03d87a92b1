"""Checks the pictures of what the model sees: their hashes, and that the recorded pipeline gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustness.errors import PipelineError, RunError
from robustness.images.png import from_png
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.views import view
from robustness.runs.records import ImageRow
from robustness.runs.store import Run
from robustness.verification.pictures import Pictures
from robustness.verification.rows import FILE, Inconsistency, RunContents, fault

SIDES = ("before", "after")
"""The columns of the pictures: of the original, and of the flip."""
_ROUNDING = 1
"""The counts by which another version of a library may round differently."""


def viewed(
    run: Run,
    claims: RunContents,
    image: ImageRow,
    row: Mapping[str, Any],
    pictures: Pictures,
    deployment: object,
) -> Iterator[Inconsistency]:
    """Yield the faults of the two pictures of what the model sees of an image and of its flip.

    Parameters
    ----------
    run, claims : the run and its content.
    image, row : the image, and the row of the views.
    pictures : the original and the flip before it was encoded.
    deployment : the pipeline of the run. Images of the user's own function are model inputs, which are not
        compared with pictures.
    """
    flips = {(one["attack"], one["epsilon"]): one["png"] for one in claims.pictured(image.key)}
    sources = (image.png, flips.get((row["attack"], row["epsilon"])))
    for side, source in zip(SIDES, sources, strict=True):
        name = str(row[side])
        what = f"The picture of what the model sees of the {'original' if side == 'before' else 'flip'}"
        try:
            data = run.png(name)
            seen = from_png(data)
        except (RunError, OSError, ValueError, SyntaxError):
            yield fault(FILE, f"{what} is missing or cannot be read.", image, row, file=name)
            continue
        if hashlib.sha256(data).hexdigest() != Path(name).stem:
            said = f"{what} has bytes whose hash is not the one in its name."
            yield fault(FILE, said, image, row, file=name)
            continue
        pixels = pictures.pixels(source)
        if pixels is None or not isinstance(deployment, Deployment):
            continue
        try:
            again = view(deployment, pixels)
        except PipelineError:
            continue
        if again.shape != seen.shape or _apart(again, seen) > _ROUNDING:
            said = f"{what} is not what the pipeline of the run makes of its picture."
            yield fault(FILE, said, image, row, file=name)


def _apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(np.int16) - other.astype(np.int16)).max(initial=0))
