"""Images in the order in which they are to be attacked: keys, whose rows are read a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from robustness.runs.records import ImageRow

TOGETHER = 256
"""Images whose rows are read at once."""


@dataclass(frozen=True)
class ImageQueue:
    """Images of a run that may be a million, of which only those that are needed next become objects.

    Attributes
    ----------
    keys : in the order in which the images should begin.
    read : returns the rows of images by their keys.
    """

    keys: Sequence[str]
    read: Callable[[Sequence[str]], Mapping[str, ImageRow]]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[ImageRow]:
        for start in range(0, len(self.keys), TOGETHER):
            some = self.keys[start : start + TOGETHER]
            rows = self.read(some)
            yield from (rows[key] for key in some)

    def of(self, keys: Sequence[str]) -> ImageQueue:
        """Return other images of the same run."""
        return replace(self, keys=keys)
