"""Spreads tasks over the workers of an audit, one at a time each.

A task is a function of the run, so that its result is that of one process on hardware of the driver's kind.
Other workers get none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustness.auditing.cluster.driver import ClusterWork


@dataclass(frozen=True)
class TaskResult:
    """The result of one task.

    Attributes
    ----------
    number : that of the task.
    value : the result.
    processor_seconds : the processor time that the worker has used since it began.
    """

    number: int
    value: Any
    processor_seconds: float


def spread_tasks(
    work: ClusterWork,
    numbers: Iterable[int],
    start: Callable[[int, int], None],
    here: Callable[[int], Any],
    begins: Callable[[int], None] = lambda number: None,
) -> Generator[tuple[int, Any]]:
    """Yield the number and the result of each task when it is known.

    Without a worker of the driver's kind this process does the next task.

    Parameters
    ----------
    work : the workers.
    numbers : the tasks, in the order in which they should begin.
    start : makes a worker (the first argument) begin a task (the second); it sends a `TaskResult`.
    here : does a task in this process.
    begins : called with each task when it is first begun.
    """
    waiting, begun = deque(numbers), set[int]()
    held: dict[int, int] = {}
    left = set(waiting)

    def begin() -> int:
        number = waiting.popleft()
        if number not in begun:
            begun.add(number)
            begins(number)
        return number

    while left:
        for worker in work.free(()):
            if work.records[worker].like and waiting:
                held[worker] = begin()
                start(worker, held[worker])
        if waiting and not work.like_workers():
            number = begin()
            left.discard(number)
            yield number, here(number)
        for event in work.events():
            if event.kind == "item" and isinstance(event.value, TaskResult):
                work.records[event.worker].processor_seconds = event.value.processor_seconds
                held.pop(event.worker, None)
                left.discard(event.value.number)
                yield event.value.number, event.value.value
            elif event.kind == "lost" and event.worker in held:
                waiting.appendleft(held.pop(event.worker))
