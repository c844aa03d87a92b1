"""Unit vectors as far apart as possible: spherical codes, Thomson's problem, and around fixed ones.

The best method, `loss="energy"`, is made of programs of the one loop. First the energy
``sum 1 / distance**p`` is lowered with p annealed upward, from many starts that share a batch. Then
the max-min problem itself is solved. Small codes: of hundreds of starts, annealed in haste, the
best are parted by linear programs (`parting`). Large ones: few starts, and the exponential method of
multipliers (Kort and Bertsekas 1972): at a fixed large p the pairs get weights, multiplied each
round by what the pair contributes; the weights converge to the multipliers of the active contacts, and
the vectors to a point that satisfies the conditions of a maximum, to about 1e-11. Nothing has to
guess the contacts.

The other losses are the article's, lowered with any Keras optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from robustness import draws
from robustness.errors import SettingError
from robustness.optimization import packing
from robustness.optimization.bounds import Bound, best_bound
from robustness.optimization.descent import CONVERGED, Step, minimize
from robustness.optimization.packing import directions
from robustness.optimization.parting import EXACT, Parted, part
from robustness.optimization.quasi_newton import Stage, minimize_rows

LOSSES: dict[str, Callable[[Any], Any]] = {
    "angle": packing.smallest_angle,
    "variance": packing.angle_and_variance,
    "force": packing.net_force,
}
"""The article's three losses by name; "energy" is the fourth, with a method of its own."""

_SPENT = "stages spent before the conditions of an optimum held"
_SWEEP = (4.0, 32.0, 256.0)
"""The exponents of a sweep. Its codes need not settle: only the best are gone on with."""
_SWEPT = 25
"""Evaluations in a stage of a sweep."""
_SHAKES, _SHAKEN, _KEPT = 5, 256, 8
"""Sweeps of shaken codes after the first, how many starts each has, and of how many codes at most."""
_FAR = (0.1, 0.15, 0.25)
"""How far a vector is shaken, as a share of the smallest angle."""
_ROUGH = 1e-6
"""How exactly, in cosine, codes are parted before one is chosen."""
_SWEEPING = 2_500_000
"""Pairs that all starts of a sweep may hold, so that it takes seconds."""
_PARTING = 300
"""Free numbers up to which linear programs are the better polish; they know rattlers too."""
_POWERS = (1.0, 8.0, 2.0, 32.0)
"""Where the annealing of start 0, 1, 2, ... begins: gentle and harsh ones find different codes."""
_LAST_POWER = 1024.0
_ROUNDS = 12
"""Multiplier rounds at most; four or five do where the contacts hold the vectors firmly."""
_EXACT = 1e-11
"""The gap between the closest and the weighted mean contact at which a code is polished."""
_MANY = 500_000
"""Pairs beyond which one start must do, and the polish is left out: no round of it would settle."""
_BATCH = 400_000
"""Pairs that a batch of starts may hold together: 3 MB an array, of which a step needs about ten."""


@dataclass(frozen=True)
class Spread:
    """Vectors (count, dim) and how far apart they are; angles in degrees.

    `energy` is ``sum over pairs of distance**-power``. `history` holds the smallest angle, along the
    steps of the article's losses, or after each stage of the energy and each linear program. `path`
    (frames, count, dim), where it was asked for, is how the vectors moved.
    """

    vectors: np.ndarray
    angle: float
    cosine: float
    energy: float
    power: float
    history: np.ndarray
    bound: Bound
    status: str
    path: np.ndarray | None = None

    @property
    def gap(self) -> float:
        """Degrees that are missing to the known optimum, or to the best bound."""
        return math.degrees(self.bound.angle) - self.angle

    @property
    def converged(self) -> bool:
        """Whether the conditions of a (local) optimum hold; False where only the steps ended."""
        return self.status == CONVERGED


