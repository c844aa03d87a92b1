"""The only iteration loop of the project: runs jobs from a queue in a fixed number of slots.

All slots advance together, one compiled step at a time. A job that is finished leaves its slot immediately
and the next job of the queue takes it, so shapes do not change and no job waits for another. Attacks,
descents, regressions and spherical codes are programs of this loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

Job = TypeVar("Job")
Job_contra = TypeVar("Job_contra", contravariant=True)


class Program(Protocol[Job_contra]):
    """The interface of a program: what happens to the jobs in the slots.

    `state` belongs to the program; the loop only passes it on.
    """

    def enter(self, state: Any, places: Sequence[int], jobs: Sequence[Job_contra]) -> Any:
        """Return the state with each job loaded into its slot; `state` is None at the first call."""

    def advance(self, state: Any) -> tuple[Any, np.ndarray]:
        """Advance every slot by one or several steps, and return the state and a mask (slots,) bool.

        The mask marks the slots that `leave` must evaluate. A program that takes several steps at once stops
        at the first step that marks a slot.
        """

    def leave(
        self, state: Any, places: Sequence[int], jobs: Sequence[Job_contra]
    ) -> Sequence[bool]:
        """Evaluate the marked slots; return whether each is finished. It may add jobs to the queue."""


def iterate(
    program: Program[Job],
    take: Callable[[], Job | None],
    *,
    slots: int = 1,
    each: Callable[[Any], None] | None = None,
    narrow: Callable[[Any, Sequence[int]], tuple[Any, int] | None] | None = None,
) -> None:
    """Run jobs through `program` until `take` returns None and every slot is empty.

    Parameters
    ----------
    program : Program
        Defines what a step does.
    take : callable
        Returns the next job, or None if there is none at the moment; called again whenever a slot is free.
    slots : int
        The number of rows that advance together.
    each : callable, optional
        Called with the state after every `advance`, for a progress display or a history.
    narrow : callable, optional
        Called with the state and the slots in use when no job is left for some slots. Returns the state
        with these rows moved to its first slots, in this order, and the new number of slots; or None to keep
        the state.
    """
    for _ in rounds(program, take, slots=slots, each=each, narrow=narrow):
        pass


def rounds(
    program: Program[Job],
    take: Callable[[], Job | None],
    *,
    slots: int = 1,
    each: Callable[[Any], None] | None = None,
    narrow: Callable[[Any, Sequence[int]], tuple[Any, int] | None] | None = None,
) -> Iterator[None]:
    """Run jobs as `iterate` does, and yield after every round, so that a caller can read results.

    A round loads jobs, advances all slots, and evaluates the marked ones.

    Parameters
    ----------
    program, take, slots, each, narrow
        See `iterate`.
    """
    held: list[Job | None] = [None] * slots
    state = None
    while True:
        places, jobs = [], []
        for place in range(slots):
            if held[place] is None and (job := take()) is not None:
                held[place] = job
                places.append(place)
                jobs.append(job)
        if places:
            state = program.enter(state, places, jobs)
        taken = [place for place, job in enumerate(held) if job is not None]
        if not taken:
            return
        if narrow and len(taken) < slots and (fewer := narrow(state, taken)):
            state, slots = fewer
            held = [held[place] for place in taken] + [None] * (slots - len(taken))
        state, ready = program.advance(state)
        if each is not None:
            each(state)
        marked = [p for p in range(slots) if ready[p] and held[p] is not None]
        if marked:
            finished = program.leave(state, marked, [held[p] for p in marked])  # type: ignore[misc]
            for place, done in zip(marked, finished, strict=True):
                if done:
                    held[place] = None
        yield
