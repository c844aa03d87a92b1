"""Simple black-box attack (SimBA): random search along an orthonormal basis.

The basis consists of pixels or, with `frequencies`, of the lowest cosines (sec. 3.2 of the paper), in random
order. A step is one query: of the negative direction, then, if that does not lower the loss, of the positive
one. The step of the paper is 51 counts (0.2), and its distance is not limited; here the ball limits it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from robustness.attacks.components.step_length import Stepping
from robustness.attacks.score_gradient import cosines
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task, where_rows
from robustness.contract.types import Knowledge, State
from robustness.numerics import prng
from robustness.numerics.losses import LOSSES
from robustness.numerics.powers_of_two import HUGE
from robustness.threat.norms import Norm


@dataclass(frozen=True, kw_only=True)
class SimBA(Stepping, Attack):
    """Simple black-box attack: find a flip in the l2 ball by steps along an orthonormal basis.

    Takes the directions in random order, and keeps a step if the loss falls. A step is one query.

    References
    ----------
    Guo et al. 2019, arXiv:1905.07121, alg. 1.
    """

    name: ClassVar[str] = "simba"
    padded: ClassVar[bool] = False
    paper: ClassVar[str] = "Guo et al. 2019, arXiv:1905.07121"
    knowledge: ClassVar[Knowledge] = "score"
    norms: ClassVar[tuple[str, ...]] = ("l2",)

    steps: int = setting(5000, "number of queries", low=2, high=1_000_000)
    step_size: float | None = setting(
        None, "length of a step in counts", low=0.001, automatic="epsilon / 5, at most 51"
    )
    frequencies: int | None = setting(
        None, "lowest frequencies of each axis and channel", low=1, automatic="all pixels"
    )
    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))

    def usual(self, epsilon: Any) -> Any:
        return ops.minimum(51.0, epsilon / 5)

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        # Directions are orthogonal until they repeat.
        rounds = max(1.0, self.steps / _directions(shape, self.frequencies))
        return float(self.length(epsilon)) * math.sqrt(self.steps * rounds)

    def init(self, task: Task) -> State:
        # The order is drawn once: each row uses all its directions before it repeats one.
        count = _directions(tuple(task.images.shape[1:]), self.frequencies)
        order = ops.argsort(prng.uniform(task.keys, 2, (count,)), axis=1)
        zero = 0 * task.restart
        where = {"place": zero - 1, "side": zero + 1, "order": ops.cast(order, "int32")}
        best = {"best": task.images, "best_loss": 0 * task.epsilon + HUGE}
        return {"point": task.images} | best | where

    def step(self, task: Task, state: State, look: Look) -> State:
        loss = look(state["point"]).level
        better = loss < state["best_loss"]
        best = where_rows(better, state["point"], state["best"])
        # The first query is of the image; it counts as better than the best loss at the start.
        onward = ops.logical_or(better, state["side"] > 0)
        place = state["place"] + ops.cast(onward, "int32")
        side = ops.where(onward, -1, 1)
        move = task.per_row(self.length(task.epsilon) * ops.cast(side, "float32"))
        way = direction(task, state["order"], place, self.frequencies)
        return {
            "point": task.project(best + move * way),
            "best": best,
            "best_loss": ops.minimum(loss, state["best_loss"]),
            "place": place,
            "side": side,
            "order": state["order"],
        }


def _directions(shape: tuple[int, ...], frequencies: int | None) -> int:
    """The number of directions of images of `shape`."""
    return math.prod(sides(shape, frequencies))


def sides(shape: tuple[int, ...], frequencies: int | None) -> tuple[int, int, int]:
    """The number of directions down, across and in the channels of images (height, width, channels)."""
    height, width, channels = shape
    most = frequencies or max(height, width)
    return min(most, height), min(most, width), channels


def direction(task: Task, order: Any, place: Any, frequencies: int | None) -> Any:
    """The direction at `place` in each row's `order`, (rows, h, w, c), of length one."""
    down, across, channels = sides(tuple(task.images.shape[1:]), frequencies)
    number = ops.take_along_axis(order, (place % order.shape[1])[:, None], axis=1)[:, 0]
    waves = [
        _basis(task.images.shape[1], down, number // (across * channels), frequencies),
        _basis(task.images.shape[2], across, number // channels % across, frequencies),
        ops.one_hot(number % channels, channels),
    ]
    return ops.einsum("nh,nw,nc->nhwc", *waves)


def _basis(length: int, count: int, number: Any, frequencies: int | None) -> Any:
    """Basis vectors `number` (rows,) of an axis, (rows, length): cosines, or single pixels."""
    if frequencies is None:
        return ops.one_hot(number, length)
    return ops.take(ops.convert_to_tensor(cosines(length, count)), number, axis=0)
