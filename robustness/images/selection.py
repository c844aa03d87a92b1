"""Selects a seeded random sample of entries with balanced classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from robustness.errors import SettingError
from robustness.images.compact import CompactSource
from robustness.images.entries import Entry, Source, in_order, labels_of


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
    numbers: dict[int | None, int] = {}
    labels = [numbers.setdefault(label, len(numbers)) for label in labels_of(chosen)]
    order = _order([key for key, _, _ in chosen], np.array(labels, np.int64), per_class, seed)
    return in_order(chosen, order[:limit].tolist())


def select_from(
    source: Source,
    *,
    limit: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    only: Callable[[Entry], bool] | None = None,
) -> list[Entry]:
    """Select a random sample of the entries of a source, as `select` does.

    Of a source of a million pictures only the selected entries become objects.

    Parameters
    ----------
    source : Source
        The source.
    limit, per_class, seed, only : as for `select`.

    Raises
    ------
    SettingError
        `limit` or `per_class` is not a whole number above 0.
    """
    if only is not None or not isinstance(source, CompactSource):
        entries = source.entries()
        return select(entries, limit=limit, per_class=per_class, seed=seed, only=only)
    _check("limit", limit)
    _check("per_class", per_class)
    order = _order(source.keys(), source.labels, per_class, seed)
    return source.entries_at(order[:limit])


def _order(keys: Iterable[str], labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """The places of the entries with these keys and labels in the order of selection."""
    shuffled = _shuffled(keys, seed)
    rounds = _rounds(labels[shuffled])
    places = np.argsort(rounds, kind="stable")  # keeps the shuffled order within a round
    kept = places if per_class is None else places[rounds[places] < per_class]
    return shuffled[kept]


def _shuffled(keys: Iterable[str], seed: int) -> np.ndarray:
    """The places of the keys in the order of the SHA-256 of seed and key."""
    start = hashlib.sha256(f"{seed}|".encode())
    digests = bytearray()
    for key in keys:
        ticket = start.copy()
        ticket.update(key.encode("utf-8", "backslashreplace"))
        digests += ticket.digest()
    parts = np.frombuffer(digests, ">u8").reshape(-1, 4).astype(np.uint64)
    order = np.argsort(parts[:, 0], kind="stable")
    if (np.diff(parts[order, 0]) > 0).all():
        return order
    # Keys that come twice, since no two others begin alike. The last column is the most significant one.
    return np.lexsort(parts.T[::-1])


def _rounds(labels: np.ndarray) -> np.ndarray:
    """How many earlier labels are the same, for each label."""
    _, numbers = np.unique(labels, return_inverse=True)
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