def spread(
    count: int,
    dim: int,
    *,
    loss: str = "energy",
    power: float | None = None,
    seed: int = 0,
    restarts: int | None = None,
    start: Any = None,
    fixed: Any = None,
    antipodal: bool = False,
    steps: int | None = None,
    optimizer: Any = "adam",
    learning_rate: float | None = None,
    path: bool = False,
) -> Spread:
    """`count` unit vectors in `dim` dimensions, spread out.

    Parameters
    ----------
    loss: "energy", or one of the article's: "angle", "variance", "force".
    power: with "energy": stop at this exponent (1 is Thomson's problem) instead of annealing it.
    seed: of the random starts; the same seed, the same vectors.
    restarts: how many starts; None chooses by the size of the problem.
    start: (count, dim), a warm start: the first of the starts.
    fixed: (others, dim), vectors that stay; the new ones keep away from them too.
    antipodal: keep away from the negatives as well (lines instead of vectors).
    steps: of the article's losses (500), or evaluations in one stage of the energy: 25 in the sweep
        of a small code, 150 otherwise.
    optimizer, learning_rate: of the article's losses; see `descent.minimize`.
    path: keep every step's vectors of the winner.
    """
    problem = _problem(count, dim, fixed, antipodal)
    if steps is not None and steps < 1:
        raise SettingError(f"steps={steps}; expected a whole number of at least 1.")
    if restarts is not None and restarts < 1:
        raise SettingError(f"restarts={restarts}; expected a whole number of at least 1.")
    if count == 1 and not len(problem.fixed):
        only = _starts(problem, seed, start, 1)[0]
        return _result(problem, only, [], CONVERGED, 1.0, None)
    if loss == "energy":
        return _by_energy(problem, power, seed, restarts, start, steps, path)
    if loss not in LOSSES:
        known = ", ".join(["energy", *LOSSES])
        raise SettingError(f"loss={loss!r} is not known; expected one of {known}.")
    if len(problem.fixed) or antipodal or power is not None:
        raise SettingError(
            f"loss={loss!r} knows neither fixed vectors nor antipodal mode nor a power; "
            "use loss='energy' for those."
        )
    few = int(np.clip(_BATCH // problem.pairs.size, 1, 8))
    begin = _starts(problem, seed, start, restarts or few)
    number = steps or 500
    # These losses have a kink at their best, where a constant rate never comes to rest.
    rate = learning_rate or keras.optimizers.schedules.CosineDecay(0.02, number)
    return _by_descent(problem, loss, begin, optimizer, rate, number, path)


# --- the problem -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    count: int
    dim: int
    fixed: np.ndarray
    antipodal: bool

    @property
    def pairs(self) -> np.ndarray:
        """Log-weights (count, count + others [x 2]) that count every pair twice."""
        total = self.count + len(self.fixed)
        weights = np.zeros((self.count, total))
        weights[:, self.count :] = math.log(2.0)
        np.fill_diagonal(weights, packing.SELF)
        return np.concatenate([weights, weights], axis=1) if self.antipodal else weights

    def cosines(self, vectors: np.ndarray) -> np.ndarray:
        """With all others (and their negatives); -2 where a vector would meet itself."""
        around = np.concatenate([vectors, self.fixed])
        cosines = vectors @ around.T
        if self.antipodal:
            cosines = np.concatenate([cosines, -cosines], axis=1)
        return np.where(self.pairs < 0, -2.0, cosines)


def _problem(count: int, dim: int, fixed: Any, antipodal: bool) -> _Problem:
    for name, value, low in (("count", count, 1), ("dim", dim, 2)):
        if isinstance(value, bool) or int(value) != value or value < low:
            raise SettingError(f"{name}={value!r}; expected a whole number of at least {low}.")
    others = np.zeros((0, dim)) if fixed is None else directions(fixed, "fixed")
    if others.shape[1] != dim:
        raise SettingError(f"fixed has {others.shape[1]} columns; expected {dim}, the dimension.")
    return _Problem(int(count), int(dim), others, antipodal)


def _starts(problem: _Problem, seed: int, start: Any, number: int) -> np.ndarray:
    """Starts (number, count, dim): the warm one first, then directions drawn from the seed."""
    key = draws.key(seed, "spreading", problem.count, problem.dim)
    keys, streams = np.repeat(key[None], number, axis=0), np.arange(number, dtype="int32")
    noise = np.asarray(draws.normal(keys, streams, (problem.count, problem.dim)), "float64")
    begin = _unit(noise)
    if start is None:
        return begin
    warm = directions(start, "start")
    if warm.shape != begin.shape[1:]:
        raise SettingError(
            f"start of shape {warm.shape}; expected {begin.shape[1:]}: a vector in each row."
        )
    # Vectors that coincide push each other in no direction at all: part them a little.
    touching = np.any(problem.cosines(warm) > 1.0 - 1e-9, axis=1, keepdims=True)
    begin[0] = _unit(warm + 1e-3 * touching * noise[0])
    return begin


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-100)


def _result(
    problem: _Problem,
    vectors: np.ndarray,
    history: Any,
    status: str,
    power: float,
    path: np.ndarray | None,
) -> Spread:
    cosines = problem.cosines(vectors)
    largest = float(np.clip(np.max(cosines), -1.0, 1.0)) if cosines.size > 1 else -1.0
    weights = np.where(problem.pairs < 0, 0.0, 0.5 * np.exp(np.maximum(problem.pairs, 0.0)))
    distances = np.sqrt(np.maximum(2.0 - 2.0 * cosines, 1e-300))
    with np.errstate(over="ignore"):
        energy = float(np.sum(weights * distances**-power))
    return Spread(
        vectors=vectors,
        angle=math.degrees(math.acos(largest)),
        cosine=largest,
        energy=energy,
        power=power,
        history=np.asarray(history, "float64"),
        bound=best_bound(
            problem.count + len(problem.fixed), problem.dim, antipodal=problem.antipodal
        ),
        status=status,
        path=path,
    )


# --- the article's losses --------------------------------------------------------------------


def _by_descent(
    problem: _Problem,
    loss: str,
    begin: np.ndarray,
    optimizer: Any,
    rate: float,
    steps: int,
    path: bool,
) -> Spread:
    """Adam (or another) on all starts at once; the best scored point by smallest angle is kept."""
    history: list[np.ndarray] = []
    frames: list[np.ndarray] = []
    best = {"cosine": np.inf, "row": 0, "vectors": begin[0]}

    def watch(step: Step) -> None:
        cosines = np.array([np.max(problem.cosines(_unit(row))) for row in step.point])
        history.append(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))))
        row = int(np.argmin(cosines))
        if cosines[row] < best["cosine"]:
            best.update(cosine=cosines[row], row=row, vectors=_unit(step.point[row]))
        if path:
            frames.append(_unit(step.point))

    solution = minimize(
        LOSSES[loss],
        begin,
        optimizer=optimizer,
        learning_rate=rate,
        steps=steps,
        project=packing.unit,
        each=watch,
    )
    row = int(best["row"])
    return _result(
        problem,
        np.asarray(best["vectors"]),
        [angles[row] for angles in history],
        solution.status,
        1.0,
        np.stack([frame[row] for frame in frames]) if path else None,
    )


