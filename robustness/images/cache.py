"""Decodes pictures ahead of use on threads, and caches them for later passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from robustness.images import Entry, Picture, Source
from robustness.images.entries import Shape

SHELF_BYTES = 32 << 20
"""The size of the cache of decoded pictures in bytes; pictures beyond it are decoded again in each pass."""
AHEAD = 32
"""The number of pictures that are decoded ahead of use; fewer of large ones (`AHEAD_BYTES`)."""
AHEAD_BYTES = 64 << 20
SAMPLE = 60
"""The number of images that the checks before the attack use: whole batches of the model's input."""


Read = Callable[[Entry, Shape], Picture]
Prepare = Callable[[Read, Entry, Shape], Picture]
"""Reads a picture by the function of its source and prepares it, as an input pipeline does."""


class Sample(NamedTuple):
    """Images uint8 (n, h, w, c), their keys, and their labels (n,); None unless all images have one."""

    keys: list[str]
    pixels: np.ndarray
    labels: np.ndarray | None


class PictureCache:
    """A source with a cache of decoded pictures, of at most `SHELF_BYTES` bytes.

    Parameters
    ----------
    source : the pictures.
    prepare : applied to each; None to take the pictures of the source as they are.
    """

    def __init__(self, source: Source, prepare: Prepare | None = None) -> None:
        self.source, self._prepare = source, prepare
        self._kept: dict[tuple[str, Shape], Picture] = {}
        self._left = SHELF_BYTES

    def prepare(self, prepare: Prepare) -> None:
        """Prepare pictures in another way from now on."""
        self._prepare, self._left = prepare, SHELF_BYTES
        self._kept.clear()

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Return a picture from the cache, or decode it; `shape` as for `Source.read`."""
        picture = self._kept.get((entry.key, shape))
        if picture is None:
            read = self.source.read
            prepare = self._prepare
            picture = read(entry, shape) if prepare is None else prepare(read, entry, shape)
            size = 0 if picture.pixels is None else picture.pixels.nbytes
            if size <= self._left:
                self._kept[entry.key, shape] = picture
                self._left -= size
        return picture

    def stream(self, entries: Iterable[Entry], shape: Shape) -> Generator[Picture]:
        """Yield the pictures in order; up to `AHEAD` of them are decoded ahead.

        Two threads decode; more where a source is remote (`threads`).
        """
        waiting: deque[Future[Picture]] = deque()
        # The first picture says how many may be decoded ahead.
        ahead = AHEAD if shape[0] is not None else 1
        threads = getattr(self.source, "threads", None) or 2
        with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
            try:
                for entry in entries:
                    waiting.append(pool.submit(self.read, entry, shape))
                    while len(waiting) > ahead:
                        picture = waiting.popleft().result()
                        if shape[0] is None and picture.pixels is not None:
                            ahead = max(1, min(AHEAD, AHEAD_BYTES // picture.pixels.nbytes))
                        yield picture
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def sample(
        self, entries: list[Entry], shape: tuple[int, int, int], most: int = SAMPLE
    ) -> Sample:
        """Return the readable images among the first `most` entries, for the checks before the attack."""
        read = [p for p in self.stream(entries[:most], shape) if p.pixels is not None]
        pixels = [p.pixels for p in read if p.pixels is not None]
        labels = [p.entry.label for p in read]
        return Sample(
            [p.entry.key for p in read],
            np.stack(pixels) if pixels else np.zeros((0, *shape), np.uint8),
            None if None in labels else np.array(labels, int),
        )
