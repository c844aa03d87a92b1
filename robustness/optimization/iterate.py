"""The one loop of the project: rows in, rows out.

A fixed number of slots advance together, one compiled step at a time. A row that is finished leaves
at once and the next job of the queue takes its slot, so shapes never change and nothing waits for
its neighbours. Attacks, descents, regressions and spreadings are programs of this loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

Job = TypeVar("Job")
Job_contra = TypeVar("Job_contra", contravariant=True)


class Program(Protocol[Job_contra]):
    """What happens to the rows. `state` is the program's own; the loop only hands it on."""

    def enter(self, state: Any, places: Sequence[int], jobs: Sequence[Job_contra]) -> Any:
        """The state with each job loaded into its place. `state` is None at the first call."""

    def advance(self, state: Any) -> tuple[Any, np.ndarray]:
        """A step of every slot, or several, and which slots (slots,) bool have something to say.

        None may have had anything to say between them.
        """

    def leave(
        self, state: Any, places: Sequence[int], jobs: Sequence[Job_contra]
    ) -> Sequence[bool]:
        """Hear those slots out; whether each is finished. It may put jobs into the queue."""


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
    program: what a step does.
    take: the next job, or None if there is none now; asked again after each departure.
    slots: how many rows advance together.
    each: called with the state after every `advance` (a progress display, a history).
    narrow: asked when no job is left for some slots, with the state and the places still held: the state
        with these in its first slots, in this order, and how many slots it has now; None to leave it.
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

    A round loads jobs, advances all slots, and hears those that report.

    Parameters
    ----------
    program, take, slots, each, narrow : see `iterate`.
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
        speaking = [p for p in range(slots) if ready[p] and held[p] is not None]
        if speaking:
            finished = program.leave(state, speaking, [held[p] for p in speaking])  # type: ignore[misc]
            for place, done in zip(speaking, finished, strict=True):
                if done:
                    held[place] = None
        yield
