"""Separates the closest pairs of a spherical code by successive linear programs.

Minimax by successive linear programs in a trust region (Madsen 1975). To first order a cosine is linear in
moves along the sphere. The move that decreases the largest cosine most, with no entry beyond the radius,
therefore solves a linear program over the pairs that can become the closest. The decrease that this program
predicts also measures the distance from a (local) optimum: where it is 0, the conditions of an optimum hold.
Vectors without a contact, whose position is not determined (rattlers), are permitted. Runs as a program of
`iterate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from robustness.optimization.iterate import iterate

_RADIUS = 0.03
"""The largest entry of the first move, in radians."""
_STEPS = 60
EXACT = 1e-12
"""The largest predicted decrease, in cosine, at which a code counts as optimal."""
_FIRM = 1e-7
"""The radius below which a small predicted decrease does not show that a code is optimal."""


@dataclass(frozen=True)
class PolishedCode:
    """A polished code.

    Attributes
    ----------
    vectors : numpy.ndarray, shape (count, dim)
        Unit vectors.
    largest : float
        Their largest cosine.
    optimal : bool
        Whether they are a (local) optimum.
    moves : numpy.ndarray, shape (steps + 1, count, dim)
        The vectors at the start and after each accepted step.
    """

    vectors: np.ndarray
    largest: float
    optimal: bool
    moves: np.ndarray


def polish_codes(
    starts: Iterable[np.ndarray],
    cosines: Callable[[np.ndarray], np.ndarray],
    fixed: np.ndarray,
    enough: float = -2.0,
    promise: float = EXACT,
) -> list[PolishedCode]:
    """Separate the closest pairs of every start, in the order of the starts.

    Parameters
    ----------
    starts : iterable of numpy.ndarray, shape (count, dim)
        Unit vectors.
    cosines : callable
        Returns the cosines of vectors with themselves and with `fixed`, (count, count + others), or twice as
        wide: then those with the negatives of all follow. At most -2 for excluded pairs.
    fixed : numpy.ndarray, shape (others, dim)
        Unit vectors that do not move.
    enough : float
        Once the largest cosine of a code is at most this, later starts are left out.
    promise : float
        A code is optimal where a linear program predicts a decrease of at most this, in cosine.

    Returns
    -------
    list of PolishedCode
        One for each start that was not left out.
    """
    queue = iter(enumerate(starts))
    program = _Program(cosines, fixed, promise)

    def take() -> tuple[int, np.ndarray] | None:
        met = any(one.largest <= enough for one in program.done.values())
        return None if met else next(queue, None)

    iterate(program, take)
    return [program.done[job] for job in sorted(program.done)]


@dataclass(frozen=True)
class _State:
    vectors: np.ndarray
    cosines: np.ndarray
    radius: float
    moves: tuple[np.ndarray, ...]
    steps: int = 0
    optimal: bool = False

    @property
    def largest(self) -> float:
        return float(np.max(self.cosines))


@dataclass
class _Program:
    cosines: Callable[[np.ndarray], np.ndarray]
    fixed: np.ndarray
    promise: float
    done: dict[int, PolishedCode] = field(default_factory=dict)

    def enter(
        self, state: _State | None, places: Sequence[int], jobs: Sequence[tuple[int, np.ndarray]]
    ) -> _State:
        vectors = np.array(jobs[0][1])
        return _State(vectors, self.cosines(vectors), _RADIUS, (vectors,))

    def advance(self, state: _State) -> tuple[_State, np.ndarray]:
        promised, vectors = self._move(state)
        if promised <= self.promise or state.steps >= _STEPS:
            optimal = promised <= self.promise and state.radius >= _FIRM
            return replace(state, optimal=optimal), np.array([True])
        cosines = self.cosines(vectors)
        kept = (state.largest - float(np.max(cosines))) / promised
        grown = 1.5 if kept > 0.7 else 1.0 if kept > 0.25 else 0.3 if kept > -1.0 else 0.1
        after = replace(state, radius=state.radius * grown, steps=state.steps + 1)
        if kept > 0.05:
            moves = (*state.moves, vectors)
            after = replace(after, vectors=vectors, cosines=cosines, moves=moves)
        return after, np.array([False])

    def leave(
        self, state: _State, places: Sequence[int], jobs: Sequence[tuple[int, np.ndarray]]
    ) -> Sequence[bool]:
        self.done[jobs[0][0]] = PolishedCode(
            state.vectors, state.largest, state.optimal, np.stack(state.moves)
        )
        return [True]

    def _move(self, state: _State) -> tuple[float, np.ndarray]:
        """The decrease that the linear program predicts (NaN if it fails), and the vectors after its move."""
        x, radius = state.vectors, state.radius
        count, dim = x.shape
        around = np.concatenate([x, self.fixed])
        total, width = len(around), dim - 1
        # Two moves bring a pair closer by at most their lengths; pairs of moving vectors are listed twice.
        near = state.cosines > state.largest - 2.5 * radius * np.sqrt(width)
        first, column = np.nonzero(near)
        second, sign = column % total, np.where(column < total, 1.0, -1.0)
        once = (second >= count) | (first < second)
        first, second, sign = first[once], second[once], sign[once]
        tangents = _tangents(x)
        gap = (state.largest - sign * np.sum(x[first] * around[second], axis=1)) / radius
        ahead = sign[:, None] * np.einsum("pdk,pd->pk", tangents[first], around[second])
        back = sign[:, None] * np.einsum(
            "pdk,pd->pk", tangents[np.minimum(second, count - 1)], x[first]
        )
        back[second >= count] = 0.0
        entries = np.arange(width)
        places = np.concatenate(
            [
                first[:, None] * width + entries,
                np.minimum(second, count - 1)[:, None] * width + entries,
                np.full((len(first), 1), count * width),
            ],
            axis=1,
        )
        values = np.concatenate([ahead, back, -np.ones((len(first), 1))], axis=1)
        rows = np.repeat(np.arange(len(first)), 2 * width + 1)
        table = csr_matrix(
            (values.ravel(), (rows, places.ravel())), shape=(len(first), count * width + 1)
        )
        # In units of the radius, so that the solver's tolerance shrinks with it.
        # No variable is an integer; `linprog`, with the same solver, takes twice as long around it.
        solved = milp(
            np.append(np.zeros(count * width), 1.0),
            constraints=LinearConstraint(table, ub=gap),
            bounds=Bounds(
                np.append(np.full(count * width, -1.0), -10.0 * dim),
                np.append(np.ones(count * width), 0.0),
            ),
        )
        if solved.x is None:
            return np.nan, x
        steps = radius * np.einsum("ndk,nk->nd", tangents, solved.x[:-1].reshape(count, width))
        moved = x + steps
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        return -radius * float(solved.fun), moved


def _tangents(x: np.ndarray) -> np.ndarray:
    """An orthonormal basis (count, dim, dim - 1) of the complement of each unit vector, by Householder."""
    mirror = x.copy()
    mirror[:, 0] += np.where(x[:, 0] >= 0, 1.0, -1.0)
    squares = np.sum(mirror * mirror, axis=1)
    whole = (
        np.eye(x.shape[1]) - 2.0 * mirror[:, :, None] * mirror[:, None, :] / squares[:, None, None]
    )
    return whole[:, :, 1:]
