"""Checks the cells of a run's tables: the type that the column declares, and bounds on numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pandas as pd

from robustness.errors import RunError
from robustness.text import visible

MOST_ROWS = 20_000_000
"""The most rows of a table."""
WHOLE = 2**53
"""The largest number up to which a float represents every whole number."""
_LARGEST = {"epsilon": 1e9}
_SIGNED = {"label", "clean_class", "adversarial_class"}
_ALLOWED: dict[str, set[type]] = {
    "str": {str, type(None)},
    "int": {int, float, type(None)},
    "float": {int, float, type(None)},
}
_WORDS = {"str": "text", "int": "a whole number", "float": "a number"}


@cache
def _kinds(row: type) -> dict[str, str]:
    return {f.name: str(f.type).partition(" ")[0] for f in dataclasses.fields(row)}


@cache
def _defaults(row: type) -> dict[str, Any]:
    return {
        f.name: None if f.default is dataclasses.MISSING else f.default
        for f in dataclasses.fields(row)
    }


@cache
def _needed(row: type) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(row) if f.default is dataclasses.MISSING)


def expect_cells(
    row: type,
    rows: Sequence[tuple[Any, ...]],
    columns: Sequence[str] = (),
    *,
    before: int = 0,
) -> None:
    """Check the rows of a table against the dataclass of one row.

    Parameters
    ----------
    row : type
        The dataclass; its fields are the columns, in order. A column without a default may not be empty.
    rows : sequence of tuple
        The rows of the table, or the next ones of it.
    columns : sequence of str
        The names of the columns in `rows`; all of them if not given.
    before : int
        How many rows of the table were checked already.

    Raises
    ------
    RunError
        The table has more than `MOST_ROWS` rows; or a cell has the wrong type, is empty though a value is
        required, or is a number out of bounds: the message names the cell, its value, and what was
        expected.
    """
    if before + len(rows) > MOST_ROWS:
        raise RunError(
            f"The table has more than {MOST_ROWS:,} rows; the toolkit never writes that many. The run may "
            "have been tampered with: get a new copy, or audit again."
        )
    needed = _needed(row)
    kinds = _kinds(row)
    wanted = [(name, kinds[name]) for name in columns or kinds]
    for (name, kind), column in zip(wanted, zip(*rows, strict=True), strict=False):
        types = set(map(type, column))
        whole = types <= {int, type(None)}
        if (
            types <= _ALLOWED[kind]
            and not (name in needed and type(None) in types)
            and (kind == "str" or _bounded(name, kind, column, whole=whole))
        ):
            continue
        place = next(n for n, cell in enumerate(column) if not _fits(name, kind, cell, needed))
        raise RunError(
            f"{name} of row {before + place + 1} is {_shown(column[place])}; expected {_expected(name, kind)}"
            ". The run is damaged or was altered: restore it from a copy, or audit again."
        )


def fit(row: type, table: pd.DataFrame) -> bool:
    """Return whether the cells of a table fit for sure, by the types that pandas found in its columns.

    Parameters
    ----------
    row : type
        The dataclass of one row.
    table : pd.DataFrame
        Columns of the table as SQLite returned them.

    Returns
    -------
    bool
        False also for cells that may fit; `expect_cells` decides. It takes many times as long.
    """
    kinds, needed = _kinds(row), _needed(row)
    return all(_column_fits(str(name), kinds, needed, table[name]) for name in table)


def _column_fits(
    name: str, kinds: dict[str, str], needed: frozenset[str], column: pd.Series
) -> bool:
    kind, missing = kinds[name], column.isna()
    if name in needed and missing.any():
        return False
    if missing.all():
        return True
    if kind == "str":
        return isinstance(column.dtype, pd.StringDtype)
    if column.dtype.kind not in "if":
        return False
    low, high = column.min(), column.max()
    # A float may stand for a whole number that is a little too large.
    if not (low >= (-WHOLE + 1 if name in _SIGNED else 0) and high < _LARGEST.get(name, WHOLE)):
        return False
    return kind == "float" or column.dtype.kind == "i" or bool((column.dropna() % 1 == 0).all())


def _bounded(name: str, kind: str, column: Iterable[Any], *, whole: bool) -> bool:
    """Whether all numbers of a column are within bounds; compares the least and the largest."""
    known = [cell for cell in column if cell is not None]
    if not known:
        return True
    low, high = min(known), max(known)
    if not (math.isfinite(low) and math.isfinite(high)) or max(abs(low), abs(high)) > _LARGEST.get(
        name, WHOLE
    ):
        return False
    if low < 0 and name not in _SIGNED:
        return False
    return kind == "float" or whole or all(float(cell).is_integer() for cell in known)


def _fits(name: str, kind: str, cell: Any, needed: frozenset[str]) -> bool:
    if cell is None:
        return name not in needed
    if type(cell) not in _ALLOWED[kind]:
        return False
    return kind == "str" or _bounded(name, kind, [cell], whole=False)


def _expected(name: str, kind: str) -> str:
    if kind == "str":
        return _WORDS[kind]
    least = f"-{WHOLE:,}" if name in _SIGNED else "0"
    return f"{_WORDS[kind]} from {least} to {_LARGEST.get(name, WHOLE):,.0f}"


def _shown(cell: Any) -> str:
    """A cell as an error message shows it, shortened."""
    if cell is None:
        return "empty"
    if isinstance(cell, bytes):
        return f"{len(cell):,} bytes"
    text = repr(cell)
    return visible(text if len(text) <= 60 else text[:57] + "...")


def filled(row: type, values: Sequence[Any]) -> dict[str, Any]:
    """Return the cells of one row by column name; empty cells get the default of the dataclass."""
    known = _defaults(row)
    cells = dict(zip(known, values, strict=True))
    if None in values:
        cells |= {name: known[name] for name, cell in cells.items() if cell is None}
    return cells
