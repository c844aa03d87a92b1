"""Rows on their way into a run: gathered, and made on another thread while the model works on."""

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
    """Rows gathered into a transaction every so often: one commit each would cost more than a step.

    Rows come in groups, and are written in the order they came in.
    """

    def __init__(self, run: Run, *, seconds: float = 0.5, groups: int = 256) -> None:
        self._run, self._seconds, self._most = run, seconds, groups
        self._waiting: deque[Future[Sequence[Row]]] = deque()
        self._last = time.monotonic()
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="pending")

    def add(self, rows: Sequence[Row]) -> None:
        """Put rows behind; they are written soon."""
        ready: Future[Sequence[Row]] = Future()
        ready.set_result(rows)
        self._put(ready)

    def make(self, rows: Callable[..., Sequence[Row]], *of: Any) -> None:
        """Put behind the rows that `rows(*of)` gives, made on another thread.

        For rows whose pictures are compressed and saved first: the model works on meanwhile.
        """
        self._put(self._hand.submit(rows, *of))

    def flush(self) -> None:
        """Write all that waits; raises what making it raised."""
        self._write(len(self._waiting))

    def close(self) -> None:
        """Write all that waits, and end the thread."""
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