# --- energy, annealed and polished -----------------------------------------------------------


@dataclass
class _Schedule:
    """What comes after each stage of a start, and which starts are worth going on with."""

    problem: _Problem
    power: float | None
    bound: float
    warm: bool = False
    best: float = np.inf
    angles: dict[int, list[float]] = field(default_factory=dict)
    polished: dict[int, bool] = field(default_factory=dict)

    def first(self, job: int) -> float:
        # From low powers on, nothing of a warm start would be left.
        annealed = 0.25 * _LAST_POWER if self.warm and job == 0 else _POWERS[job % len(_POWERS)]
        return self.power or annealed

    def renew(self, stage: Stage) -> tuple[np.ndarray, ...] | None:
        """The next exponent, or the next multipliers, or None: finished or hopeless."""
        cosines = self.problem.cosines(_unit(stage.point))
        largest = float(np.max(cosines))
        self.angles.setdefault(stage.job, []).append(_degrees(largest))
        fixed, weights, power = stage.data
        if self.power is not None:
            self.polished[stage.job] = stage.status == CONVERGED
            return None
        shares = _shares(cosines, weights, float(power))
        mean = float(np.sum(shares * np.where(shares > 0, cosines, 0.0)))
        if power >= 256.0 and mean > self.best + 1e-6:
            return None  # even when polished, this start stays behind the best one
        if largest - mean <= _EXACT or math.acos(max(-1.0, largest)) >= self.bound - 1e-12:
            self.best = min(self.best, largest)
            self.polished[stage.job] = True
            return None
        if power < _LAST_POWER:
            return fixed, weights, np.minimum(4.0 * power, _LAST_POWER)
        rounds = _ROUNDS if self.problem.pairs.size <= _MANY else 0
        if len(self.angles[stage.job]) >= rounds + 6:
            self.best = min(self.best, largest)
            return None
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(shares), -200.0)
        return fixed, np.where(self.problem.pairs < 0, packing.SELF, logs), power


def _shares(cosines: np.ndarray, weights: np.ndarray, power: float) -> np.ndarray:
    """What each pair contributes to the weighted energy; they add up to 1."""
    squares = np.maximum(2.0 - 2.0 * cosines, 1e-12)
    exponents = np.where(
        weights < 0.1 * packing.SELF, -np.inf, weights - 0.5 * power * np.log(squares)
    )
    shares = np.exp(exponents - np.max(exponents))
    return shares / np.sum(shares)


