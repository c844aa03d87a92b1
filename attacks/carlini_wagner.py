"""Carlini and Wagner's attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from robustness.attacks.components.penalty import Penalty
from robustness.configuration.attack_parameters import setting
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.powers_of_two import TINY
from robustness.threat.norms import NORMS, Norm

BETAS = 0.9, 0.999


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Penalty):
    """Smallest l2 change: Adam on ``|delta|^2 + c * max(margin, -confidence)``, for the least c that flips.

    Carlini & Wagner 2017, arXiv:1608.04644, sec. 5 and 6.1. They keep pixels in the box by a tanh, whose
    slope is zero at 0 and 255, where many components of 8-bit pictures are; here they are projected (their
    first variant, sec. 5). The learning rate fades within each search, so that fewer than their ten
    thousand steps converge at the boundary.
    """

    name: ClassVar[str] = "cw"
    paper: ClassVar[str] = "Carlini & Wagner 2017, arXiv:1608.04644"
    norms: ClassVar[tuple[str, ...]] = ("l2",)

    learning_rate: float = setting(
        0.1, "Adam's first step, in signed steps that cross the boundary", low=1e-4, high=100
    )

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        # In a search; its rate fades to nothing, to half on average.
        return self.learning_rate * self.share / 2 * epsilon

    def pace(self, gradient: Any) -> Any:
        # Adam begins with signs: a component of this size everywhere gains a margin of one.
        return NORMS["l2"].size(gradient) / ops.maximum(NORMS["l1"].size(gradient), TINY)

    def memory(self, task: Task) -> State:
        zero = ops.zeros_like(task.images)
        return {"first": zero, "second": zero}

    def descend(
        self, change: Any, slope: Any, constant: Any, count: Any, rate: Any, memory: State
    ) -> tuple[Any, State]:
        # The length is squared: 2 for the linear model's c to be 1.
        gradient = 2 * change + 2 * constant * slope
        first = BETAS[0] * memory["first"] + (1 - BETAS[0]) * gradient
        second = BETAS[1] * memory["second"] + (1 - BETAS[1]) * gradient**2
        mean = first / (1 - batch_invariant(lambda n: BETAS[0] ** n, count + 1))
        square = second / (1 - batch_invariant(lambda n: BETAS[1] ** n, count + 1))
        moved = change - self.learning_rate * rate * mean / (ops.sqrt(square) + 1e-12)
        return moved, {"first": first, "second": second}
