"""Fast minimum-norm attack (FMN): the smallest change in a ball of adaptive radius."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from keras import ops

from robustness.attacks.components.boundary import steepness
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Evaluation, Look
from robustness.contract.task import FAR, Task
from robustness.contract.types import State
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.losses import LEVELS, LOSSES
from robustness.threat.norms import NORMS, Norm

LONGEST: dict[str, Callable[[Task], Any]] = {
    "linf": lambda task: task.epsilon * math.sqrt(math.prod(task.images.shape[1:])),
    "l2": lambda task: task.epsilon,
    "l1": lambda task: task.epsilon,
    "l0": lambda task: 255.0 * ops.sqrt(task.epsilon * task.images.shape[-1]),
}
"""The largest l2 length, in counts, of a change within the largest epsilon, (rows,)."""


@dataclass(frozen=True, kw_only=True)
class FMN(Attack):
    """Fast minimum-norm attack: find the smallest change that flips, in a ball of adaptive radius.

    Each step is ``x' = P_r(x - a * g / |g|_2)`` with the gradient g and the projection P_r onto the ball of
    radius r. The radius shrinks by a share gamma if the point flips, and grows by it if it does not (in l0
    by at least one pixel). Both a and gamma decay. In the paper the first step is as long as the range of a
    pixel in every norm; here it is the longest change within the largest epsilon.

    References
    ----------
    Pintor et al. 2021, arXiv:2102.12827, alg. 1.
    """

    name: ClassVar[str] = "fmn"
    paper: ClassVar[str] = "Pintor et al. 2021, arXiv:2102.12827"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0")
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))
    steps: int = setting(100, "number of steps", low=2, high=100_000)
    alpha: float = setting(
        1.0, "first step, in multiples of the longest change within epsilon", low=1e-6, high=1000
    )
    gamma: float = setting(0.05, "share by which the radius changes at first", low=1e-4, high=0.5)

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        moves = self.steps - 1
        if not norm.convex:
            return float(moves)  # one more pixel per step until something flips
        fade = sum((1 + math.cos(math.pi * n / self.steps)) / 2 for n in range(moves))
        return self.alpha * fade * epsilon

    def init(self, task: Task) -> State:
        zero = 0 * task.epsilon
        return {"point": task.images, "radius": zero, "nearest": zero + FAR}

    def step(self, task: Task, state: State, look: Look) -> State:
        output = look(state["point"])
        # On the scale of logits: the distance of a cross-entropy from zero has no meaning here.
        slope = output.gradient_of(
            lambda logits: task.goal.loss(LEVELS[self.loss], logits, task.aims)
        )
        size = task.distance(state["point"])
        nearest = ops.where(output.hit, ops.minimum(state["nearest"], size), state["nearest"])
        done = ops.cast(task.step, "float32") / self.steps
        fade = (1 + batch_invariant(ops.cos, math.pi * done)) / 2
        gamma = 1e-4 + (self.gamma - 1e-4) * fade
        shrunk, grown, first = (_lengths if task.norm.convex else _pixels)(
            task, output, slope, state["radius"], size, gamma
        )
        missed = ops.where(nearest < FAR, grown, first)
        radius = ops.where(output.hit, ops.minimum(shrunk, nearest), missed)
        step = task.per_row(self.alpha * fade * LONGEST[task.norm.name](task))
        ahead = state["point"] - step * NORMS["l2"].steepest(slope)
        # The projection onto a ball of radius 0 is not defined.
        within = replace(task, epsilon=ops.maximum(radius, 1e-6))
        return {"point": within.project(ahead), "radius": radius, "nearest": nearest}


def _lengths(
    task: Task, output: Evaluation, slope: Any, radius: Any, size: Any, gamma: Any
) -> tuple[Any, Any, Any]:
    """The next radius after a flip, after a miss, and after a miss where nothing has flipped yet."""
    linear = size + ops.abs(output.level) / steepness(task, slope)
    # Slightly beyond the boundary: on it, float32 may not decide the class, and the row would stay there.
    linear = 1.001 * linear
    return radius * (1 - gamma), radius * (1 + gamma), ops.minimum(linear, 2 * task.epsilon + size)


def _pixels(
    task: Task, output: Evaluation, slope: Any, radius: Any, size: Any, gamma: Any
) -> tuple[Any, Any, Any]:
    """As `_lengths`, in whole pixels: the radius changes by at least one."""
    fewer = ops.minimum(radius - 1, ops.floor(radius * (1 - gamma)))
    return (
        ops.maximum(fewer, 1.0),
        ops.maximum(radius + 1, ops.floor(radius * (1 + gamma))),
        size + 1,
    )
