"""A seeded random sample of entries, the classes in balance."""

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
    """A sample of `entries`, the same for the same seed whatever order they come in.

    Entries are shuffled by the SHA-256 of seed and key and then dealt in rounds, one of each class
    a round. So the first n of the result are balanced for every n, as far as the classes last, and
    a smaller limit gives the beginning of a larger one. Entries without label are a class of their
    own.

    limit: how many at most in all.
    per_class: how many at most of each class.
    only: keeps the entries it is true for, before anything is counted.

    SettingError if `limit` or `per_class` is not a whole number above 0.
    """
    _check("limit", limit)
    _check("per_class", per_class)
    shuffled = sorted(
        (entry for entry in entries if only is None or only(entry)),
        key=lambda entry: (_ticket(seed, entry.key), entry.key),
    )
    dealt: Counter[int | None] = Counter()
    rounds = []
    for entry in shuffled:
        if per_class is None or dealt[entry.label] < per_class:
            rounds.append((dealt[entry.label], entry))
            dealt[entry.label] += 1
    rounds.sort(key=lambda pair: pair[0])  # stable: within a round the shuffle's order stays
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
