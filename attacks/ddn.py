"""Decoupled direction and norm (DDN): the smallest l2 change on a sphere of adaptive radius."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from keras import ops

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.losses import LOSSES, margin
from robustness.threat.norms import Norm


@dataclass(frozen=True, kw_only=True)
class DDN(Attack):
    """Decoupled direction and norm: find the smallest l2 change that flips, on a sphere of adaptive radius.

    Each step moves against the gradient, then scales the change to the radius r, which becomes
    ``r (1 - gamma)`` if the point flips and ``r (1 + gamma)`` if it does not. Lengths are in counts.

    Parameters
    ----------
    steps : number of steps. crossing : share of the steps that lower `loss`; the remaining ones lower the
    margin. gamma : share by which the radius changes in a step.

    Notes
    -----
    As in the paper, the first radius and step are 255 counts, but at most the largest epsilon. The last
    steps lower the margin: between two almost equally likely classes, the cross-entropy's gradient points to
    neither.

    References
    ----------
    Rony et al. 2019, arXiv:1811.09600, alg. 1.
    """

    name: ClassVar[str] = "ddn"
    paper: ClassVar[str] = "Rony et al. 2019, arXiv:1811.09600"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    steps: int = setting(100, "number of steps", low=2, high=100_000)
    crossing: float = setting(
        0.75,
        "share of the steps that lower the loss, before those that lower the margin",
        low=0,
        high=1,
    )
    gamma: float = setting(0.05, "share by which the radius changes in a step", low=0.001, high=0.5)

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        # The radius grows at most once per evaluation but the first; after 500 it exceeds any image.
        return min(epsilon, 255.0) * (1 + self.gamma) ** min(self.steps - 1, 500)

    def init(self, task: Task) -> State:
        return {"point": task.images, "radius": ops.minimum(task.epsilon, 255.0)}

    def step(self, task: Task, state: State, look: Look) -> State:
        output = look(state["point"])
        radius = state["radius"] * ops.where(output.hit, 1 - self.gamma, 1 + self.gamma)
        done = ops.cast(task.step, "float32") / self.steps
        length = ops.minimum(task.epsilon, 255.0) * (
            0.01 + 0.99 * (1 + batch_invariant(ops.cos, math.pi * done)) / 2
        )
        delta = state["point"] - task.images
        gradient = output.gradient_of(lambda logits: self._lowered(task, logits, done))
        delta = delta - task.per_row(length) * task.norm.steepest(gradient)
        scale = radius / ops.maximum(task.norm.size(delta), 1e-12)
        return {"point": task.clip(task.images + task.per_row(scale) * delta), "radius": radius}

    def _lowered(self, task: Task, logits: Any, done: Any) -> Any:
        both = [task.goal.loss(loss, logits, task.aims) for loss in (LOSSES[self.loss], margin)]
        return ops.where(done < self.crossing, *both)
