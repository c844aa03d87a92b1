"""What a worker sends to the driver: several finished images together, none of them late."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from robustness.auditing.cluster.messages import Done, Packet

PACKET_SECONDS = 0.1
"""A finished image is sent together with those that are finished within this time after it."""
PACKET_IMAGES = 256


class Outbox:
    """A queue of finished images that the attack fills, and of which `packets` makes packets.

    It holds no more images than the driver has given to the worker.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Future[Done] | Sequence[str] | None] = queue.SimpleQueue()

    def put(self, image: Future[Done]) -> None:
        """Send an image as soon as its rows are made."""
        self._queue.put(image)

    def give_back(self, keys: Sequence[str]) -> None:
        """Send the keys of images that are given back, which may be none."""
        self._queue.put(keys)

    def close(self) -> None:
        """Say that nothing follows."""
        self._queue.put(None)

    def packets(self) -> Iterator[Packet]:
        """Yield packets until `close`; raises what was raised while rows were made."""
        closed = False
        while not closed:
            done: list[Future[Done]] = []
            released: list[str] | None = None
            item = self._queue.get()
            end = time.monotonic() + PACKET_SECONDS
            with contextlib.suppress(queue.Empty):
                while item is not None:
                    if isinstance(item, Future):
                        done.append(item)
                    else:
                        released = [*(released or ()), *item]
                    left = end - time.monotonic()
                    if left <= 0 or len(done) >= PACKET_IMAGES:
                        break
                    item = self._queue.get(timeout=left)
                closed = item is None
            if done or released is not None:
                rows = [one.result() for one in done]
                yield Packet(rows, time.process_time(), released)
