"""The images that wait at a worker: the driver adds some, takes some back, or says that there are no more."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from robustness.auditing.cluster.messages import Fed

PATIENCE = 0.2
"""Seconds that a batch with running rows waits for more images."""


class Inbox:
    """A queue of images that three threads use: the driver's calls, and the attack."""

    def __init__(self) -> None:
        self._waiting: deque[Fed] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._draining = False

    def feed(self, images: Sequence[Fed], *, last: bool = False) -> None:
        """Add images; `last`: the driver has no more at the moment, so nobody needs to wait for more."""
        with self._changed:
            self._waiting.extend(images)
            self._draining = last
            self._changed.notify_all()

    def release(self, most: int) -> list[str]:
        """Take up to `most` images that have not begun out of the queue, from its end; return their keys."""
        with self._changed:
            count = min(most, len(self._waiting))
            return [self._waiting.pop().row.key for _ in range(count)]

    def close(self) -> None:
        """Say that no image will follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until there is an image, or none will follow; return whether there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return bool(self._waiting)

    def images(self) -> Iterator[Fed]:
        """Yield the images until none came for `PATIENCE` seconds; call `wait`, then this again."""
        while True:
            with self._changed:
                end = time.monotonic() + PATIENCE
                while not self._waiting:
                    left = end - time.monotonic()
                    if self._closed or self._draining or left <= 0:
                        return
                    self._changed.wait(left)
                image = self._waiting.popleft()
            yield image
