"""Sigma-zero: the fewest changed pixels by descent on a smooth count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from keras import ops

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.powers_of_two import TINY


@dataclass(frozen=True, kw_only=True)
class SigmaZero(Attack):
    """Sigma-zero: find the change of fewest pixels that flips, by descent on a smooth count of them.

    Lowers ``max(margin, 0) + mean(s / (s + sigma))``, where s is the squared change of a pixel in units of
    0..1, and sets changes below a threshold to zero. The threshold rises while the point flips, and falls
    while it does not.

    Notes
    -----
    The paper counts components. Here epsilon counts pixels, so that the count and the threshold refer to the
    change of a pixel in all its channels.

    References
    ----------
    Cina et al. 2025, arXiv:2402.01879, alg. 1 and eq. 6.
    """

    name: ClassVar[str] = "sigma-zero"
    paper: ClassVar[str] = "Cina et al. 2025, arXiv:2402.01879"
    norms: ClassVar[tuple[str, ...]] = ("l0",)
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    # Cross-entropy is not zero at the boundary, where the descent on the loss must end.
    loss: str = setting("margin", "loss that is lowered", choices=("margin", "dlr"))
    steps: int = setting(300, "number of steps", low=2, high=100_000)
    sigma: float = setting(1e-3, "smoothness of the count", low=1e-9, high=1)
    threshold: float = setting(
        0.3, "least change of a pixel, in units of 0..1; smaller ones are undone", low=0, high=1
    )
    threshold_step: float = setting(0.01, "change of the threshold in a step", low=0, high=1)
    step_size: float = setting(
        1.0, "first step of the steepest component, in units of 0..1", low=1e-3, high=1
    )

    def init(self, task: Task) -> State:
        return {"point": task.images, "threshold": 0 * task.epsilon + self.threshold}

    def step(self, task: Task, state: State, look: Look) -> State:
        output = look(state["point"])
        change = (state["point"] - task.images) / 255.0
        square = ops.sum(change * change, axis=-1, keepdims=True)
        count = 2 * change * self.sigma / (square + self.sigma) ** 2 / math.prod(square.shape[1:])
        held = task.per_row(ops.cast(output.loss > 0, "float32"))
        gradient = held * output.gradient * 255.0 + count
        largest = ops.max(ops.abs(gradient), axis=(1, 2, 3), keepdims=True)
        done = ops.cast(task.step, "float32") / self.steps
        fade = 0.1 + 0.9 * (1 + batch_invariant(ops.cos, math.pi * done)) / 2
        move = task.per_row(self.step_size * fade) * gradient / ops.maximum(largest, TINY)
        change = task.clip(task.images + 255.0 * (change - move)) - task.images
        strongest = ops.max(ops.abs(change), axis=-1, keepdims=True)
        kept = ops.where(strongest >= 255.0 * task.per_row(state["threshold"]), change, 0.0)
        turn = ops.where(output.hit, 1.0, -1.0) * self.threshold_step * fade
        return {
            "point": task.images + kept,
            "threshold": ops.clip(state["threshold"] + turn, 0.0, 1.0),
        }
