"""Checks the pictures of a run against its rows: hashes, distances, budgets and mask. Needs no model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustness.errors import RunError
from robustness.images.entries import Shape
from robustness.images.png import open_png
from robustness.runs.records import ImageRow
from robustness.runs.store import Run
from robustness.threat.norms import NORMS, Norm, has_own_column, parse
from robustness.threat.norms.measuring import distance
from robustness.verification.rows import (
    BUDGET,
    DISTANCE,
    FILE,
    Inconsistency,
    RunContents,
    fault,
    said_of,
)

_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def broken_files(run: Run, most: int | None = None) -> tuple[int, list[Inconsistency]]:
    """Check the pictures of flips without the model: hashes, shapes, distances and budgets.

    Parameters
    ----------
    run : Run
        The run, open for reading.
    most : int, optional
        The most flips to check; None checks all.

    Returns
    -------
    checked : int
        The number of flips whose pictures were checked.
    faults : list of Inconsistency
        The faults of these pictures and of their originals.

    Raises
    ------
    RunError
        The manifest or the database is damaged.
    """
    claims = RunContents.of(run)
    pictures, looked = Pictures(run, claims.picture_shape), 0
    faults: list[Inconsistency] = []
    for image in claims.images.values():
        left = None if most is None else max(0, most - looked)
        if kept := claims.pictured(image.key)[:left]:
            faults += original(image, pictures)
            for row in kept:
                faults += flip(claims, image, row, pictures)
            looked += len(kept)
            pictures.forget()
    return looked, faults


class Pictures:
    """The decoded pictures of a run, and the faults of their files; each is read once until `forget`."""

    def __init__(self, run: Run, shape: Shape) -> None:
        self._run, self._shape = run, shape
        self._kept: dict[str, tuple[np.ndarray | None, str]] = {}

    def pixels(self, name: str | None) -> np.ndarray | None:
        """Return the picture as uint8 (height, width, channels); None if it is missing or unreadable."""
        return None if name is None else self._look(name)[0]

    def fault(self, name: str) -> str:
        """Return the fault of a file as the end of a sentence; "" if there is none."""
        return self._look(name)[1]

    def forget(self) -> None:
        """Release the memory of all pictures."""
        self._kept.clear()

    def _look(self, name: str) -> tuple[np.ndarray | None, str]:
        if name not in self._kept:
            self._kept[name] = self._read(name)
        return self._kept[name]

    def _read(self, name: str) -> tuple[np.ndarray | None, str]:
        try:
            data = self._run.png(name)
        except RunError:
            return None, "is missing"
        altered = hashlib.sha256(data).hexdigest() != Path(name).stem
        said = "has bytes whose hash is not the one in its name" if altered else ""
        try:
            return _decoded(data, self._shape), said
        except (OSError, ValueError, SyntaxError) as error:
            return None, f"{said + ', and ' if said else ''}cannot be read as a picture ({error})"


def _decoded(data: bytes, shape: Shape) -> np.ndarray:
    """The pixels. Checks the size in the header first, so that a decompression bomb is never unpacked."""
    with open_png(data) as picture:
        found = (picture.height, picture.width, _CHANNELS.get(picture.mode, 0))
        wanted = tuple(
            there if side is None else side for side, there in zip(shape, found, strict=True)
        )
        if found != wanted:
            raise ValueError(f"its shape is {found}, expected {wanted}")
        pixels = np.asarray(picture)
    return pixels.reshape(found)


def measured(before: np.ndarray, after: np.ndarray, norm: Norm | None = None) -> dict[str, float]:
    """Measure the distances of two pictures, with other code than the judge's.

    Parameters
    ----------
    before, after : np.ndarray
        The original and the flip, uint8 (height, width, channels).
    norm : Norm, optional
        The norm of the run; measured too if it has a column of its own.

    Returns
    -------
    dict of str to float
        The distance by column, in the unit of its norm; `components` is the number of changed components.
    """
    again = {known.column: known.recount(before, after) for known in NORMS.values()}
    again["components"] = float(np.count_nonzero(after.astype(np.float64) - before))
    if norm is not None and has_own_column(norm):
        again[norm.column] = distance(norm, before, after, "recount")
    return dict(sorted(again.items()))


def original(image: ImageRow, pictures: Pictures) -> Iterator[Inconsistency]:
    """Yield the faults of the original's file: its hash, and the hash of its pixels."""
    if image.png is None:
        return
    if wrong := pictures.fault(image.png):
        yield fault(FILE, f"The original's file {wrong}.", image, file=image.png)
    pixels = pictures.pixels(image.png)
    if pixels is not None and hashlib.sha256(pixels.tobytes()).hexdigest() != image.digest:
        yield fault(
            FILE,
            "The original's picture is not the one that was audited: the hash of its pixels differs "
            "from the one in the row.",
            image,
            file=image.png,
        )


