"""Square attack: random search by squares of the change."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task, where_rows
from robustness.contract.types import Knowledge, State
from robustness.numerics.losses import LOSSES
from robustness.numerics.powers_of_two import HUGE
from robustness.threat.norms import Norm

LEAST_QUERIES = 100
"""With fewer queries (as in `quick`) nothing follows for images that do not flip (D27)."""
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""The queries, out of ten thousand, after which the share of changed pixels is halved (sec. 4)."""


def share(step: int, steps: int, p: float) -> float:
    """The share of pixels in the square at a query: `p`, halved after each of `HALVED_AFTER`."""
    done = int(step / steps * 10_000)
    return p / 2 ** sum(done > mark for mark in HALVED_AFTER)


def sides(steps: int, p: float, height: int, width: int) -> np.ndarray:
    """The side of the square at every query, (steps,) int32: at least one pixel, less than the image."""
    lengths = [round(math.sqrt(share(n, steps, p) * height * width)) for n in range(steps)]
    return np.clip(lengths, 1, max(min(height, width) - 1, 1)).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Square attack: find a flip in the ball by random search.

    Each query redraws a square of the change, and keeps it if the loss falls. The squares shrink on a
    schedule.

    Parameters
    ----------
    steps
        Number of queries.
    p
        Share of the pixels in the first squares.
    restarts
        Number of starts of each image.
    loss
        The loss that is lowered.

    Notes
    -----
    The default of `p` is that of AutoAttack. The values of the paper, 0.05 (linf) and 0.1 (l2), suit many
    thousand queries better than few.

    References
    ----------
    Andriushchenko et al. 2020, arXiv:1912.00049, alg. 1-3.
    """

    name: ClassVar[str] = "square"
    padded: ClassVar[bool] = False
    paper: ClassVar[str] = "Andriushchenko et al. 2020, arXiv:1912.00049"
    knowledge: ClassVar[Knowledge] = "score"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    steps: int = setting(5000, "number of queries", low=1, high=1_000_000)
    p: float = setting(0.8, "share of pixels a square covers at first", low=0.0001, high=1)
    restarts: int = setting(1, "independent starts of each image", low=1, high=10_000)
    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        # The first queries draw large squares at random; they hardly test an image.
        return math.inf if self.steps >= LEAST_QUERIES else 0.0

    def init(self, task: Task) -> State:
        start = BRUSHES[task.norm.name].begin(task)
        return {"point": start, "best": start, "best_loss": 0 * task.epsilon + HUGE}

    def step(self, task: Task, state: State, look: Look) -> State:
        loss = look(state["point"]).level
        better = loss < state["best_loss"]
        best = where_rows(better, state["point"], state["best"])
        lowest = ops.where(better, loss, state["best_loss"])
        height, width = task.images.shape[1:3]
        table = ops.convert_to_tensor(sides(self.steps, self.p, height, width))
        # The first query is of the start, so that the schedule counts the queries after it.
        side = ops.take(table, ops.clip(task.step, 0, self.steps - 1), axis=0)
        drawn = BRUSHES[task.norm.name].draw(task, best - task.images, side)
        return {"point": task.project(task.images + drawn), "best": best, "best_loss": lowest}


class _Window:
    """A square of each row: its corner at `place` (rows, 2) in 0..1, its pixels relative to the corner."""

    def __init__(self, task: Task, side: Any, place: Any) -> None:
        height, width = task.images.shape[1:3]
        self.side = side
        down = ops.arange(height, dtype="float32")[None, :, None, None]
        across = ops.arange(width, dtype="float32")[None, None, :, None]
        edge = ops.cast(side, "float32")
        top = ops.floor(place[:, 0] * (height - edge + 1))
        left = ops.floor(place[:, 1] * (width - edge + 1))
        self.down, self.across = down - task.per_row(top), across - task.per_row(left)
        long = task.per_row(edge)
        rows = ops.logical_and(self.down >= 0, self.down < long)
        columns = ops.logical_and(self.across >= 0, self.across < long)
        self.inside = ops.logical_and(rows, columns)


def _signs(drawn: Any) -> Any:
    return ops.where(drawn < 0.5, -1.0, 1.0)


class Brush(ABC):
    """The first change of a norm, and how a square of it is redrawn; changes are (rows, h, w, c) counts."""

    @abstractmethod
    def begin(self, task: Task) -> Any:
        """The first point."""

    @abstractmethod
    def draw(self, task: Task, delta: Any, side: Any) -> Any:
        """Redraw a square of side `side` (rows,) of `delta`."""


class Stripes(Brush):
    """linf: vertical stripes first, then squares of one colour; every component is at +-epsilon."""

    def begin(self, task: Task) -> Any:
        _, _, width, channels = task.images.shape
        signs = _signs(task.uniform((1, width, channels), 8))
        return task.project(task.images + task.per_row(task.epsilon) * signs)

    def draw(self, task: Task, delta: Any, side: Any) -> Any:
        # A single draw: on a small network random numbers take most of the time of a query.
        channels = delta.shape[-1]
        drawn = task.uniform((3 + channels,))
        inside = _Window(task, side, drawn[:, :2]).inside
        signs = _signs(drawn[:, None, None, 3:])
        # A square of the present colour would waste the query (the authors' code draws again): it gets
        # one of the other colours with equal probability.
        there = ops.logical_or(ops.logical_not(inside), ops.sign(delta) == signs)
        idle = ops.all(there, axis=(1, 2, 3), keepdims=True)
        other = 1 + ops.floor(drawn[:, 2] * (2**channels - 1))
        powers = 2.0 ** ops.arange(channels, dtype="float32")
        turned = ops.floor(other[:, None, None, None] / powers) % 2
        signs = ops.where(idle, signs * (1 - 2 * turned), signs)
        # A component that is clipped to 0..255 still counts as one of epsilon.
        return ops.where(inside, signs * task.per_row(task.epsilon), delta)


class Bumps(Brush):
    """l2: a grid of bumps first; then the squared length of one square moves to another.

    A bump is two pyramids of opposite sign side by side (alg. 3 and sec. 3.3).
    """

    tiles: ClassVar[int] = 5

    def begin(self, task: Task) -> Any:
        _, height, width, channels = task.images.shape
        side = max(min(height, width) // self.tiles, 1)
        down = ops.arange(height, dtype="float32")[None, :, None, None]
        across = ops.arange(width, dtype="float32")[None, None, :, None]
        edge = ops.full_like(task.epsilon, side)
        shape = bump(down % side, across % side, edge, height)
        rows, columns = -(-height // side), -(-width // side)
        signs = _signs(task.uniform((rows, columns, channels), 8))
        signs = ops.repeat(ops.repeat(signs, side, axis=1), side, axis=2)[:, :height, :width]
        return task.project(task.images + self._filled(task, shape * signs, task.epsilon))

    def _filled(self, task: Task, delta: Any, length: Any) -> Any:
        size = ops.sqrt(ops.sum(delta * delta, axis=(1, 2, 3)))
        return delta * task.per_row(length / ops.maximum(size, 1e-12))

    def draw(self, task: Task, delta: Any, side: Any) -> Any:
        # Odd, so that a bump has a middle pixel (as in the authors' code).
        side = ops.maximum(side + 1 - side % 2, 3)
        side = ops.minimum(side, min(delta.shape[1:3]))
        channels = delta.shape[-1]
        drawn = task.uniform((5 + channels,))
        here, there = _Window(task, side, drawn[:, :2]), _Window(task, side, drawn[:, 2:4])
        either = ops.logical_or(here.inside, there.inside)
        old = ops.where(here.inside, delta, 0.0)
        flat = (1, 2)
        length = ops.sqrt(ops.sum(old * old, axis=flat, keepdims=True))
        edge = ops.cast(side, "float32")
        upright = task.per_row(drawn[:, 4] < 0.5)
        down = ops.where(upright, here.down, here.across)
        across = ops.where(upright, here.across, here.down)
        shape = bump(down, across, edge, max(delta.shape[1:3]))
        fresh = shape * _signs(drawn[:, None, None, 5:]) + old / ops.maximum(length, 1e-12)
        fresh = ops.where(here.inside, fresh, 0.0)
        # Per channel: the squared length of both squares, and a share of what the ball leaves unused.
        moved = ops.sum(ops.where(either, delta * delta, 0.0), axis=flat, keepdims=True)
        spent = ops.sum(delta * delta, axis=(1, 2, 3), keepdims=True)
        spare = ops.maximum(task.per_row(task.epsilon) ** 2 - spent, 0.0)
        wanted = ops.sqrt(moved + spare / channels)
        size = ops.sqrt(ops.sum(fresh * fresh, axis=flat, keepdims=True))
        fresh = fresh * wanted / ops.maximum(size, 1e-12)
        return ops.where(here.inside, fresh, ops.where(either, 0.0, delta))


def bump(down: Any, across: Any, side: Any, most: int) -> Any:
    """Two pyramids of opposite sign over a square, each of length one.

    A pyramid over a rectangle is ``sum_{k > d} 1 / k^2`` at Chebyshev distance d from its middle, hence a
    difference of partial sums.

    Parameters
    ----------
    down, across
        Position of each pixel relative to the corner of the square.
    side
        (rows,): side of the square in pixels.
    most
        The largest side that can occur.
    """
    sums = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, most + 2) ** 2)]).astype("float32")
    table = ops.convert_to_tensor(sums)
    side = ops.reshape(side, (-1, 1, 1, 1))
    half = ops.floor(side / 2)
    inside = ops.logical_and(
        ops.logical_and(down >= 0, down < side), ops.logical_and(across >= 0, across < side)
    )

    def pyramid(first: Any, height: Any) -> Any:
        middle, centre = ops.floor(height / 2), ops.floor(side / 2)
        reach = ops.maximum(middle, centre) + 1
        far = ops.maximum(ops.abs(down - first - middle), ops.abs(across - centre))
        near = ops.logical_and(inside, ops.logical_and(down >= first, down < first + height))
        rise = ops.take(table, ops.cast(ops.minimum(reach, most + 1), "int32"), axis=0)
        fall = ops.take(table, ops.cast(ops.clip(far, 0, most + 1), "int32"), axis=0)
        shape = ops.where(near, ops.maximum(rise - fall, 0.0), 0.0)
        size = ops.sqrt(ops.sum(shape * shape, axis=(1, 2, 3), keepdims=True))
        return shape / ops.maximum(size, 1e-12)

    return pyramid(0 * half, half) - pyramid(half, side - half)


BRUSHES: dict[str, Brush] = {"linf": Stripes(), "l2": Bumps()}
