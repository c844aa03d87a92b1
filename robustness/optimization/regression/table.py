"""Checks, measures and condenses the rows of a regression in chunks, to limit memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.errors import SettingError

CHUNK = 8192
"""The number of rows that are converted to float64 at a time."""


@dataclass(frozen=True)
class Table:
    """Features (rows, columns), targets (rows,) and weights (rows,), with their weighted moments.

    Parameters
    ----------
    x : array_like, shape (rows, columns)
        Anything with a shape and slices, such as a memory map; it is converted chunk by chunk.
    y, weights : numpy.ndarray, shape (rows,)
        Targets and weights, float64.
    names : tuple of str
        The names of the columns.
    centre, spread : numpy.ndarray, shape (columns + 1,)
        The weighted means and standard deviations of the columns and of the target, which is last.
    """

    x: Any
    y: np.ndarray
    weights: np.ndarray
    names: tuple[str, ...]
    centre: np.ndarray
    spread: np.ndarray

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.y)

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(np.sum(self.weights))

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (x, y, weights) in chunks, float64."""
        for begin in range(0, self.rows, CHUNK):
            piece = slice(begin, begin + CHUNK)
            yield np.asarray(self.x[piece], "float64"), self.y[piece], self.weights[piece]

    def standardized(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (z, y, weights) in chunks; z: features with mean 0 and deviation 1, and a column of ones."""
        for x, y, mass in self.chunks():
            z = np.ones((len(y), len(self.names) + 1))
            features = z[:, :-1]
            np.divide(
                np.subtract(x, self.centre[:-1], out=features), self.spread[:-1], out=features
            )
            yield z, y, mass


def read_table(
    x: Any,
    y: Any,
    weights: Any = None,
    names: Sequence[str] | None = None,
    *,
    ridge: float = 0.0,
    spare: int = 1,
) -> Table:
    """Check the rows of a regression and measure their moments.

    Parameters
    ----------
    x : array_like, shape (rows, features) or (rows,)
        The features.
    y : array_like, shape (rows,)
        The targets.
    weights : array_like, shape (rows,), optional
        At least 0, not all 0; None weighs all rows equally.
    names : sequence of str, optional
        The names of the features; by default x1, x2, ...
    ridge : float
        At least 0. Above 0, two rows are enough.
    spare : int
        The number of rows needed beyond the number of parameters, without a ridge.

    Raises
    ------
    SettingError
        The ridge is out of range, shapes differ, rows are too few, a number is missing, or a feature is
        constant.
    """
    if not (math.isfinite(ridge) and ridge >= 0):
        raise SettingError(f"ridge={ridge:g}; expected a number of at least 0.")
    x = x if hasattr(x, "shape") and hasattr(x, "__getitem__") and len(x.shape) == 2 else _flat(x)
    target = np.asarray(y, "float64").ravel()
    rows, columns = x.shape
    if len(target) != rows:
        raise SettingError(
            f"{rows} rows of features and {len(target)} targets; expected one target per row."
        )
    least = columns + 1 + spare if ridge == 0 else 2
    if rows < least:
        raise SettingError(
            f"{rows} rows for {columns + 1} parameters; expected at least {least} "
            "rows. Give more rows, fewer features, or a ridge."
        )
    mass = np.ones(rows) if weights is None else np.asarray(weights, "float64").ravel()
    if mass.shape != target.shape or not np.all(mass >= 0) or not 0 < np.sum(mass) < np.inf:
        raise SettingError(
            "The weights are invalid; expected one finite number of at least 0 per row, not all 0."
        )
    labels = tuple(names) if names is not None else tuple(f"x{i + 1}" for i in range(columns))
    if len(labels) != columns:
        raise SettingError(
            f"{len(labels)} names for {columns} features; expected one name per feature."
        )
    empty = Table(x, target, mass, labels, np.zeros(columns + 1), np.ones(columns + 1))
    return _measured(empty)


def _flat(x: Any) -> np.ndarray:
    array = np.asarray(x)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.shape[1]:
        raise SettingError(f"Features of shape {array.shape}; expected (rows, features).")
    return array


def _measured(table: Table) -> Table:
    """The same table with its moments; SettingError for missing numbers and constant columns."""
    names = (*table.names, "the target")
    width, begin = len(names), 0
    shift = np.append(np.asarray(table.x[0], "float64"), table.y[0])
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    first, second = np.zeros(width), np.zeros(width)
    for x, y, mass in table.chunks():
        both = np.column_stack([x, y])
        if not np.all(np.isfinite(both)):
            row, column = np.argwhere(~np.isfinite(both))[0]
            raise SettingError(
                f"{names[column]} is {both[row, column]} in row {begin + row}; expected finite "
                "numbers. Drop the rows with missing values first."
            )
        low, high = np.minimum(low, both.min(axis=0)), np.maximum(high, both.max(axis=0))
        moved = both - shift
        first = first + mass @ moved
        second = second + mass @ (moved * moved)
        begin += len(y)
    constant = [name for name, a, b in zip(table.names, low[:-1], high[:-1], strict=True) if a == b]
    if constant:
        raise SettingError(
            f"{', '.join(constant)} never changes, so its coefficient cannot be distinguished from the "
            "intercept; drop the column."
        )
    mean = first / table.total
    deviation = np.sqrt(np.maximum(second / table.total - mean * mean, 0.0))
    deviation = np.where(deviation > 0, deviation, 1.0)
    return Table(table.x, table.y, table.weights, table.names, shift + mean, deviation)


_STEEP = 1e3
"""The condition number up to which sums of products are accurate to nine digits; see `triangle`."""


def triangle(table: Table) -> np.ndarray:
    """Return the triangular factor (columns + 2, columns + 2) of the standardised rows.

    Its columns are the features, the ones, and the target: ``|features b - target|`` is the same for the
    triangle as for all rows.

    Notes
    -----
    It is the Cholesky factor of the sums of products, which squares the condition number. Where that would
    lose digits (nearly dependent columns, a nearly perfect fit, too few rows), it is the QR factor of one
    chunk after another, each stacked under the factor so far.
    """
    width = len(table.names) + 2
    products = np.zeros((width, width))
    for piece in _weighted(table):
        products += piece.T @ piece
    try:
        factor = np.linalg.cholesky(products).T
    except np.linalg.LinAlgError:
        factor = np.zeros((width, width))
    return factor if np.linalg.cond(factor) < _STEEP else _reflected(table)


def _weighted(table: Table) -> Iterator[np.ndarray]:
    """Yield standardised features, ones and target in chunks, times the root of the weight."""
    for z, y, mass in table.standardized():
        target = (y - table.centre[-1]) / table.spread[-1]
        yield np.column_stack([z, target]) * np.sqrt(mass)[:, None]


def _reflected(table: Table) -> np.ndarray:
    width = len(table.names) + 2
    factor = np.zeros((0, width))
    for piece in _weighted(table):
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, piece]), mode="r"))
    full = np.zeros((width, width))
    full[: len(factor)] = factor
    return full
