"""Programs that walk an attack's steps and show them: flips for a report, points for a proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.jobs import AttackJob
from robustness.models.classifier import Classifier
from robustness.optimization.iterate import iterate


@dataclass(frozen=True)
class Walk:
    """A place to start from, the number of steps, and the budget its pictures are kept to."""

    place: AttackJob
    steps: int
    radius: float


class _Walking:
    """The program: each row takes its steps, and `seen(state, places, jobs, steps)` hears of all."""

    def __init__(
        self,
        rows: CompiledBatch,
        seen: Callable[[State, Sequence[int], Sequence[Any], list[int]], None],
    ) -> None:
        self._rows, self._seen = rows, seen
        self._steps: dict[int, int] = {}
        self._ends: dict[int, int] = {}

    def enter(
        self, state: State | None, places: Sequence[int], jobs: Sequence[tuple[int, Walk]]
    ) -> State:
        self._steps |= dict.fromkeys(places, 0)
        self._ends |= {place: walk.steps for place, (_, walk) in zip(places, jobs, strict=True)}
        state = self._rows.enter(state, places, [walk.place for _, walk in jobs])
        self._seen(state, places, jobs, [0] * len(places))
        return state

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        state, reached = self._rows.advance(state)
        return state, np.ones_like(reached)

    def leave(
        self, state: State, places: Sequence[int], jobs: Sequence[tuple[int, Walk]]
    ) -> list[bool]:
        for place in places:
            self._steps[place] += 1
        steps = [self._steps[place] for place in places]
        self._seen(state, places, jobs, steps)
        return [step >= walk.steps for step, (_, walk) in zip(steps, jobs, strict=True)]

    def narrow(self, state: State, places: Sequence[int]) -> tuple[State, int] | None:
        """See `iterate`."""
        left = max(self._ends[place] - self._steps[place] for place in places)
        fewer = self._rows.narrow(state, places, left)
        if fewer:
            for counts in (self._steps, self._ends):
                counts |= {new: counts[place] for new, place in enumerate(places)}
        return fewer


def trace(
    rows: CompiledBatch, walks: Sequence[Walk], seen: Callable[[int, int, State, int], None]
) -> None:
    """Walk every place; `seen(walk, step, state, row)` hears of every step from 0 on.

    `state` is the whole batch's and `row` the walk's place in it.
    """

    def each(
        state: State, places: Sequence[int], jobs: Sequence[tuple[int, Walk]], steps: list[int]
    ) -> None:
        for place, (number, _), step in zip(places, jobs, steps, strict=True):
            seen(number, step, state, place)

    _walk(_Walking(rows, each), enumerate(walks), rows.slots)


def replay(
    rows: CompiledBatch,
    classifier: Classifier,
    walks: Sequence[Walk],
    seen: Callable[[int, int, np.ndarray, np.ndarray], None],
) -> None:
    """Walk known flips again, to show their steps.

    `seen(walk, step, picture, probabilities)` hears of every step from 1 on: the uint8 picture that
    would be saved then, and the user's model's (classes,) probabilities of it.
    """

    def each(
        state: State, places: Sequence[int], jobs: Sequence[tuple[int, Walk]], steps: list[int]
    ) -> None:
        if not any(steps):
            return
        radii = [walk.radius for _, walk in jobs]
        grids, _ = rows.snap(state, state["own"]["point"], places, radii)
        answers = classifier.probabilities(grids)
        for (number, _), step, grid, answer in zip(jobs, steps, grids, answers, strict=True):
            seen(number, step, grid, answer)

    _walk(_Walking(rows, each), ((n, w) for n, w in enumerate(walks) if w.steps > 0), rows.slots)


def _walk(program: _Walking, walks: Iterable[tuple[int, Walk]], slots: int) -> None:
    jobs = iter(walks)
    iterate(program, lambda: next(jobs, None), slots=slots, narrow=program.narrow)
