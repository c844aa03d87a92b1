"""Finds small spherical codes by short sweeps of many starts, linear programs, and perturbations.

A *sweep* lowers the energy of many starts in a few evaluations; linear programs polish the best results.
Random starts rarely reach some optima, which are close to other good codes: moving a vector of a good code
into its widest hole leads to them (a search from optimum to optimum, as in basin hopping: Wales and Doye
1997).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.numerics import prng
from robustness.optimization.descent import CONVERGED
from robustness.optimization.lbfgs import Stage, minimize_rows
from robustness.optimization.spherical_codes import energies
from robustness.optimization.spherical_codes.bounds import best_bound
from robustness.optimization.spherical_codes.polish import EXACT, PolishedCode, polish_codes
from robustness.optimization.spherical_codes.problem import (
    BATCH,
    SPENT,
    Problem,
    Spread,
    result,
    smallest,
    starts,
    unit,
)

_SWEEP = (4.0, 32.0, 256.0)
"""The exponents of a sweep. Its codes need not converge: only the best are continued."""
_SWEEP_STEPS = 25
"""The number of evaluations in a stage of a sweep."""
_PERTURBATIONS, _PATIENCE, _PERTURBED, _KEPT = 24, 7, 64, 8
"""The largest number of sweeps of perturbed codes; the number in a row without improvement that ends them;
the starts of each; and the largest number of codes that are perturbed."""
_FAR = (0.015, 0.05, 0.1)
"""The size of a perturbation, as a share of the smallest angle."""
_HOLES, _TRIED = 8, 1024
"""The number of holes into which vectors are moved: the widest of how many random points."""
_ROUGH = 1e-6
"""The accuracy, in cosine, to which codes are polished before one is chosen."""
_SWEEP_PAIRS = 2_500_000
"""The largest number of pairs in all starts of a sweep, so that it takes seconds."""


@dataclass(frozen=True)
class _Code:
    """A polished code, its start, and the history of its smallest angle (degrees)."""

    code: PolishedCode
    begin: np.ndarray
    powers: tuple[float, ...]
    angles: list[float]


def solve_small(
    problem: Problem, seed: int, restarts: int | None, start: Any, steps: int | None, path: bool
) -> Spread:
    """Find a small code by sweeps of many starts, each followed by linear programs for the best of them.

    The first sweep uses random starts, the others perturb the best codes so far.

    Parameters
    ----------
    problem : Problem
        The vectors to find.
    seed : int
        The seed of the random numbers.
    restarts : int, optional
        The number of starts of the first sweep; None chooses by the size of the problem.
    start : array_like, shape (count, dim), optional
        The first start.
    steps : int, optional
        Evaluations in one stage of a sweep; 25 by default.
    path : bool
        Whether to keep the vectors of every step of the best start.
    """
    size, count, swept = problem.pairs.size, problem.count, steps or _SWEEP_STEPS
    bound = best_bound(count + len(problem.fixed), problem.dim, antipodal=problem.antipodal)
    # Fewer for large codes: the time of a linear program grows with the square of its variables.
    most = int(np.clip(200_000 // (count * (problem.dim - 1)) ** 2, 4, 16))
    usual = 8 if bound.exact else int(np.clip(_SWEEP_PAIRS // size, 16, max(16, count**2)))
    number = restarts or usual
    rough = EXACT if bound.exact else _ROUGH
    # No code is better; a bound that is not known to be attained may never be reached.
    enough = math.cos(bound.angle) + 1e-12

    def refine(begin: np.ndarray, powers: tuple[float, ...]) -> list[_Code]:
        points, angles = _sweep(problem, begin, powers, swept)
        best = np.argsort([-ways[-1] for ways in angles], kind="stable")[:most]
        found = polish_codes(
            [points[i] for i in best], problem.cosines, problem.fixed, enough + rough, rough
        )
        return [
            _Code(one, begin[i], powers, angles[i]) for one, i in zip(found, best, strict=False)
        ]

    begin = starts(problem, seed, start, number)
    codes: list[_Code] = []
    if start is not None:  # the given code, polished, is a candidate too
        given = polish_codes(begin[:1], problem.cosines, problem.fixed)[0]
        codes.append(_Code(given, begin[0], (), []))
    codes += refine(begin, _SWEEP)
    idle = 0
    for turn in range(_PERTURBATIONS):
        best = min(code.code.largest for code in codes)
        agreed = turn > 0 and _agreed([code.code.largest for code in codes[-most:]], best)
        if best <= enough + rough or agreed:
            break
        codes += refine(_perturbed(problem, codes, seed, turn, min(number, _PERTURBED)), _SWEEP[1:])
        idle = 0 if min(code.code.largest for code in codes) < best - _ROUGH else idle + 1
        if idle == _PATIENCE:
            break
    finals = _differing(codes)[:3]
    exact = polish_codes(
        [code.code.vectors for code in finals], problem.cosines, problem.fixed, enough
    )
    winner, last = min(zip(finals, exact, strict=False), key=lambda pair: pair[1].largest)
    moves = np.concatenate([winner.code.moves, last.moves[1:]])
    frames: list[np.ndarray] = []
    if path:  # run the best start again, alone, and record its points
        if winner.powers:
            _sweep(
                problem,
                winner.begin[None],
                winner.powers,
                swept,
                lambda points, _: frames.append(unit(points[0].reshape(count, -1))),
            )
        frames.extend(moves)
    good = last.optimal or last.largest <= enough
    return result(
        problem,
        last.vectors,
        [*winner.angles, *(smallest(problem, x) for x in moves[bool(winner.angles) :])],
        CONVERGED if good else SPENT,
        1.0,
        np.stack(frames) if frames else None,
    )


def _agreed(largest: list[float], best: float) -> bool:
    """Whether nearly all of the best codes of a sweep are the same, so that a better one is unlikely."""
    same = np.array(largest) <= best + 2 * _ROUGH
    return len(largest) > 3 and float(np.mean(same)) > 0.85


def _sweep(
    problem: Problem,
    begin: np.ndarray,
    powers: tuple[float, ...],
    steps: int,
    each: Any = None,
) -> tuple[list[np.ndarray], list[list[float]]]:
    """Sweep starts (number, count, dim); return their vectors, and their smallest angle at each power."""
    angles: list[list[float]] = [[] for _ in begin]

    def renew(stage: Stage) -> tuple[np.ndarray, ...] | None:
        angles[stage.job].append(smallest(problem, unit(stage.point)))
        return None if stage.stage + 1 == len(powers) else data(powers[stage.stage + 1])

    def data(power: float) -> tuple[np.ndarray, ...]:
        return problem.fixed, pairs, np.array(power)

    pairs = problem.pairs
    found = minimize_rows(
        energies.inverse_power,
        ((one, data(powers[0])) for one in begin),
        slots=int(np.clip(BATCH // pairs.size, 1, len(begin))),
        steps=steps,
        tolerance=1e-6,
        memory=5,
        renew=renew,
        each=each,
    )
    return [unit(stage.point) for stage in found], angles


def _perturbed(
    problem: Problem, codes: list[_Code], seed: int, turn: int, number: int
) -> np.ndarray:
    """The best distinct codes with one or two vectors moved into a hole, (number, count, dim).

    All vectors are also moved slightly.
    """
    kept = [code.code for code in _differing(codes)[:_KEPT]]
    which = np.arange(number)
    moved = np.stack([kept[i].vectors for i in which % len(kept)])
    key = np.repeat(prng.key_for(seed, "shaking", problem.count, problem.dim)[None], number, axis=0)
    streams = (4 * (which + turn * number)).astype("int32")
    lots = np.asarray(prng.uniform(key, streams, (2, 2)), "float64")
    out = np.floor(lots[:, 0] * problem.count).astype(int)
    holes = np.stack([_holes(problem, one.vectors, seed, turn) for one in kept])
    into = np.floor(lots[:, 1] * _HOLES).astype(int)
    round_ = which // len(kept)
    for vector in range(2):
        some = which[round_ % 2 >= vector]
        moved[some, out[some, vector]] = holes[some % len(kept), into[some, vector]]
    noise = np.asarray(prng.normal(key, streams + 1, moved.shape[1:]), "float64")
    far = math.acos(min(1.0, max(-1.0, kept[0].largest))) * np.array(_FAR)
    return unit(moved + far[round_ // 2 % len(far), None, None] * noise)


def _holes(problem: Problem, vectors: np.ndarray, seed: int, turn: int) -> np.ndarray:
    """The points (_HOLES, dim) farthest from all vectors, among many random ones."""
    key = prng.key_for(seed, "holes", problem.count, problem.dim)[None]
    tried = unit(np.asarray(prng.normal(key, turn, (_TRIED, problem.dim)), "float64")[0])
    near = tried @ np.concatenate([vectors, problem.fixed]).T
    nearest = np.max(np.abs(near) if problem.antipodal else near, axis=1)
    return tried[np.argsort(nearest, kind="stable")[:_HOLES]]


def _differing(codes: list[_Code]) -> list[_Code]:
    """The codes without those of the same angle as another one, the best first."""
    kept: list[_Code] = []
    for code in sorted(codes, key=lambda code: code.code.largest):
        if not kept or code.code.largest > kept[-1].code.largest + 2 * _ROUGH:
            kept.append(code)
    return kept
