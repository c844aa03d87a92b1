"""Runs attacks that seek any point inside the budget, at one epsilon after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from robustness.contract.attack import Attack
from robustness.engine.attempts import Attempt, AttemptPool, failure_reason, take_rows
from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.refinement import rescue
from robustness.threat.threat import Threat

EARLY = (1, 2)
"""The numbers of steps after which a row's point is judged although no model output showed that it flips.

For white-box attacks only. On an undefended model most rows have flipped by then. Their point needs the
judge's forward pass anyway, and an early pass saves the step that would only detect the flip; every other row
costs one further pass each time. With a small network a step costs less than saving and reading a file, so
nothing is judged early.
"""

MAX_UNCHECKED = 8
"""The number of points of a row that are collected before the model evaluates all of them."""


class CandidateBatch(NamedTuple):
    """Points (slots, h, w, c), `late` steps old, and the attempts whose point is judged, by slot."""

    points: Any
    attempts: dict[int, Attempt]
    late: int


class FixedEpsilonProgram:
    """Run every image at one epsilon after another until it flips; a program of `iterate`.

    An image that survives every restart at one epsilon is queued for the next. Once it flips, the outcome
    at every larger epsilon is the same flip.

    Parameters
    ----------
    pool
        The running attempts and the judge.
    batch
        The compiled attack.
    attack, threat
        The attack, and its threat.
    all_steps
        Whether each row continues until its steps are spent; the flip that counts is that of the last point,
        or else the first.
    """

    first = 0
    """The index of the epsilon that every image starts with."""

    def __init__(
        self,
        pool: AttemptPool,
        batch: CompiledBatch,
        attack: Attack,
        threat: Threat,
        *,
        all_steps: bool,
    ) -> None:
        self._pool, self._batch, self._attack, self._threat = pool, batch, attack, threat
        self._all_steps = all_steps
        self._reached = np.zeros(0, bool)
        early = attack.knowledge == "white-box" and not all_steps and batch.heavy
        self._early = EARLY if early else ()
        self.enter = pool.load

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        """Advance all rows until one must be judged; return the state and a mask of the rows to judge."""
        running = self._pool.running
        watched = [slot for slot, attempt in running.items() if attempt.flip is None]
        most = min(map(self._steps_left, running.values())) if self._batch.several else 1
        state, self._reached = self._pool.step_until(state, watched, most)
        ready = np.zeros_like(self._reached)
        for slot, attempt in running.items():
            reached = self._reached[slot] and attempt.flip is None
            ready[slot] = reached or self._is_due(attempt)
        return state, ready

    def leave(self, state: State, slots: Sequence[int], attempts: Sequence[Attempt]) -> list[bool]:
        """Judge the points of these rows; return which rows are finished."""
        by_slot = dict(zip(slots, attempts, strict=True))
        self._pool.record_blind_steps(state, by_slot)
        best, own = state["best"]["point"], state["own"]["point"]
        reached = {s: a for s, a in by_slot.items() if self._reached[s] and a.flip is None}
        last = {s: a for s, a in by_slot.items() if s not in reached and self._must_judge(a)}
        # The model evaluated the point `best` one step ago.
        self._judge(state, CandidateBatch(best, reached, late=1), CandidateBatch(own, last, late=0))
        both = {s: a for s, a in reached.items() if self._must_judge(a)}
        self._judge(state, CandidateBatch(own, both, late=0))
        self._check_in_float([a for a in attempts if self._needs_check(a)])
        self._rescue([a for a in attempts if self._is_spent(a)])
        finished = [self._finish(attempt) for attempt in attempts]
        self._pool.remove(slots, finished)
        return finished

    def _is_spent(self, attempt: Attempt) -> bool:
        return attempt.steps >= self._attack.steps

    def _is_due(self, attempt: Attempt) -> bool:
        """Whether the current point is judged even if no model output showed that it flips."""
        return self._is_spent(attempt) or attempt.steps in self._early

    def _steps_left(self, attempt: Attempt) -> int:
        """Steps until the attempt is due."""
        ends = (*self._early, self._attack.steps)
        return min(end - attempt.steps for end in ends if end > attempt.steps)

    def _must_judge(self, attempt: Attempt) -> bool:
        return self._is_due(attempt) and (attempt.flip is None or self._all_steps)

    def _judge(self, state: State, *batches: CandidateBatch) -> None:
        """Judge all points in one call and store the verdicts in the attempts."""
        epsilons = self._threat.epsilons
        questions = [
            (b.points, b.attempts, [epsilons[a.epsilon_index] for a in b.attempts.values()])
            for b in batches
        ]
        all_verdicts = self._pool.judge_candidates(state, *questions)
        for batch, verdicts in zip(batches, all_verdicts, strict=True):
            unchecked: dict[int, Attempt] = {}
            float_flips: dict[int, Attempt] = {}
            for (slot, attempt), (flip, finite) in zip(
                batch.attempts.items(), verdicts, strict=True
            ):
                progress = attempt.progress
                if not finite:
                    attempt.failure = failure_reason(attempt)
                elif flip is not None:
                    attempt.flip, attempt.flip_step = flip, attempt.steps - batch.late
                elif batch.late and self._pool.judges_attacked_model:
                    progress.flips_in_float_only, float_flips[slot] = True, attempt
                elif (batch.late or self._is_spent(attempt)) and not progress.flips_in_float_only:
                    unchecked[slot] = attempt
            points = take_rows(batch.points, unchecked)
            for attempt, point in zip(unchecked.values(), points, strict=True):
                attempt.unchecked.append(point)
            if self._threat.norm.has_path_along:
                points = take_rows(batch.points, float_flips)
                for attempt, point in zip(float_flips.values(), points, strict=True):
                    attempt.float_flip = point

    def _needs_check(self, attempt: Attempt) -> bool:
        """Whether its collected points are checked now; an attempt with a flip needs no check."""
        leaves = self._is_spent(attempt) or bool(attempt.failure)
        return attempt.flip is None and (leaves or len(attempt.unchecked) >= MAX_UNCHECKED)

    def _check_in_float(self, attempts: Sequence[Attempt]) -> None:
        """Evaluate which collected points flip the user's model in float.

        The attack does not evaluate its last point, and a flip of a surrogate does not imply one of the
        user's model.
        """
        pairs = [(point, attempt) for attempt in attempts for point in attempt.unchecked]
        flips = self._pool.flips_in_float([p for p, _ in pairs], [a for _, a in pairs])
        for (point, attempt), flip in zip(pairs, flips, strict=True):
            attempt.progress.flips_in_float_only |= flip
            attempt.float_flip = point if flip else attempt.float_flip
        for attempt in attempts:
            attempt.unchecked.clear()

    def _rescue(self, attempts: Sequence[Attempt]) -> None:
        """Search other files within the budget of attempts that would otherwise end without a flip."""
        standing = [a for a in attempts if a.flip is None and not a.failure]
        white_box = self._attack.knowledge == "white-box"
        rescue(self._pool, self._threat, standing, gradients=white_box)

    def _finish(self, attempt: Attempt) -> bool:
        """Whether the row is finished; if so, queue the next attempt or store the outcomes."""
        settled = attempt.failure or (attempt.flip is not None and not self._all_steps)
        if not settled and not self._is_spent(attempt):
            return False
        progress, index = attempt.progress, attempt.epsilon_index
        epsilons = progress.epsilons_to_settle(self._threat.epsilons)
        self._pool.charge(attempt)
        survived = attempt.flip is None and not attempt.failure
        if survived and attempt.restart + 1 < self._attack.restarts:
            self._pool.queue.append(Attempt(progress, index, attempt.restart + 1))
            return True
        progress.add_outcome(epsilons[index], attempt)
        if survived and index + 1 < len(epsilons):
            self._pool.queue.append(Attempt(progress, index + 1, 0))
            return True
        last = progress.outcomes[-1]
        progress.outcomes += [
            replace(last, epsilon=e, forward=0, backward=0, watched=0, blind=0, carried=True)
            for e in epsilons[index + 1 :]
        ]
        self._pool.results.append((progress.example, progress.outcomes))
        return True
