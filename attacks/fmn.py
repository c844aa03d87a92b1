"""Fast minimum-norm attack."""

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
"""How long, in l2, a change within the largest budget can be, (rows,)."""


@dataclass(frozen=True, kw_only=True)
class FMN(Attack):
    """Smallest change: steps along the gradient, and a ball that shrinks and grows around the boundary.

    ``x' = P_r(x - a * g / |g|_2)`` with P_r the projection onto the ball of radius r, which changes by a
    share gamma at each step. Radii in the norm's unit (whole pixels in l0).

    Pintor et al. 2021, arXiv:2102.12827, alg. 1. Their first step is as long as the range of a pixel in every
    norm; here as long as the longest change within the largest epsilon.
    """

    name: ClassVar[str] = "fmn"
    paper: ClassVar[str] = "Pintor et al. 2021, arXiv:2102.12827"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0")
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))
    steps: int = setting(100, "number of steps", low=2, high=100_000)
    alpha: float = setting(1.0, "first step in lengths of the longest change", low=1e-6, high=1000)
    gamma: float = setting(0.05, "share by which the radius changes at first", low=1e-4, high=0.5)

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        moves = self.steps - 1
        if not norm.convex:
            return float(moves)  # a pixel more with each, as long as nothing flips
        fade = sum((1 + math.cos(math.pi * n / self.steps)) / 2 for n in range(moves))
        return self.alpha * fade * epsilon

    def init(self, task: Task) -> State:
        zero = 0 * task.epsilon
        return {"point": task.images, "radius": zero, "nearest": zero + FAR}

    def step(self, task: Task, state: State, look: Look) -> State:
        output = look(state["point"])
        # Of the loss at the pace of logits: how far a cross-entropy is from zero says nothing.
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
        # A ball of no size has no projection.
        within = replace(task, epsilon=ops.maximum(radius, 1e-6))
        return {"point": within.project(ahead), "radius": radius, "nearest": nearest}


def _lengths(
    task: Task, output: Evaluation, slope: Any, radius: Any, size: Any, gamma: Any
) -> tuple[Any, Any, Any]:
    """The radius after a flip, after a miss, and after a miss where nothing has flipped yet."""
    linear = size + ops.abs(output.level) / steepness(task, slope)
    # A little beyond: float32 may end where nothing is decided, and never leave.
    linear = 1.001 * linear
    return radius * (1 - gamma), radius * (1 + gamma), ops.minimum(linear, 2 * task.epsilon + size)


def _pixels(
    task: Task, output: Evaluation, slope: Any, radius: Any, size: Any, gamma: Any
) -> tuple[Any, Any, Any]:
    """As `_lengths`, in whole pixels: at least one more or less."""
    fewer = ops.minimum(radius - 1, ops.floor(radius * (1 - gamma)))
    return (
        ops.maximum(fewer, 1.0),
        ops.maximum(radius + 1, ops.floor(radius * (1 + gamma))),
        size + 1,
    )