def _by_energy(
    problem: _Problem,
    power: float | None,
    seed: int,
    restarts: int | None,
    start: Any,
    steps: int | None,
    path: bool,
) -> Spread:
    if power is not None and not (math.isfinite(power) and power > 0):
        raise SettingError(f"power={power:g}; expected a number above 0.")
    if power is None and problem.count * (problem.dim - 1) <= _PARTING:
        return _by_parting(problem, seed, restarts, start, steps or _SWEPT, path)
    return _by_multipliers(problem, power, seed, restarts, start, steps or 150, path)


@dataclass(frozen=True)
class _Code:
    """A code that was parted, where it began, and its smallest angle on the way (degrees)."""

    parted: Parted
    begin: np.ndarray
    powers: tuple[float, ...]
    angles: list[float]


def _by_parting(
    problem: _Problem, seed: int, restarts: int | None, start: Any, steps: int, path: bool
) -> Spread:
    """Sweeps of many starts in haste, each followed by linear programs for the best of them.

    The first sweep is of random starts, the others of the best codes so far, shaken: some optima are
    hardly ever met from afar, but lie next to good ones.
    """
    size, count = problem.pairs.size, problem.count
    bound = best_bound(count + len(problem.fixed), problem.dim, antipodal=problem.antipodal)
    enough = math.cos(bound.angle) + 1e-12 if bound.exact else -2.0
    most = int(np.clip(4000 // (count * (problem.dim - 1)), 4, 16))
    usual = 8 if bound.exact else int(np.clip(_SWEEPING // size, 16, max(16, count**2)))
    number = restarts or usual
    rough = EXACT if bound.exact else _ROUGH

    def refine(begin: np.ndarray, powers: tuple[float, ...]) -> list[_Code]:
        points, angles = _sweep(problem, begin, powers, steps)
        best = np.argsort([-ways[-1] for ways in angles], kind="stable")[:most]
        found = part([points[i] for i in best], problem.cosines, problem.fixed, enough, rough)
        return [
            _Code(one, begin[i], powers, angles[i]) for one, i in zip(found, best, strict=False)
        ]

    begin = _starts(problem, seed, start, number)
    codes: list[_Code] = []
    if start is not None:  # what was given counts as it is, too
        given = part(begin[:1], problem.cosines, problem.fixed)[0]
        codes.append(_Code(given, begin[0], (), []))
    codes += refine(begin, _SWEEP)
    for turn in range(_SHAKES):
        best = min(code.parted.largest for code in codes)
        if best <= enough or _agreed([code.parted.largest for code in codes[-most:]], best):
            break
        codes += refine(_shaken(problem, codes, seed, turn, min(number, _SHAKEN)), _SWEEP[1:])
    finals = _differing(codes)[:3]
    exact = part([code.parted.vectors for code in finals], problem.cosines, problem.fixed, enough)
    winner, last = min(zip(finals, exact, strict=False), key=lambda pair: pair[1].largest)
    moves = np.concatenate([winner.parted.moves, last.moves[1:]])
    frames: list[np.ndarray] = []
    if path:  # walk the winner's way once more, alone, and watch it
        if winner.powers:
            _sweep(
                problem,
                winner.begin[None],
                winner.powers,
                steps,
                lambda points, _: frames.append(_unit(points[0].reshape(count, -1))),
            )
        frames.extend(moves)
    good = last.optimal or last.largest <= enough
    return _result(
        problem,
        last.vectors,
        [*winner.angles, *(_smallest(problem, x) for x in moves[bool(winner.angles) :])],
        CONVERGED if good else _SPENT,
        1.0,
        np.stack(frames) if frames else None,
    )


def _agreed(largest: list[float], best: float) -> bool:
    """Whether nearly all of a sweep's best are one and the same code: then nothing is hidden."""
    same = np.array(largest) <= best + 2 * _ROUGH
    return len(largest) > 3 and float(np.mean(same)) > 0.85


def _sweep(
    problem: _Problem,
    begin: np.ndarray,
    powers: tuple[float, ...],
    steps: int,
    each: Any = None,
) -> tuple[list[np.ndarray], list[list[float]]]:
    """Where starts (number, count, dim) get to in haste, and their smallest angle at each power."""
    angles: list[list[float]] = [[] for _ in begin]

    def renew(stage: Stage) -> tuple[np.ndarray, ...] | None:
        angles[stage.job].append(_smallest(problem, _unit(stage.point)))
        return None if stage.stage + 1 == len(powers) else data(powers[stage.stage + 1])

    def data(power: float) -> tuple[np.ndarray, ...]:
        return problem.fixed, pairs, np.array(power)

    pairs = problem.pairs
    found = minimize_rows(
        packing.inverse_power,
        ((one, data(powers[0])) for one in begin),
        slots=int(np.clip(_BATCH // pairs.size, 1, len(begin))),
        steps=steps,
        tolerance=1e-6,
        memory=5,
        renew=renew,
        each=each,
    )
    return [_unit(stage.point) for stage in found], angles


def _shaken(problem: _Problem, codes: list[_Code], seed: int, turn: int, number: int) -> np.ndarray:
    """The best codes that differ, each of their vectors moved a little, (number, count, dim).

    In every other one, a vector is thrown somewhere else besides.
    """
    kept = [code.parted for code in _differing(codes)[:_KEPT]]
    which = np.arange(number)
    base = np.stack([kept[i].vectors for i in which % len(kept)])
    key = draws.key(seed, "shaking", problem.count, problem.dim)
    streams = (which + turn * number).astype("int32")
    noise = np.asarray(
        draws.normal(np.repeat(key[None], number, axis=0), streams, base.shape[1:]), "float64"
    )
    round_ = which // len(kept)
    far = math.acos(min(1.0, max(-1.0, kept[0].largest))) * np.array(_FAR)
    moved = base + far[round_ // 2 % len(far), None, None] * noise
    thrown = which[round_ % 2 == 1]
    moved[thrown, thrown % problem.count] = noise[thrown, thrown % problem.count]
    return _unit(moved)


def _differing(codes: list[_Code]) -> list[_Code]:
    """Without those as good as another, the best one first."""
    kept: list[_Code] = []
    for code in sorted(codes, key=lambda code: code.parted.largest):
        if not kept or code.parted.largest > kept[-1].parted.largest + 2 * _ROUGH:
            kept.append(code)
    return kept


def _smallest(problem: _Problem, vectors: np.ndarray) -> float:
    return _degrees(float(np.max(problem.cosines(vectors))))


def _degrees(cosine: float) -> float:
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def _by_multipliers(
    problem: _Problem,
    power: float | None,
    seed: int,
    restarts: int | None,
    start: Any,
    steps: int,
    path: bool,
) -> Spread:
    """One energy to the end (`power`), or annealed, and the exponential method of multipliers."""
    bound = best_bound(problem.count + len(problem.fixed), problem.dim, antipodal=problem.antipodal)
    schedule = _Schedule(
        problem, power, bound.angle if bound.exact else math.inf, start is not None
    )
    size = problem.pairs.size
    easy = bound.exact and power is None
    number = restarts or int(
        np.clip(400_000 / size * (0.02 if easy else 1.0), 4 if easy else 1, 64)
    )
    if size > _MANY and restarts is None:
        number = 1
    begin = _starts(problem, seed, start, number)

    def job(index: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        return begin[index], (problem.fixed, problem.pairs, np.array(schedule.first(index)))

    def jobs() -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        for index in range(number):
            if power is None and schedule.best <= math.cos(bound.angle) + 1e-9 and bound.exact:
                return  # nobody can do better
            yield job(index)

    def solve(queue: Any, slots: int, schedule: _Schedule, each: Any = None) -> list[Stage]:
        return minimize_rows(
            packing.inverse_power,
            queue,
            slots=slots,
            steps=20 * steps if power is not None else steps,
            tolerance=1e-11 if power is None else 1e-10,
            renew=schedule.renew,
            each=each,
        )

    slots = int(np.clip(_BATCH // size, 1, number))
    done = solve(jobs(), slots, schedule)
    finals = {stage.job: stage for stage in done}
    rank = (
        (lambda s: s.loss)
        if power is not None
        else (lambda s: float(np.max(problem.cosines(_unit(s.point)))))
    )
    winner = min(finals.values(), key=rank)
    frames: list[np.ndarray] = []
    if path:  # walk the winner's way once more, alone, and watch it
        again = replace(schedule, best=np.inf, angles={}, polished={})
        shift = [job(winner.job)]
        solve(
            iter(shift),
            1,
            again,
            lambda points, _: frames.append(_unit(points[0].reshape(problem.count, -1))),
        )
    good = schedule.polished.get(winner.job, False)
    return _result(
        problem,
        _unit(winner.point),
        schedule.angles[winner.job],
        CONVERGED if good else _SPENT,
        power or 1.0,
        np.stack(frames) if frames else None,
    )
