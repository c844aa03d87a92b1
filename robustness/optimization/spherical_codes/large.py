"""Finds large spherical codes by annealing an inverse-power energy, then by the method of multipliers.

The exponential method of multipliers (Kort and Bertsekas 1972) fixes a large exponent and gives the pairs
weights, which each round multiplies by the contribution of the pair. The weights converge to the multipliers
of the active contacts, and the vectors to a point that satisfies the conditions of a maximum to about 1e-11;
the contacts need not be known in advance. If the stages of a large code end before they converge, later
rounds can be worse: the result is the best stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from robustness.optimization.descent import CONVERGED
from robustness.optimization.lbfgs import Stage, minimize_rows
from robustness.optimization.spherical_codes import energies
from robustness.optimization.spherical_codes.bounds import best_bound
from robustness.optimization.spherical_codes.problem import (
    BATCH,
    SPENT,
    Problem,
    Spread,
    degrees,
    result,
    starts,
    unit,
    with_symmetric_starts,
)

_POWERS = (1.0, 8.0, 2.0, 32.0)
"""The exponents at which the annealing of start 0, 1, 2, ... begins; different ones find different codes."""
_LAST_POWER = 1024.0
_ROUNDS = 12
"""The largest number of multiplier rounds; four or five suffice where the contacts fix the vectors."""
_EXACT = 1e-11
"""The gap in cosine between the closest and the weighted mean contact at which a code counts as polished."""
_MANY = 500_000
"""The number of pairs above which there is one start and no polish, since no round would converge."""


@dataclass
class _Schedule:
    """The next stage of each start, and the choice of the starts to continue."""

    problem: Problem
    power: float | None
    bound: float
    warm: bool = False
    best: float = np.inf
    angles: dict[int, list[float]] = field(default_factory=dict)
    polished: dict[int, bool] = field(default_factory=dict)
    kept: dict[int, tuple[float, np.ndarray]] = field(default_factory=dict)

    def first(self, job: int) -> float:
        # Annealing from a low power would lose the warm start.
        annealed = 0.25 * _LAST_POWER if self.warm and job == 0 else _POWERS[job % len(_POWERS)]
        return self.power or annealed

    def renew(self, stage: Stage) -> tuple[np.ndarray, ...] | None:
        """Return the data with the next exponent or multipliers; None if the start is finished or dropped."""
        cosines = self.problem.cosines(unit(stage.point))
        largest = float(np.max(cosines))
        self.angles.setdefault(stage.job, []).append(degrees(largest))
        before = self.kept.get(stage.job, (np.inf, stage.point))[0]
        if largest <= before:
            self.kept[stage.job] = (largest, unit(stage.point))
        fixed, weights, power = stage.data
        if self.power is not None:
            self.polished[stage.job] = stage.status == CONVERGED
            return None
        shares = _shares(cosines, weights, float(power))
        mean = float(np.sum(shares * np.where(shares > 0, cosines, 0.0)))
        if power >= 256.0 and mean > self.best + 1e-6:
            return None  # even when polished, this start would be worse than the best one
        if largest - mean <= _EXACT or math.acos(max(-1.0, largest)) >= self.bound - 1e-12:
            self.best = min(self.best, largest)
            self.polished[stage.job] = largest <= before + _EXACT
            return None
        if power < _LAST_POWER:
            return fixed, weights, np.minimum(4.0 * power, _LAST_POWER)
        rounds = _ROUNDS if self.problem.pairs.size <= _MANY else 0
        if len(self.angles[stage.job]) >= rounds + 6:
            self.best = min(self.best, largest)
            return None
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(shares), -200.0)
        return fixed, np.where(self.problem.pairs < 0, energies.SELF, logs), power


def _shares(cosines: np.ndarray, weights: np.ndarray, power: float) -> np.ndarray:
    """The shares of the pairs in the weighted energy; they sum to 1."""
    squares = np.maximum(2.0 - 2.0 * cosines, 1e-12)
    exponents = np.where(
        weights < 0.1 * energies.SELF, -np.inf, weights - 0.5 * power * np.log(squares)
    )
    shares = np.exp(exponents - np.max(exponents))
    return shares / np.sum(shares)


def solve_large(  # noqa: PLR0917 - the data of one problem
    problem: Problem,
    power: float | None,
    seed: int,
    restarts: int | None,
    start: Any,
    steps: int | None,
    path: bool,
) -> Spread:
    """Find a large code: minimise the energy of one exponent (`power`), or anneal it and polish the result.

    Parameters
    ----------
    problem : Problem
        The vectors to find.
    power : float, optional
        The only exponent; None anneals it and adds the multiplier rounds.
    seed : int
        The seed of the random starts.
    restarts : int, optional
        The number of starts; None chooses by the size of the problem.
    start : array_like, shape (count, dim), optional
        The first start.
    steps : int, optional
        Evaluations in one stage; 150 by default, 20 times as many with `power`.
    path : bool
        Whether to keep the vectors of every step of the best start.
    """
    bound = best_bound(problem.count + len(problem.fixed), problem.dim, antipodal=problem.antipodal)
    schedule = _Schedule(problem, power, bound.angle, start is not None)
    size, evaluations = problem.pairs.size, steps or 150
    easy = bound.exact and power is None
    number = restarts or int(
        np.clip(400_000 / size * (0.02 if easy else 1.0), 4 if easy else 1, 64)
        * (1.0 if power is None else 1.5)
    )
    if size > _MANY and restarts is None:
        number = 1
    begin = starts(problem, seed, start, number)
    if power is not None:
        begin = with_symmetric_starts(problem, begin)

    def job(index: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        return begin[index], (problem.fixed, problem.pairs, np.array(schedule.first(index)))

    def jobs() -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        for index in range(number):
            if power is None and schedule.best <= math.cos(bound.angle) + 1e-9:
                return  # the bound is reached
            yield job(index)

    def solve(queue: Any, slots: int, schedule: _Schedule, each: Any = None) -> list[Stage]:
        return minimize_rows(
            energies.inverse_power,
            queue,
            slots=slots,
            steps=20 * evaluations if power is not None else evaluations,
            tolerance=1e-11 if power is None else 1e-10,
            renew=schedule.renew,
            each=each,
        )

    slots = int(np.clip(BATCH // size, 1, number))
    done = solve(jobs(), slots, schedule)
    if power is None:
        winner = min(schedule.kept, key=lambda job: schedule.kept[job][0])
        vectors = schedule.kept[winner][1]
    else:  # of equal losses a converged one
        final = min(done, key=lambda s: s.loss - 1e-12 * (s.status == CONVERGED))
        winner, vectors = final.job, unit(final.point)
    frames: list[np.ndarray] = []
    if path:  # run the best start again, alone, and record its points
        again = replace(schedule, best=np.inf, angles={}, polished={}, kept={})
        shift = [job(winner)]
        solve(
            iter(shift),
            1,
            again,
            lambda points, _: frames.append(unit(points[0].reshape(problem.count, -1))),
        )
        if not np.array_equal(frames[-1], vectors):  # the best stage need not be the last
            frames.append(vectors)
    return result(
        problem,
        vectors,
        schedule.angles[winner],
        CONVERGED if schedule.polished.get(winner, False) else SPENT,
        power or 1.0,
        np.stack(frames) if frames else None,
    )
