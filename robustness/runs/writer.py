"""Creates rows on a thread while the model continues, and writes them to a run in large transactions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from typing import Any

from robustness.runs.records import Row
from robustness.runs.store import Run


class Pending:
    """A queue of rows that are written together, since a commit per row would cost more than a step.

    Groups of rows are written in the order in which they were added.

    Parameters
    ----------
    run : Run
        The run, open for writing.
    seconds : float
        The time after which waiting rows are written.
    groups : int
        The number of waiting groups at which all are written.
    """

    def __init__(self, run: Run, *, seconds: float = 0.5, groups: int = 256) -> None:
        self._run, self._seconds, self._most = run, seconds, groups
        self._waiting: deque[Future[Sequence[Row]]] = deque()
        self._last = time.monotonic()
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="pending")

    def add(self, rows: Sequence[Row]) -> None:
        """Queue a group of rows."""
        ready: Future[Sequence[Row]] = Future()
        ready.set_result(rows)
        self._put(ready)

    def make(self, rows: Callable[..., Sequence[Row]], *of: Any) -> None:
        """Queue the group of rows that `rows(*of)` returns when it is called on the thread.

        For rows whose pictures must be compressed and saved first; the model continues meanwhile.
        """
        self._put(self._hand.submit(rows, *of))

    def flush(self) -> None:
        """Write all queued rows; raises what a function given to `make` raised."""
        self._write(len(self._waiting))

    def close(self) -> None:
        """Write all queued rows, and end the thread."""
        try:
            self.flush()
        finally:
            self._hand.shutdown()

    def _put(self, rows: Future[Sequence[Row]]) -> None:
        self._waiting.append(rows)
        if len(self._waiting) >= self._most:
            self.flush()
        elif time.monotonic() - self._last > self._seconds:
            self._write(sum(1 for _ in takewhile(Future.done, self._waiting)))

    def _write(self, groups: int) -> None:
        rows: list[Row] = []
        try:
            for _ in range(groups):
                rows += self._waiting.popleft().result()
        finally:
            if rows:
                self._run.add(rows)
            self._last = time.monotonic()
