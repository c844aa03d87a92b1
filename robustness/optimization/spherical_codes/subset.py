"""Selects the most spread rows of a given set of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from robustness.errors import SettingError
from robustness.optimization.spherical_codes.energies import directions


def choose(rows: Any, count: int) -> np.ndarray:
    """Return the indices of the rows whose directions are most spread, ascending, (count,).

    Parameters
    ----------
    rows : array_like, shape (rows, dim)
        Finite vectors that are not zero.
    count : int
        The number of rows to select.

    Raises
    ------
    SettingError
        The rows are invalid, or `count` is not between 1 and their number.

    Notes
    -----
    Farthest-point selection from every row (from 64 of them if there are more), then exchanges of one
    selected row for another as long as that widens the smallest angle.
    """
    x = directions(rows, "rows")
    if not 1 <= count <= len(x):
        raise SettingError(f"count={count}; expected 1 .. {len(x)}, the number of rows.")
    first = np.unique(np.linspace(0, len(x) - 1, min(len(x), 64)).astype(int))
    best = min((_farthest(x, int(i), count) for i in first), key=lambda c: _closest(x[c]))
    return np.sort(_exchange(x, best))


def closest(rows: Any, chosen: np.ndarray) -> float:
    """Return the largest cosine between two rows of the selection `chosen`; -1 for a single one."""
    return _closest(directions(rows, "rows")[chosen])


def _closest(x: np.ndarray) -> float:
    """The largest cosine between two rows; -1 for a single one."""
    cosines = x @ x.T
    np.fill_diagonal(cosines, -1.0)
    return float(np.max(cosines))


def _farthest(x: np.ndarray, first: int, count: int) -> np.ndarray:
    chosen, nearest = [first], x @ x[first]
    while len(chosen) < count:
        nearest[chosen] = np.inf
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, x @ x[chosen[-1]])
    return np.array(chosen)


def _exchange(x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Replace one row of the closest pair by the row that helps most, until none helps."""
    chosen = chosen.copy()
    while len(chosen) > 1:
        cosines = x[chosen] @ x[chosen].T
        np.fill_diagonal(cosines, -1.0)
        worst = float(np.max(cosines))
        options = []
        for place in np.unravel_index(int(np.argmax(cosines)), cosines.shape):
            rest = np.delete(chosen, place)
            reach = np.max(x @ x[rest].T, axis=1)
            reach[chosen] = np.inf
            row = int(np.argmin(reach))
            inner = _closest(x[rest]) if len(rest) > 1 else -1.0
            options.append((max(float(reach[row]), inner), int(place), row))
        value, at, row = min(options)
        if value >= worst - 1e-12:
            break
        chosen[at] = row
    return chosen
