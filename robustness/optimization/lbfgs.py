"""L-BFGS on many independent rows, as a program of `iterate`.

Problem: minimise ``loss(point, *data)`` of each row. Update: ``point <- point - length * H gradient``; H
approximates the inverse Hessian from the last pairs of differences (two-loop recursion, Liu and Nocedal 1989,
"On the limited memory BFGS method", Algorithm 2.1) and `length` comes from backtracking until Armijo's
condition holds. Where rounding hides the decrease, the approximate Wolfe conditions of Hager and Zhang 2005
decide.

One `advance` evaluates the trial point of every row once: a row whose trial meets the condition moves, the
others shorten their step. A row that has converged, or has spent its steps, ends a *stage* and is passed to
`renew`. That returns new data for a further stage (the next exponent of a continuation, new multipliers), or
None to end the row; then the next start takes its slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robustness.optimization.descent import CONVERGED, SPENT, Loss, Pieces, value_and_gradient
from robustness.optimization.iterate import iterate

_SUFFICIENT = 1e-4
"""Armijo's constant: the share of the predicted decrease that a step must achieve."""
_SHORTEST = 1e-9
"""Shortest step length, as a fraction of the direction; below it the direction is discarded."""
_ROUNDING = 1e-12
"""Relative change of the value below which it may be rounding error; there the slope decides."""


@dataclass(frozen=True)
class Stage:
    """The end of a stage of a row.

    Attributes
    ----------
    job : int
        The number of the job, from 0 on.
    stage : int
        The number of the stage, from 0 on.
    point, gradient : numpy.ndarray
        The last accepted point, and the gradient there; shaped like the start.
    loss : float
        The loss at `point`.
    data : tuple of numpy.ndarray
        The row's data in this stage.
    steps : int
        Evaluations spent in this stage.
    status : str
        `CONVERGED` or `SPENT`.
    """

    job: int
    stage: int
    point: np.ndarray
    loss: float
    gradient: np.ndarray
    data: tuple[np.ndarray, ...]
    steps: int
    status: str


Renew = Callable[[Stage], tuple[np.ndarray, ...] | None]


def minimize_rows(  # noqa: PLR0913 - the constants of L-BFGS; keywords with defaults
    loss: Loss,
    jobs: Iterable[tuple[np.ndarray, tuple[np.ndarray, ...]]],
    *,
    slots: int,
    steps: int | Callable[[int], int] = 200,
    tolerance: float = 1e-9,
    memory: int = 10,
    renew: Renew | None = None,
    each: Callable[[np.ndarray, np.ndarray], None] | None = None,
    pieces: Pieces | None = None,
) -> list[Stage]:
    """Minimise the loss of each row; return the last stage of every job, in the order of the jobs.

    Parameters
    ----------
    loss : callable
        ``loss(points (slots, ...), *data (slots, ...)) -> (slots,)``; rows are independent.
    jobs : iterable of tuple
        For each job the start and its row of `data`.
    slots : int
        The number of rows that advance together.
    steps : int or callable
        The largest number of evaluations of a row in one stage, or a function from the stage's number to it.
    tolerance : float
        A row has converged when no entry of its gradient exceeds this in absolute value.
    memory : int
        The number of pairs of differences that approximate the curvature.
    renew : callable, optional
        Takes a `Stage` and returns the row's data for the next one, or None to end the row; without it every
        row ends after its first stage.
    each : callable, optional
        Called after every `advance` with the points (slots, ...) and losses (slots,).
    pieces : callable, optional
        Further data, the same for all rows, over which the losses are added up; see `Pieces`.
    """
    queue = iter(enumerate(jobs))
    allowed = steps if callable(steps) else lambda stage: steps
    heard = renew or (lambda stage: None)
    program = _Program(loss, slots, allowed, tolerance, memory, heard, pieces)
    show = None if each is None else lambda rows: each(rows.point, rows.value)
    iterate(program, lambda: next(queue, None), slots=slots, each=show)
    return [program.done[job] for job in sorted(program.done)]