def flip(
    claims: RunContents,
    image: ImageRow,
    row: Mapping[str, Any],
    pictures: Pictures,
) -> Iterator[Inconsistency]:
    """Yield the faults of a flip's file: its hash, its distances, and pixels outside budget or mask."""
    name = row["png"]
    if wrong := pictures.fault(name):
        yield fault(FILE, f"The flip's file {wrong}.", image, row, file=name)
    before, after = pictures.pixels(image.png), pictures.pixels(name)
    if before is None or after is None:
        if after is not None:
            said = (
                "The original's picture is missing or unreadable, so no distance can be measured."
            )
            yield fault(DISTANCE, said, image, row, file=name)
        return
    if before.shape != after.shape:
        said = f"The flip's picture has the shape {after.shape}, its original {before.shape}."
        yield fault(DISTANCE, said, image, row, file=name)
        return
    norm = parse(claims.norm)
    far = measured(before, after, norm)
    differing = [
        f"{column} is {distance:.10g}, the row says {said_of(row.get(column))}"
        for column, distance in far.items()
        if row.get(column) is None or not math.isclose(distance, row[column], rel_tol=1e-9)
    ]
    if differing:
        said = f"Measured again, {'; '.join(differing)}."
        yield fault(DISTANCE, said, image, row, file=name)
    yield from over_budget(claims, image, row, distance(norm, before, after, "recount"), name)
    yield from outside(claims, image, row, pictures, before, after)


def step(
    claims: RunContents,
    image: ImageRow,
    row: Mapping[str, Any],
    pictures: Pictures,
) -> Iterator[Inconsistency]:
    """Yield the faults of the file of a step: its hash, and pixels outside budget or mask."""
    name = row["png"]
    if wrong := pictures.fault(name):
        yield fault(FILE, f"The file of step {row['step']} {wrong}.", image, row, file=name)
    before, after = pictures.pixels(image.png), pictures.pixels(name)
    if before is not None and after is not None and before.shape == after.shape:
        far = distance(parse(claims.norm), before, after, "recount")
        yield from over_budget(claims, image, row, far, name)
        yield from outside(claims, image, row, pictures, before, after)


def outside(
    claims: RunContents,
    image: ImageRow,
    row: Mapping[str, Any],
    pictures: Pictures,
    before: np.ndarray,
    after: np.ndarray,
) -> Iterator[Inconsistency]:
    """Yield a fault if pixels changed outside the mask."""
    if claims.mask is None:
        return
    mask = pictures.pixels(claims.mask)
    if mask is None or pictures.fault(claims.mask):
        said = (
            "The mask's picture is missing or damaged, so the pixels that may change are unknown."
        )
        yield fault(FILE, said, image, row, file=claims.mask)
        return
    stray = int(((before != after).any(axis=-1) & ~(mask > 0).any(axis=-1)).sum())
    if stray:
        said = f"{stray} pixels changed that the mask does not allow to change."
        yield fault(BUDGET, said, image, row, file=row["png"])


def over_budget(
    claims: RunContents, image: ImageRow, row: Mapping[str, Any], far: float, name: str
) -> Iterator[Inconsistency]:
    """Yield a fault if the distance `far` of a picture from its original exceeds its budget."""
    # The tolerance is for the rounding of a square root.
    if far > row["epsilon"] * (1 + 1e-9):
        yield fault(
            BUDGET,
            f"The picture is {far:.10g} away from its original in {claims.norm}; the budget is "
            f"{row['epsilon']:g}.",
            image,
            row,
            file=name,
        )
