"""Runs attempts again and yields every step: states for diagnostics, pictures for a report."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.jobs import AttackJob
from robustness.models.classifier import Classifier
from robustness.optimization.iterate import rounds


@dataclass(frozen=True)
class Replay:
    """An attempt to run again.

    Parameters
    ----------
    job
        The job of the attempt.
    steps
        The number of steps to run.
    radius
        The budget within which its pictures are rounded, in the norm's unit.
    """

    job: AttackJob
    steps: int
    radius: float


Numbered = tuple[int, Replay]


@dataclass(frozen=True)
class _Round:
    """Some rows of a batch after a step of each."""

    state: State
    slots: Sequence[int]
    replays: Sequence[Numbered]
    steps: Sequence[int]


class _ReplayProgram:
    """A program of `iterate`: each row takes its steps, and every round is kept for the caller."""

    def __init__(self, batch: CompiledBatch) -> None:
        self._batch = batch
        self.finished_rounds: deque[_Round] = deque()
        self._steps: dict[int, int] = {}
        self._ends: dict[int, int] = {}

    def enter(
        self, state: State | None, slots: Sequence[int], replays: Sequence[Numbered]
    ) -> State:
        self._steps |= dict.fromkeys(slots, 0)
        self._ends |= {s: replay.steps for s, (_, replay) in zip(slots, replays, strict=True)}
        state = self._batch.load(state, slots, [replay.job for _, replay in replays])
        self.finished_rounds.append(_Round(state, slots, replays, [0] * len(slots)))
        return state

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        state, reached = self._batch.step(state)
        return state, np.ones_like(reached)

    def leave(self, state: State, slots: Sequence[int], replays: Sequence[Numbered]) -> list[bool]:
        for slot in slots:
            self._steps[slot] += 1
        steps = [self._steps[slot] for slot in slots]
        self.finished_rounds.append(_Round(state, slots, replays, steps))
        return [step >= replay.steps for step, (_, replay) in zip(steps, replays, strict=True)]

    def narrow(self, state: State, slots: Sequence[int]) -> tuple[State, int] | None:
        left = max(self._ends[slot] - self._steps[slot] for slot in slots)
        smaller = self._batch.shrink(state, slots, left)
        if smaller:
            for counts in (self._steps, self._ends):
                counts |= {new: counts[slot] for new, slot in enumerate(slots)}
        return smaller


def _run(batch: CompiledBatch, replays: Iterable[Numbered]) -> Generator[_Round]:
    program, remaining = _ReplayProgram(batch), iter(replays)
    size = batch.batch_size
    for _ in rounds(program, lambda: next(remaining, None), slots=size, narrow=program.narrow):
        while program.finished_rounds:
            yield program.finished_rounds.popleft()


def replay_states(
    batch: CompiledBatch, replays: Sequence[Replay]
) -> Generator[tuple[int, int, State, int]]:
    """Run attempts again and yield every state.

    Parameters
    ----------
    batch
        The compiled attack.
    replays
        The attempts.

    Yields
    ------
    The index of the attempt, the step (from 0 on), the state of the whole batch, and the slot of the
    attempt in it.
    """
    for finished in _run(batch, enumerate(replays)):
        rows = zip(finished.slots, finished.replays, finished.steps, strict=True)
        for slot, (number, _), step in rows:
            yield number, step, finished.state, slot


def evenly_spaced(steps: int, most: int | None) -> set[int]:
    """Return at most `most` of the steps 1 to `steps`: the first, the last, and others evenly between."""
    if most is None or steps <= most:
        return set(range(1, steps + 1))
    return {1 + round(i * (steps - 1) / (most - 1)) for i in range(most)}


def replay_pictures(
    batch: CompiledBatch,
    classifier: Classifier,
    replays: Sequence[Replay],
    most: int | None = None,
) -> Generator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Run attempts again and yield the pictures of their steps.

    Parameters
    ----------
    batch
        The compiled attack.
    classifier
        The user's model.
    replays
        The attempts; those with 0 steps are left out.
    most
        The largest number of pictures of each attempt, at least 2: of more steps those that are
        `evenly_spaced`. None for every step.

    Yields
    ------
    The index of the attempt, the step (from 1 on), the picture (h, w, c) uint8 that would be saved at
    that step, and the model's probabilities (classes,) for it.
    """
    numbered = [(number, replay) for number, replay in enumerate(replays) if replay.steps > 0]
    wanted = {number: evenly_spaced(replay.steps, most) for number, replay in numbered}
    for finished in _run(batch, numbered):
        everything = zip(finished.slots, finished.replays, finished.steps, strict=True)
        rows = [row for row in everything if row[2] in wanted[row[1][0]]]
        if not rows:
            continue
        state, slots = finished.state, [slot for slot, _, _ in rows]
        radii = [replay.radius for _, (_, replay), _ in rows]
        pictures, _ = batch.to_uint8(state, state["own"]["point"], slots, radii)
        shown = [
            replay.job.example.cropped(picture)
            for (_, (_, replay), _), picture in zip(rows, pictures, strict=True)
        ]
        probabilities = classifier.probabilities(shown)
        for (_, (number, _), step), picture, row in zip(rows, shown, probabilities, strict=True):
            yield number, step, picture, row
