"""Counts from class to class, as a matrix or as pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustness.reports.page import charts
from robustness.reports.summary.summary import Pair

_MATRIX = 10


def class_matrix(
    pairs: Sequence[Pair], class_names: Sequence[str], *, diagonal: bool = False
) -> dict[str, Any] | None:
    """From which class to which: a matrix for a few classes; for more the commonest pairs.

    With `diagonal` a class can stay what it is, and the pairs are those where it did not. `wide` says
    that the matrix needs a line of its own.
    """
    if not pairs:
        return None
    names = [n for n in class_names if any(n in (p.before, p.after) for p in pairs)]
    cells = {(pair.before, pair.after): pair.count for pair in pairs}
    fits = len(names) <= _MATRIX and len(set(names)) == len(names)
    listed = [p for p in pairs if not diagonal or p.before != p.after]
    listed.sort(key=lambda p: -p.count)
    top = max((pair.count for pair in listed), default=1)
    rows = [
        (
            before,
            [(cells.get((before, after), 0), "same" if before == after else "") for after in names],
        )
        for before in names
    ]
    return {
        "names": names,
        "rows": rows if fits else None,
        "wide": fits and (len(names) > 4 or sum(map(len, names)) > 24),
        "diagonal": diagonal,
        "pairs": [(pair, charts.meter(pair.count / top, "bar accent")) for pair in listed[:12]],
        "more": max(0, len(listed) - 12),
    }
