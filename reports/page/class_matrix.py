"""Counts from class to class, as a matrix or as pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustness.reports.page import charts
from robustness.reports.summary.summary import Pair

_MOST_CLASSES, _MOST_PAIRS = 10, 12


@dataclass(frozen=True)
class ClassMatrix:
    """Counts from class to class.

    Attributes
    ----------
    names
        The classes, in the order of the model's outputs.
    rows
        For each class its name and a cell for each class after: the count, and whether both are the
        same class. None where there are too many classes, or names repeat: then `pairs` is shown.
    wide
        Whether the matrix needs the full width of the page.
    diagonal
        Whether an image can stay in its class.
    pairs
        The most frequent pairs of different classes, each with its bar.
    more
        How many pairs are left out.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, bool], ...]], ...] | None
    wide: bool
    diagonal: bool
    pairs: tuple[tuple[Pair, Markup], ...]
    more: int


def class_matrix(
    pairs: Sequence[Pair], class_names: Sequence[str], *, diagonal: bool = False
) -> ClassMatrix | None:
    """Lay out counts from class to class: a matrix for a few classes, else the most frequent pairs.

    Parameters
    ----------
    pairs
        The counts.
    class_names
        All classes, in the order of the model's outputs.
    diagonal
        Whether an image can stay in its class; such pairs are left out of the list.

    Returns
    -------
    ClassMatrix or None
        None without any pair.
    """
    if not pairs:
        return None
    there = {name for pair in pairs for name in (pair.before, pair.after)}
    names = tuple(name for name in class_names if name in there)
    counts = {(pair.before, pair.after): pair.count for pair in pairs}
    fits = len(names) <= _MOST_CLASSES and len(set(names)) == len(names)
    shown = [pair for pair in pairs if not diagonal or pair.before != pair.after]
    shown.sort(key=lambda pair: -pair.count)
    largest = max((pair.count for pair in shown), default=1)
    rows = tuple(
        (before, tuple((counts.get((before, after), 0), before == after) for after in names))
        for before in names * fits
    )
    return ClassMatrix(
        names=names,
        rows=rows if fits else None,
        wide=fits and (len(names) > 4 or sum(map(len, names)) > 24),
        diagonal=diagonal,
        pairs=tuple(
            (pair, charts.meter(pair.count / largest, "bar accent")) for pair in shown[:_MOST_PAIRS]
        ),
        more=max(0, len(shown) - _MOST_PAIRS),
    )
