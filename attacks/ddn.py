"""Decoupled direction and norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from keras import ops

from robustness.attack import Attack, Look, State, Task
from robustness.losses import LOSSES
from robustness.settings import setting


@dataclass(frozen=True, kw_only=True)
class DDN(Attack):
    """Smallest l2 change: a sphere that shrinks where the point flips and grows where it does not.

    Rony et al. 2019, arXiv:1811.09600, alg. 1. Theirs starts at radius 1 of pictures in 0..1; ours at
    the largest budget of the audit, which is the scale that matters, and takes steps of that length.
    The margin is lowered where theirs lowers cross-entropy, whose gradient points between two rivals
    that are near.
    """

    name: ClassVar[str] = "ddn"
    paper: ClassVar[str] = "Rony et al. 2019, arXiv:1811.09600"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))
    steps: int = setting(100, "number of steps", low=2, high=100_000)
    gamma: float = setting(0.05, "share by which the radius changes in a step", low=0.001, high=0.5)

    def init(self, task: Task) -> State:
        return {"point": task.images, "radius": task.epsilon}

    def step(self, task: Task, state: State, look: Look) -> State:
        seen = look(state["point"])
        radius = state["radius"] * ops.where(seen.hit, 1 - self.gamma, 1 + self.gamma)
        done = ops.cast(task.step, "float32") / self.steps
        length = task.epsilon * (0.01 + 0.99 * (1 + ops.cos(math.pi * done)) / 2)
        delta = state["point"] - task.images
        delta = delta - task.per_row(length) * task.norm.steepest(seen.gradient)
        scale = radius / ops.maximum(task.norm.size(delta), 1e-12)
        return {"point": task.clip(task.images + task.per_row(scale) * delta), "radius": radius}