@dataclass
class _Rows:
    """The arrays of all slots; `pairs` (memory, 2, slots, size) holds differences, the newest last."""

    point: np.ndarray
    trial: np.ndarray
    value: np.ndarray
    gradient: np.ndarray
    direction: np.ndarray
    length: np.ndarray
    fresh: np.ndarray
    spent: np.ndarray
    stage: np.ndarray
    stuck: np.ndarray
    pairs: np.ndarray
    data: list[np.ndarray]


@dataclass
class _Program:
    loss: Loss
    slots: int
    allowed: Callable[[int], int]
    tolerance: float
    memory: int
    renew: Renew
    pieces: Pieces | None = None
    done: dict[int, Stage] = field(default_factory=dict)
    look: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None

    def enter(self, state: _Rows | None, places: Sequence[int], jobs: Sequence[Any]) -> _Rows:
        rows = state or self._empty(jobs[0][1])
        for place, (_, (start, data)) in zip(places, jobs, strict=True):
            rows.point[place] = np.ravel(start)
            rows.stage[place] = 0
            self._load(rows, place, data)
        return rows

    def _empty(self, job: tuple[np.ndarray, tuple[np.ndarray, ...]]) -> _Rows:
        # Slots without a job hold the first job's arrays, so that their values are defined.
        start, data = np.asarray(job[0], "float64"), job[1]
        self.shape = start.shape
        point = np.repeat(np.ravel(start)[None], self.slots, axis=0)
        zeros = np.zeros(self.slots)
        return _Rows(
            point=point,
            trial=point.copy(),
            value=zeros.copy(),
            gradient=np.zeros_like(point),
            direction=np.zeros_like(point),
            length=zeros.copy(),
            fresh=np.ones(self.slots, bool),
            spent=np.zeros(self.slots, int),
            stage=np.zeros(self.slots, int),
            stuck=np.zeros(self.slots, bool),
            pairs=np.zeros((self.memory, 2, *point.shape)),
            data=[np.repeat(np.asarray(d, "float64")[None], self.slots, axis=0) for d in data],
        )

    def _load(self, rows: _Rows, place: int, data: tuple[np.ndarray, ...]) -> None:
        for array, new in zip(rows.data, data, strict=True):
            array[place] = new
        self.look = None
        rows.trial[place] = rows.point[place]
        rows.fresh[place] = True
        rows.stuck[place] = False
        rows.spent[place] = 0
        rows.pairs[:, :, place] = 0.0

    def advance(self, rows: _Rows) -> tuple[_Rows, np.ndarray]:
        if self.look is None:  # data changes only between stages
            self.look = value_and_gradient(self.loss, rows.data, self.pieces)
        value, slopes = self.look(rows.trial.reshape(self.slots, *self.shape))
        gradient = slopes.reshape(self.slots, -1)

        promised = np.sum(rows.gradient * rows.direction, axis=1) * rows.length
        # Hager and Zhang's test, for changes below the rounding error of the values: the slope at the trial
        # is flatter, and has not become positive by as much as it was negative.
        ahead = np.sum(gradient * rows.direction, axis=1) * rows.length
        with np.errstate(invalid="ignore"):
            lower = value <= rows.value + _SUFFICIENT * promised
            level = np.abs(value - rows.value) <= _ROUNDING * np.abs(rows.value)
            level &= (ahead <= -0.8 * promised) & (ahead >= 0.9 * promised)
            good = rows.fresh | ((lower | level) & np.all(np.isfinite(gradient), axis=1))
        rows.spent += 1
        self._remember(rows, good & ~rows.fresh, gradient)
        column = good[:, None]
        rows.point = np.where(column, rows.trial, rows.point)
        rows.gradient = np.where(column, gradient, rows.gradient)
        self._shorten(rows, ~good, value, promised)
        rows.value = np.where(good, value, rows.value)
        self._aim(rows, good)
        rows.fresh[:] = False
        rows.trial = rows.point + rows.length[:, None] * rows.direction

        spent = rows.spent >= np.array([self.allowed(s) for s in rows.stage])
        return rows, spent | rows.stuck | self._converged(rows)

    def _converged(self, rows: _Rows) -> np.ndarray:
        return np.max(np.abs(rows.gradient), axis=1) <= self.tolerance

    def _remember(self, rows: _Rows, moved: np.ndarray, gradient: np.ndarray) -> None:
        step, change = rows.trial - rows.point, gradient - rows.gradient
        curved = np.sum(step * change, axis=1) > 1e-14 * np.sum(change * change, axis=1)
        keep = np.flatnonzero(moved & curved)
        rows.pairs[:-1, :, keep] = rows.pairs[1:, :, keep]
        rows.pairs[-1, 0, keep] = step[keep]
        rows.pairs[-1, 1, keep] = change[keep]

    def _shorten(
        self, rows: _Rows, bad: np.ndarray, value: np.ndarray, promised: np.ndarray
    ) -> None:
        """Shorten steps to the minimum of the parabola through value, slope and trial, times 0.1 to 0.5."""
        with np.errstate(all="ignore"):
            factor = -promised / (2.0 * (value - rows.value - promised))
        factor = np.clip(np.nan_to_num(factor, nan=0.1, posinf=0.5, neginf=0.1), 0.1, 0.5)
        rows.length = np.where(bad, rows.length * factor, rows.length)
        hopeless = bad & (rows.length < _SHORTEST)
        blank = ~np.any(rows.pairs[-1, 0], axis=1)
        rows.stuck |= hopeless & blank
        again = np.flatnonzero(hopeless & ~blank)
        rows.pairs[:, :, again] = 0.0
        self._aim(rows, hopeless & ~blank)

    def _aim(self, rows: _Rows, which: np.ndarray) -> None:
        """Set new directions by the two-loop recursion; the first of a stage is a short gradient step."""
        if not np.any(which):
            return
        q, pairs = rows.gradient[which], rows.pairs[:, :, which]
        steps, changes = pairs[:, 0], pairs[:, 1]
        products = np.sum(steps * changes, axis=2)
        inverse = np.divide(1.0, products, out=np.zeros_like(products), where=products > 0)
        shares = np.zeros_like(products)
        for i in reversed(range(self.memory)):
            shares[i] = inverse[i] * np.sum(steps[i] * q, axis=1)
            q = q - shares[i][:, None] * changes[i]
        squares = np.sum(changes[-1] ** 2, axis=1)
        known = products[-1] > 0
        size = np.linalg.norm(q, axis=1)
        first = np.minimum(1.0, 0.1 / np.maximum(size, 1e-300))
        scale = np.where(known, products[-1] / np.where(known, squares, 1.0), first)
        q = q * scale[:, None]
        for i in range(self.memory):
            share = inverse[i] * np.sum(changes[i] * q, axis=1)
            q = q + (shares[i] - share)[:, None] * steps[i]
        rows.direction[which] = -q
        rows.length[which] = 1.0

    def leave(self, rows: _Rows, places: Sequence[int], jobs: Sequence[Any]) -> Sequence[bool]:
        settled = self._converged(rows)
        return [
            self._hear(rows, place, job, CONVERGED if settled[place] else SPENT)
            for place, (job, _) in zip(places, jobs, strict=True)
        ]

    def _hear(self, rows: _Rows, place: int, job: int, status: str) -> bool:
        stage = Stage(
            job=job,
            stage=int(rows.stage[place]),
            point=rows.point[place].reshape(self.shape).copy(),
            loss=float(rows.value[place]),
            gradient=rows.gradient[place].reshape(self.shape).copy(),
            data=tuple(d[place].copy() for d in rows.data),
            steps=int(rows.spent[place]),
            status=status,
        )
        data = self.renew(stage)
        if data is None:
            self.done[job] = stage
            return True
        rows.stage[place] += 1
        self._load(rows, place, data)
        return False
