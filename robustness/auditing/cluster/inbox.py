"""The images that wait at a worker: the driver adds some, takes some back, or ends the attack."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from robustness.auditing.cluster.messages import Fed
from robustness.runs.records import ImageRow

PATIENCE = 0.2
"""Seconds that a batch with running rows waits for more images."""


class Inbox:
    """A queue of images that several threads use: the driver's calls, and the attack.

    An image that has left the queue is decoded ahead of use. Until it begins, it can be given back like those
    in the queue.

    Parameters
    ----------
    number : that of the driver's call of the attack.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._waiting: deque[Fed] = deque()
        self._ahead: dict[str, ImageRow] = {}
        self._given_back: dict[int, ImageRow] = {}
        self._changed = threading.Condition()
        self._stopped = self._draining = False

    @property
    def stopped(self) -> bool:
        """Whether no image is wanted any more."""
        return self._stopped

    def feed(self, images: Sequence[Fed], *, last: bool = False) -> None:
        """Add images; `last`: the driver has no more at the moment, so nobody needs to wait for more."""
        with self._changed:
            if not self._stopped:
                self._waiting.extend(images)
            self._draining = last
            self._changed.notify_all()

    def release(self, most: int) -> list[str]:
        """Give back up to `most` images that have not begun, from the end of the queue; return their keys."""
        with self._changed:
            count = min(most, len(self._waiting))
            keys = [self._waiting.pop().row.key for _ in range(count)]
            for key in list(reversed(self._ahead))[: most - count]:
                row = self._ahead.pop(key)
                # By identity: an image may come again while its first row is still decoded.
                self._given_back[id(row)] = row
                keys.append(key)
            return keys

    def begins(self, row: ImageRow) -> bool:
        """Return whether an image may begin: it was not given back."""
        with self._changed:
            if self._given_back.pop(id(row), None) is not None:
                return False
            if self._ahead.get(row.key) is row:
                del self._ahead[row.key]
            return not self._stopped

    def stop(self) -> None:
        """Say that no image is wanted any more, neither those that wait nor those that run."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until there is an image, or none will follow; return whether there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            return bool(self._waiting)

    def images(self) -> Iterator[Fed]:
        """Yield the images until none came for `PATIENCE` seconds; call `wait`, then this again."""
        while True:
            with self._changed:
                end = time.monotonic() + PATIENCE
                while not self._waiting:
                    left = end - time.monotonic()
                    if self._stopped or self._draining or left <= 0:
                        return
                    self._changed.wait(left)
                image = self._waiting.popleft()
                # A row of its own: `begins` tells it from the row of the same image that came before.
                image = replace(image, row=replace(image.row))
                self._ahead[image.row.key] = image.row
            yield image
