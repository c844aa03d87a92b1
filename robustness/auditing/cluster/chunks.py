"""Chunks of unchanged images: which worker has which, and which have come back."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice

from robustness.auditing.cluster.attacking import COPY_SECONDS
from robustness.images import Entry
from robustness.models.fixed_size_calls import LARGE_BATCH
from robustness.runs.records import ImageRow, Row

CHUNK = 4 * LARGE_BATCH
"""Unchanged images that a worker is given at a time."""


class Chunks:
    """Unchanged images in chunks, each given to one worker at a time, or to two when nothing else is left.

    Parameters
    ----------
    numbered : positions and entries.
    """

    def __init__(self, numbered: Iterable[tuple[int, Entry]]) -> None:
        self._waiting = iter(numbered)
        self._again: deque[tuple[int, Entry]] = deque()
        self._held: dict[int | None, dict[str, tuple[int, Entry]]] = {}
        self._drained = 0.0

    @property
    def finished(self) -> bool:
        """Whether the rows of all images are known."""
        return bool(self._drained) and not self._again and not any(self._held.values())

    def next(self, holder: int | None) -> list[tuple[int, Entry]]:
        """Return the images that a worker (None: this process) is to predict; none if there are none left."""
        some = [self._again.popleft() for _ in range(min(CHUNK, len(self._again)))]
        some += islice(self._waiting, CHUNK - len(some))
        if not some:
            self._drained = self._drained or time.monotonic()
            some = self._copies(holder)
        self._held[holder] = {entry.key: (n, entry) for n, entry in some}
        return some

    def _copies(self, holder: int | None) -> list[tuple[int, Entry]]:
        """The images that one other has had for a while: the first result counts."""
        if time.monotonic() - self._drained < COPY_SECONDS:
            return []
        holders = Counter(key for held in self._held.values() for key in held)
        others = [held for other, held in self._held.items() if other != holder]
        alone = [[one for key, one in held.items() if holders[key] == 1] for held in others]
        return max(alone, key=len, default=[])

    def new(self, holder: int | None, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows of images whose rows were not known yet."""
        held = self._held.get(holder, {})
        fresh = [row for row in rows if _key(row) in held]
        for key in {_key(row) for row in fresh}:
            for other in self._held.values():
                other.pop(key, None)
        return fresh

    def ended(self, holder: int) -> None:
        """Let the images that a worker has not predicted wait again, unless another one has them."""
        for key, one in self._held.pop(holder, {}).items():
            if not any(key in held for held in self._held.values()):
                self._again.append(one)


def _key(row: Row) -> str:
    """The image of a row of an unchanged image."""
    return row.key if isinstance(row, ImageRow) else row.image
