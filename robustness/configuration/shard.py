"""The part of an audit's images that one of several jobs takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from robustness.errors import SettingError

Item = TypeVar("Item")

MAX_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """Shard number `index` (from 0) of `count` shards of equal size (within one), each a run of neighbours.

    Raises
    ------
    SettingError
        The number is not 0 to `count` - 1, or there are more than `MAX_SHARDS`.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not (1 <= self.count <= MAX_SHARDS and 0 <= self.index < self.count):
            raise SettingError(
                f"Shard {self.index}/{self.count} is not usable; expected NUMBER/COUNT with a number from 0 "
                f"to COUNT - 1 and at most {MAX_SHARDS:,} shards, such as 0/16 ... 15/16."
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard of a text such as "3/16"; SettingError for another text."""
        found = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
        if found is None:
            raise SettingError(
                f"Shard {text!r:.60} is not usable; expected NUMBER/COUNT, such as 3/16."
            )
        return cls(int(found[1]), int(found[2]))

    def first(self, total: int) -> int:
        """Return the position of the shard's first item among `total` items."""
        return self.index * total // self.count

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of this shard, in order.

        Neighbours stay together, since they lie in the same file of a source of several files.
        """
        return items[self.first(len(items)) : self.end(len(items))]

    def end(self, total: int) -> int:
        """Return the position after the shard's last item."""
        return (self.index + 1) * total // self.count

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard()
"""All images."""
