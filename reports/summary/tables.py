"""The tables of a run as the metrics need them: all columns present, numbers as float64."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pandas as pd

from robustness.runs.schema import Manifest
from robustness.threat.norms import NORMS, described, has_own_column

_COLUMNS = sorted(norm.column for norm in NORMS.values())
DISTANCES = (_COLUMNS[0], "components", *_COLUMNS[1:])
"""The columns of distances that every run has: l0, the changed components, l1, l2, linf."""
_TEXT = {
    "images": ("key", "name", "note", "reason", "png", "digest"),
    "outcomes": ("image", "attack", "status", "reason", "png"),
    "strips": ("image", "attack", "png", "probabilities"),
    "uploads": ("image", "attack", "file"),
}
_NUMBERS = {
    "images": ("position", "label", "clean_class", "confidence"),
    "outcomes": (
        *("epsilon", "adversarial_class", "confidence_before", "confidence_after"),
        *DISTANCES,
        *("step", "restart", "forward", "backward", "float_flip"),
    ),
    "strips": ("epsilon", "step"),
    "uploads": ("epsilon", "linf", "l2"),
}


class ReadableRun(Protocol):
    """What a report reads from a run; `robustness.runs.store.Run` provides it."""

    path: Path

    @property
    def manifest(self) -> Manifest:
        """The content of `run.json`."""

    def images(self) -> pd.DataFrame:
        """One row per image."""

    def outcomes(self) -> pd.DataFrame:
        """One row per image x attack x epsilon."""

    def strips(self) -> pd.DataFrame:
        """One row per step of the flips whose steps were kept."""

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each picture that is attacked at its own size, by the image's key."""

    def uploads(self) -> pd.DataFrame:
        """One row per uploaded file in a lossy format."""

    def views(self) -> pd.DataFrame:
        """One row per flip whose model images were kept."""

    def png(self, name: str) -> bytes:
        """The bytes of a picture of the run."""


class ReadOnce:
    """A run of which each table is read once: reading and checking takes longer than most uses of it.

    Parameters
    ----------
    run
        The opened run.
    """

    def __init__(self, run: ReadableRun) -> None:
        self._run, self.path = run, run.path

    @property
    def manifest(self) -> Manifest:
        """The content of `run.json`."""
        return self._run.manifest

    @cached_property
    def _images(self) -> pd.DataFrame:
        return self._run.images()

    @cached_property
    def _outcomes(self) -> pd.DataFrame:
        return self._run.outcomes()

    @cached_property
    def _strips(self) -> pd.DataFrame:
        return self._run.strips()

    def images(self) -> pd.DataFrame:
        """One row per image."""
        return self._images

    def outcomes(self) -> pd.DataFrame:
        """One row per image x attack x epsilon."""
        return self._outcomes

    def strips(self) -> pd.DataFrame:
        """One row per step of the flips whose steps were kept."""
        return self._strips

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each picture that is attacked at its own size, by the image's key."""
        return self._run.sizes()

    def uploads(self) -> pd.DataFrame:
        """One row per uploaded file in a lossy format."""
        return self._run.uploads()

    def views(self) -> pd.DataFrame:
        """One row per flip whose model images were kept."""
        return self._run.views()

    def png(self, name: str) -> bytes:
        """The bytes of a picture of the run."""
        return self._run.png(name)


def known(value: float | None) -> float | None:
    """Return a number of a table; None if it is missing."""
    return None if value is None or math.isnan(value) else float(value)


def whole(value: float | None) -> int | None:
    """Return a whole number of a table; None if it is missing."""
    return None if value is None or math.isnan(value) else int(value)


def distance_columns(norm: str) -> tuple[str, ...]:
    """Return the columns of distances in a run under `norm`: its own last, if not one of `DISTANCES`."""
    known = described(norm)
    return (*DISTANCES, known.column) if has_own_column(known) else DISTANCES


def complete(frame: pd.DataFrame, table: str, norm: str = "") -> pd.DataFrame:
    """Return `frame` with all columns of `table`: absent ones hold missing values, numbers are float64.

    A run of another version may lack a column; the report then says less, but does not fail. Outcomes get
    a column for the distances in `norm`, that of the run.
    """
    own = [name for name in distance_columns(norm) if name not in DISTANCES]
    text = {name: _column(frame, name).astype("object") for name in _TEXT[table]}
    text = {name: column.where(column.notna(), None) for name, column in text.items()}
    numbers = {
        name: pd.to_numeric(_column(frame, name), errors="coerce").astype("float64")
        for name in (*_NUMBERS[table], *(own if table == "outcomes" else []))
    }
    return pd.DataFrame({**text, **numbers})


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame else pd.Series([None] * len(frame), index=frame.index)
