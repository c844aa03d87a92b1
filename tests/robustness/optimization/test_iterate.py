"""Tests of the loop: every job runs to its end, free slots are refilled at once, order does not matter."""

from __future__ import annotations

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustness.optimization.iterate import iterate, rounds


class Countdown:
    """A program whose jobs are numbers of steps to wait."""

    def __init__(self, slots: int) -> None:
        self.left = np.zeros(slots, int)
        self.finished: list[tuple[int, int]] = []
        self.steps = 0

    def enter(self, state, places, jobs):
        self.left[list(places)] = jobs
        return self.left

    def advance(self, state):
        self.steps += 1
        state -= 1
        return state, state <= 0

    def leave(self, state, places, jobs):
        self.finished += [(job, self.steps) for job in jobs]
        return [True] * len(jobs)


@given(jobs=st.lists(st.integers(1, 9), max_size=30), slots=st.integers(1, 7))
def test_every_job_ends_and_no_slot_is_idle(jobs, slots):
    queue = deque(jobs)
    program = Countdown(slots)
    iterate(program, lambda: queue.popleft() if queue else None, slots=slots)
    assert sorted(job for job, _ in program.finished) == sorted(jobs)
    # Greedy refilling: the makespan equals that of an independently simulated list schedule.
    ends = [0] * slots
    for job in jobs:
        free = ends.index(min(ends))
        ends[free] += job
    assert program.steps == max(ends, default=0)


def test_rounds_yield_after_every_finished_job():
    queue = deque([1, 3, 2])
    program = Countdown(2)
    departed = [
        len(program.finished)
        for _ in rounds(program, lambda: queue.popleft() if queue else None, slots=2)
    ]
    assert departed == [1, 1, 3]


def test_jobs_added_on_leaving_are_run():
    queue = deque([3])

    class Chain(Countdown):
        def leave(self, state, places, jobs):
            for job in jobs:
                if job > 1:
                    queue.append(job - 1)
            return super().leave(state, places, jobs)

    program = Chain(2)
    iterate(program, lambda: queue.popleft() if queue else None, slots=2)
    assert [job for job, _ in program.finished] == [3, 2, 1]


def test_a_job_that_is_not_finished_keeps_its_slot():
    queue = deque([1])

    class Twice(Countdown):
        def leave(self, state, places, jobs):
            super().leave(state, places, jobs)
            return [len(self.finished) > 1] * len(jobs)

    program = Twice(1)
    iterate(program, lambda: queue.popleft() if queue else None)
    assert program.finished == [(1, 1), (1, 2)]


def test_every_step_calls_each():
    queue, heard = deque([2, 2]), []
    iterate(
        Countdown(1),
        lambda: queue.popleft() if queue else None,
        each=lambda s: heard.append(int(s[0])),
    )
    assert heard == [1, 0, 1, 0]
