"""Carlini and Wagner's attack (C&W): the smallest l2 change by Adam on a penalised distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from robustness.attacks.components.penalty import Penalty
from robustness.configuration.attack_parameters import setting
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.powers_of_two import TINY, binade
from robustness.threat.norms import NORMS, Norm

BETAS = 0.9, 0.999
"""Adam's decay rates of the first and the second moment."""
"""Adam's decay rates of the first and the second moment."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Penalty):
    """Carlini and Wagner: find the smallest l2 change that flips, by Adam on a penalised distance.

    Minimises ``|delta|_2^2 + c * max(margin, -confidence)`` over changes delta that keep pixels in 0..255,
    and searches for the smallest c that flips (see `Penalty`, also for the units).

    Parameters
    ----------
    learning_rate
        Adam's first step, in multiples of the signed step that crosses the boundary of the linearised model.
        It falls to 0 within each search.
    steps, binary_search_steps, initial_const, confidence, loss
        As in `Penalty`.

    Notes
    -----
    The paper keeps pixels in range by a tanh, whose slope is zero at 0 and 255, where many components of
    8-bit images are. Here points are projected onto the range (the first variant of the paper, sec. 5).
    Since the learning rate decays, fewer steps than the ten thousand of the paper converge at the boundary.

    References
    ----------
    Carlini & Wagner 2017, arXiv:1608.04644, sec. 5 and 6.1.
    """

    name: ClassVar[str] = "cw"
    paper: ClassVar[str] = "Carlini & Wagner 2017, arXiv:1608.04644"
    norms: ClassVar[tuple[str, ...]] = ("l2",)

    learning_rate: float = setting(
        0.1,
        "Adam's first step, in multiples of the signed step that crosses the boundary",
        low=1e-4,
        high=100,
    )

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        # Within one search the rate falls to 0, so it is half of its start on average.
        return self.learning_rate * self.share / 2 * epsilon

    def pace(self, gradient: Any) -> Any:
        # Adam's first step is a sign step: this length per component changes the margin by one.
        # Scaled by a power of two, since squares of a gradient may overflow.
        slope = gradient / ops.reshape(binade(gradient), (-1, 1, 1, 1))
        return NORMS["l2"].size(slope) / ops.maximum(NORMS["l1"].size(slope), TINY)

    def memory(self, task: Task) -> State:
        zero = ops.zeros_like(task.images)
        return {"first": zero, "second": zero}

    def descend(
        self, change: Any, slope: Any, constant: Any, count: Any, rate: Any, memory: State
    ) -> tuple[Any, State]:
        # The distance is squared, so the factor 2 makes c = 1 right for a linear model.
        gradient = 2 * change + 2 * constant * slope
        first = BETAS[0] * memory["first"] + (1 - BETAS[0]) * gradient
        second = BETAS[1] * memory["second"] + (1 - BETAS[1]) * gradient**2
        mean = first / (1 - batch_invariant(lambda n: BETAS[0] ** n, count + 1))
        square = second / (1 - batch_invariant(lambda n: BETAS[1] ** n, count + 1))
        moved = change - self.learning_rate * rate * mean / (ops.sqrt(square) + 1e-12)
        return moved, {"first": first, "second": second}
