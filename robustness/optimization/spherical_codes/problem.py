"""Spherical codes (unit vectors as far apart as possible): the problem, its starts, and its result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.errors import SettingError
from robustness.numerics import prng
from robustness.optimization.descent import CONVERGED
from robustness.optimization.spherical_codes import energies
from robustness.optimization.spherical_codes.bounds import Bound, best_bound
from robustness.optimization.spherical_codes.energies import directions

SPENT = "stages spent before the conditions of an optimum held"
BATCH = 400_000
"""The largest number of pairs in a batch of starts: 3 MB per array; a step needs about ten arrays."""

_ORDERS = (3, 2, 5)
"""Orders of the rotations under which some starts are symmetric."""


@dataclass(frozen=True)
class Spread:
    """A spherical code and its quality.

    Attributes
    ----------
    vectors : numpy.ndarray, shape (count, dim)
        The unit vectors: the best of all stages.
    angle : float
        The smallest angle between two vectors, in degrees.
    cosine : float
        The largest cosine of two vectors.
    energy : float
        ``sum over pairs of distance**-power``.
    power : float
        The exponent of `energy`.
    history : numpy.ndarray
        The smallest angle in degrees: after each step of the article's losses, or after each stage of the
        energy and each linear program.
    bound : Bound
        The known optimum or the best upper bound.
    status : str
        How the search ended.
    path : numpy.ndarray, shape (frames, count, dim), optional
        The vectors during the search; None unless requested.
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
        """The known optimum, or the best bound, minus `angle`, in degrees."""
        return math.degrees(self.bound.angle) - self.angle

    @property
    def converged(self) -> bool:
        """Whether the conditions of a (local) optimum hold; False if the steps were spent first."""
        return self.status == CONVERGED


@dataclass(frozen=True)
class Problem:
    """A spherical code to find: `count` free unit vectors in `dim` dimensions, beside `fixed` (others, dim).

    With `antipodal`, the negative of every vector is a vector of the code too.
    """

    count: int
    dim: int
    fixed: np.ndarray
    antipodal: bool

    @property
    def pairs(self) -> np.ndarray:
        """The log-weights (count, count + others [x 2]), with which every pair counts twice."""
        total = self.count + len(self.fixed)
        weights = np.zeros((self.count, total))
        weights[:, self.count :] = math.log(2.0)
        np.fill_diagonal(weights, energies.SELF)
        return np.concatenate([weights, weights], axis=1) if self.antipodal else weights

    def cosines(self, vectors: np.ndarray) -> np.ndarray:
        """Return the cosines with all vectors (and their negatives), -2 for a vector with itself."""
        around = np.concatenate([vectors, self.fixed])
        cosines = vectors @ around.T
        if self.antipodal:
            cosines = np.concatenate([cosines, -cosines], axis=1)
        return np.where(self.pairs < 0, -2.0, cosines)


def checked_problem(count: int, dim: int, fixed: Any, antipodal: bool) -> Problem:
    """Check the arguments of a problem and return it.

    Raises
    ------
    SettingError
        `count` is not a whole number of at least 1, `dim` is not one of at least 2, or `fixed` does not have
        `dim` columns.
    """
    for name, value, low in (("count", count, 1), ("dim", dim, 2)):
        if isinstance(value, bool) or int(value) != value or value < low:
            raise SettingError(f"{name}={value!r}; expected a whole number of at least {low}.")
    others = np.zeros((0, dim)) if fixed is None else directions(fixed, "fixed")
    if others.shape[1] != dim:
        raise SettingError(f"fixed has {others.shape[1]} columns; expected {dim}, the dimension.")
    return Problem(int(count), int(dim), others, antipodal)


def starts(problem: Problem, seed: int, start: Any, number: int) -> np.ndarray:
    """Return starts (number, count, dim): `start` first if given, the others random.

    Raises
    ------
    SettingError
        `start` does not have the shape (count, dim).
    """
    key = prng.key_for(seed, "spreading", problem.count, problem.dim)
    keys, streams = np.repeat(key[None], number, axis=0), np.arange(number, dtype="int32")
    noise = np.asarray(prng.normal(keys, streams, (problem.count, problem.dim)), "float64")
    begin = unit(noise)
    if start is None:
        return begin
    warm = directions(start, "start")
    if warm.shape != begin.shape[1:]:
        raise SettingError(
            f"start of shape {warm.shape}; expected {begin.shape[1:]}: a vector in each row."
        )
    # The repulsion of two equal vectors has no direction: separate them slightly.
    touching = np.any(problem.cosines(warm) > 1.0 - 1e-9, axis=1, keepdims=True)
    begin[0] = unit(warm + 1e-3 * touching * noise[0])
    return begin


def with_symmetric_starts(problem: Problem, begin: np.ndarray) -> np.ndarray:
    """Return the starts (number, count, dim), every third replaced by a nearly symmetric one.

    A symmetric start consists of whole orbits of a rotation.

    Notes
    -----
    Descent mostly preserves a symmetry, and some of the best configurations are symmetric ones that no other
    start leads to (78 charges on the sphere: none of 256 random starts, most of those that are invariant
    under a third of a turn). The starts are perturbed by a thousandth, so that descent does not stay at a
    symmetric point that is not a minimum.
    """
    planes = (problem.dim - 1) // 2
    line = problem.dim - 2 * planes == 1
    orders = [q for q in _ORDERS if problem.count >= q and (problem.count % q <= 2 or not line)]
    if not planes or not orders or len(problem.fixed):
        return begin
    made = begin.copy()
    for place, index in enumerate(range(2, len(begin), 3)):
        order = orders[place % len(orders)]
        whole, rest = divmod(problem.count, order)
        angle = 2.0 * math.pi / order
        turn = np.eye(problem.dim)
        for first in range(0, 2 * planes, 2):
            cosine, sine = math.cos(angle), math.sin(angle)
            turn[first : first + 2, first : first + 2] = [[cosine, -sine], [sine, cosine]]
        orbits = [begin[index, :whole] @ np.linalg.matrix_power(turn, k) for k in range(order)]
        still = begin[index, whole : whole + rest].copy()
        still[:, : 2 * planes] = 0.0
        if line:  # the rotation fixes two points
            still[:, -1] = [1.0, -1.0][:rest]
        made[index] = unit(np.concatenate([*orbits, unit(still)]) + 1e-3 * begin[index])
    return made


def unit(x: np.ndarray) -> np.ndarray:
    """Return `x` scaled to unit Euclidean length along its last axis."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-100)


def result(
    problem: Problem,
    vectors: np.ndarray,
    history: Any,
    status: str,
    power: float,
    path: np.ndarray | None,
) -> Spread:
    """Return the `Spread` of `vectors` (count, dim), with its angle, cosine, energy and bound."""
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


def smallest(problem: Problem, vectors: np.ndarray) -> float:
    """Return the smallest angle of the vectors, in degrees."""
    return degrees(float(np.max(problem.cosines(vectors))))


def degrees(cosine: float) -> float:
    """Return the angle of a cosine, in degrees; cosines beyond [-1, 1] are clipped."""
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
