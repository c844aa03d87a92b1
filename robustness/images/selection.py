"""Selects a seeded random sample of entries with balanced classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from robustness.errors import SettingError
from robustness.images.entries import Entry, in_order, labels_of


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
    chosen = list(entries if only is None else filter(only, entries))
    order = _shuffled([key for key, _, _ in chosen], seed)
    labels = list(labels_of(chosen))
    rounds = _rounds(list(map(labels.__getitem__, order.tolist())))
    places = np.argsort(rounds, kind="stable")  # keeps the shuffled order within a round
    kept = places if per_class is None else places[rounds[places] < per_class]
    return in_order(chosen, order[kept[:limit]].tolist())


def _shuffled(keys: Sequence[str], seed: int) -> np.ndarray:
    """The places of the keys in the order of the SHA-256 of seed and key."""
    start = hashlib.sha256(f"{seed}|".encode())
    digests = bytearray()
    for key in keys:
        ticket = start.copy()
        ticket.update(key.encode("utf-8", "backslashreplace"))
        digests += ticket.digest()
    parts = np.frombuffer(digests, ">u8").reshape(len(keys), 4).astype(np.uint64)
    order = np.argsort(parts[:, 0], kind="stable")
    if (np.diff(parts[order, 0]) > 0).all():
        return order
    # Keys that come twice, since no two others begin alike. The last column is the most significant one.
    return np.lexsort(parts.T[::-1])


def _rounds(labels: Sequence[int | None]) -> np.ndarray:
    """How many earlier labels are the same, for each label."""
    classes = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    numbers = np.fromiter(map(classes.__getitem__, labels), np.int64, len(labels))
    places = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers)
    rounds = np.empty(len(labels), np.int64)
    rounds[places] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rounds


def _check(name: str, value: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingError(
            f"`{name}` is {value!r}; expected a whole number above 0, or None for all images."
        )
