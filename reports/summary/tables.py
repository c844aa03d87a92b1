"""A run's tables in the form the metrics take: every column there, numbers as numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import pandas as pd

from robustness.runs.schema import Manifest

_TEXT = {
    "images": ("key", "name", "note", "reason", "png", "digest"),
    "outcomes": ("image", "attack", "status", "reason", "png"),
    "strips": ("image", "attack", "png", "probabilities"),
}
_NUMBERS = {
    "images": ("position", "label", "clean_class", "confidence"),
    "outcomes": (
        *("epsilon", "adversarial_class", "confidence_before", "confidence_after"),
        *("l0", "components", "l1", "l2", "linf"),
        *("step", "restart", "forward", "backward", "float_flip"),
    ),
    "strips": ("epsilon", "step"),
}


class ReadableRun(Protocol):
    """What a report reads of a run; `robustness.runs.store.Run` is one."""

    path: Path

    @property
    def manifest(self) -> Manifest:
        """The content of `run.json`."""

    def images(self) -> pd.DataFrame:
        """One row per image."""

    def outcomes(self) -> pd.DataFrame:
        """One row per image x attack x epsilon."""

    def strips(self) -> pd.DataFrame:
        """The steps of a few flips."""

    def png(self, name: str) -> bytes:
        """The bytes of a picture of the run."""


def known(value: float | None) -> float | None:
    """A number of a table; None where it is missing."""
    return None if value is None or math.isnan(value) else float(value)


def whole(value: float | None) -> int | None:
    """A whole number of a table; None where it is missing."""
    return None if value is None or math.isnan(value) else int(value)


def complete(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """`frame` with the columns of `table`: absent ones are missing values, numbers are float64.

    A run of another version may lack a column; a report then says less, it does not fail.
    """
    text = {name: _column(frame, name).astype("object") for name in _TEXT[table]}
    text = {name: column.where(column.notna(), None) for name, column in text.items()}
    numbers = {
        name: pd.to_numeric(_column(frame, name), errors="coerce").astype("float64")
        for name in _NUMBERS[table]
    }
    return pd.DataFrame({**text, **numbers})


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame else pd.Series([None] * len(frame), index=frame.index)
