"""Selects a seeded random sample of entries with balanced classes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

from robustness.errors import SettingError
from robustness.images.entries import Entry


def select(
    entries: Iterable[Entry],
    *,
    limit: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    only: Callable[[Entry], bool] | None = None,
) -> list[Entry]:
    """Select a random sample of entries; it depends on the seed, not on the order of the entries.

    Parameters
    ----------
    entries : iterable of Entry
        The entries to select from.
    limit : int, optional
        The largest number of entries in total.
    per_class : int, optional
        The largest number of entries of each class.
    seed : int
        The seed of the shuffle.
    only : callable, optional
        A filter; entries for which it is false are removed before anything is counted.

    Raises
    ------
    SettingError
        `limit` or `per_class` is not a whole number above 0.

    Notes
    -----
    Entries are sorted by the SHA-256 of seed and key, then selected in rounds of one entry per class. So the
    first n of the result are balanced for every n, as far as the classes have entries left, and the result of
    a smaller limit is the beginning of that of a larger one. Entries without label form a class of their own.
    """
    _check("limit", limit)
    _check("per_class", per_class)
    shuffled = sorted(
        (entry for entry in entries if only is None or only(entry)),
        key=lambda entry: _ticket(seed, entry.key),
    )
    dealt: Counter[int | None] = Counter()
    rounds = []
    for entry in shuffled:
        if per_class is None or dealt[entry.label] < per_class:
            rounds.append((dealt[entry.label], entry))
            dealt[entry.label] += 1
    rounds.sort(key=lambda pair: pair[0])  # a stable sort: keeps the shuffled order within a round
    return [entry for _, entry in rounds[:limit]]


def _ticket(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}|{key}".encode("utf-8", "backslashreplace")).digest()


def _check(name: str, value: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingError(
            f"`{name}` is {value!r}; expected a whole number above 0, or None for all images."
        )
