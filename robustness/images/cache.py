"""Pictures on their way to the model: decoded ahead, and kept for the passes to come."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from robustness.images import Entry, Picture, Source

SHELF_BYTES = 32 << 20
"""Decoded pictures kept; beyond it they are decoded again, so memory stays flat."""
AHEAD = 32
SAMPLE = 60
"""Images that checks before the attack look at: whole batches of what the model sees together."""


class Sample(NamedTuple):
    """Some images (n, h, w, c), their keys, and their labels (n,) if all have one."""

    keys: list[str]
    pixels: np.ndarray
    labels: np.ndarray | None


class PictureCache:
    """A source whose decoded pictures are kept, up to a limit, for the passes to come."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._kept: dict[tuple[str, tuple[int, ...]], Picture] = {}
        self._left = SHELF_BYTES

    def read(self, entry: Entry, shape: tuple[int, int, int]) -> Picture:
        """The picture, decoded or kept."""
        picture = self._kept.get((entry.key, shape))
        if picture is None:
            picture = self.source.read(entry, shape)
            size = 0 if picture.pixels is None else picture.pixels.nbytes
            if size <= self._left:
                self._kept[entry.key, shape] = picture
                self._left -= size
        return picture

    def stream(self, entries: Iterable[Entry], shape: tuple[int, int, int]) -> Generator[Picture]:
        """Pictures in order, a few decoded ahead on other threads."""
        waiting: deque[Future[Picture]] = deque()
        with ThreadPoolExecutor(2, thread_name_prefix="pictures") as pool:
            try:
                for entry in entries:
                    waiting.append(pool.submit(self.read, entry, shape))
                    if len(waiting) > AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def sample(self, entries: list[Entry], shape: tuple[int, int, int]) -> Sample:
        """The first readable images of those that checks look at."""
        read = [p for p in self.stream(entries[:SAMPLE], shape) if p.pixels is not None]
        pixels = [p.pixels for p in read if p.pixels is not None]
        labels = [p.entry.label for p in read]
        return Sample(
            [p.entry.key for p in read],
            np.stack(pixels) if pixels else np.zeros((0, *shape), np.uint8),
            None if None in labels else np.array(labels, int),
        )
