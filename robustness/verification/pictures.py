"""The pictures of a run against what its rows say of them: bytes, distances, budgets. No model is asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustness.errors import RunError
from robustness.images.png import open_png
from robustness.runs.records import ImageRow
from robustness.runs.store import Run
from robustness.threat.norms import NORMS, Norm, has_own_column, parse
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
    """How many flips' pictures were looked at (at most `most`), and what is wrong with them.

    The half of verification that needs no model: hashes, shapes, distances and budgets.
    """
    claims = RunContents.of(run)
    pictures, looked = Pictures(run, claims.shape), 0
    faults: list[Inconsistency] = []
    for image in claims.images.values():
        kept = claims.pictured(image.key)
        if kept and (most is None or looked < most):
            faults += original(image, pictures)
            for row in kept:
                faults += flip(claims, image, row, pictures)
            looked += len(kept)
            pictures.forget()
    return looked, faults


class Pictures:
    """Pictures of a run by name, read once until `forget`, and what is wrong with each file."""

    def __init__(self, run: Run, shape: tuple[int, ...]) -> None:
        self._run, self._shape = run, shape
        self._kept: dict[str, tuple[np.ndarray | None, str]] = {}

    def pixels(self, name: str | None) -> np.ndarray | None:
        """uint8 (height, width, channels); None if there is none or it cannot be read."""
        return None if name is None else self._look(name)[0]

    def fault(self, name: str) -> str:
        """What is wrong with the file; "" if nothing is."""
        return self._look(name)[1]

    def forget(self) -> None:
        """Let the pictures go."""
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
        said = "has other bytes than those it is named for" if altered else ""
        try:
            return _decoded(data, self._shape), said
        except (OSError, ValueError, SyntaxError) as error:
            return None, f"{said + ', and ' if said else ''}cannot be read as a picture ({error})"


def _decoded(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels, if the header says the right size: a bomb is never unpacked."""
    with open_png(data) as picture:
        found = (picture.height, picture.width, _CHANNELS.get(picture.mode, 0))
        if found != tuple(shape):
            raise ValueError(f"its shape is {found}, expected {tuple(shape)}")
        pixels = np.asarray(picture)
    return pixels.reshape(shape)


def measured(before: np.ndarray, after: np.ndarray, norm: Norm | None = None) -> dict[str, float]:
    """Measure two uint8 pictures (height, width, channels) again, by another computation than the judge's.

    Parameters
    ----------
    before, after
        The original and the flip.
    norm
        That of the run, where it has a column of its own.

    Returns
    -------
    The distance by column, in the unit of its norm; `components` counts the changed components.
    """
    again = {known.column: known.recount(before, after) for known in NORMS.values()}
    again["components"] = float(np.count_nonzero(after.astype(np.float64) - before))
    if norm is not None and has_own_column(norm):
        again[norm.column] = norm.recount(before, after)
    return dict(sorted(again.items()))


def original(image: ImageRow, pictures: Pictures) -> Iterator[Inconsistency]:
    """What is wrong with the file of an image unchanged."""
    if image.png is None:
        return
    if wrong := pictures.fault(image.png):
        yield fault(FILE, f"The original's file {wrong}.", image, file=image.png)
    pixels = pictures.pixels(image.png)
    if pixels is not None and hashlib.sha256(pixels.tobytes()).hexdigest() != image.digest:
        yield fault(
            FILE,
            "The original's picture is not the one that was audited: its pixels have another "
            "hash than the row says.",
            image,
            file=image.png,
        )


def flip(
    claims: RunContents,
    image: ImageRow,
    row: Mapping[str, Any],
    pictures: Pictures,
) -> Iterator[Inconsistency]:
    """What is wrong with the file of a flip: bytes, distances, budget."""
    name = row["png"]
    if wrong := pictures.fault(name):
        yield fault(FILE, f"The flip's file {wrong}.", image, row, file=name)
    before, after = pictures.pixels(image.png), pictures.pixels(name)
    if before is None or after is None:
        if after is not None:
            said = "The original's picture is not there, so no distance can be measured."
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
    yield from over_budget(claims, image, row, norm.recount(before, after), name)
    yield from outside(claims, image, row, pictures, before, after)


def step(
    claims: RunContents,
    image: ImageRow,
    row: Mapping[str, Any],
    pictures: Pictures,
) -> Iterator[Inconsistency]:
    """What is wrong with the file of a step on the way to a flip."""
    name = row["png"]
    if wrong := pictures.fault(name):
        yield fault(FILE, f"The file of step {row['step']} {wrong}.", image, row, file=name)
    before, after = pictures.pixels(image.png), pictures.pixels(name)
    if before is not None and after is not None:
        far = parse(claims.norm).recount(before, after)
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
    """Whether pixels changed that the mask holds fast."""
    if claims.mask is None:
        return
    mask = pictures.pixels(claims.mask)
    if mask is None or pictures.fault(claims.mask):
        said = "The mask's picture is not there, so nobody can tell which pixels were free."
        yield fault(FILE, said, image, row, file=claims.mask)
        return
    stray = int(((before != after).any(axis=-1) & ~(mask > 0).any(axis=-1)).sum())
    if stray:
        said = f"{stray} pixels changed that the mask holds fast."
        yield fault(BUDGET, said, image, row, file=row["png"])


def over_budget(
    claims: RunContents, image: ImageRow, row: Mapping[str, Any], far: float, name: str
) -> Iterator[Inconsistency]:
    """Whether a picture `far` from its original is outside its budget."""
    # The little more is the rounding of a square root.
    if far > row["epsilon"] * (1 + 1e-9):
        yield fault(
            BUDGET,
            f"The picture is {far:.10g} away from its original in {claims.norm}; the budget is "
            f"{row['epsilon']:g}.",
            image,
            row,
            file=name,
        )
