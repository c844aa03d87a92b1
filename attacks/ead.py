"""Elastic-net attack (EAD): the smallest l1 change by shrinkage-thresholding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from robustness.attacks.components.penalty import Penalty
from robustness.configuration.attack_parameters import setting
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.batch_invariant import batch_invariant

TOP = 255.0
"""The largest possible change of a component, in counts."""


@dataclass(frozen=True, kw_only=True)
class EAD(Penalty):
    """Elastic-net attack: find the smallest l1 change that flips, by shrinkage-thresholding (FISTA).

    Minimises ``beta |delta|_1 + |delta|_2^2 + c * max(margin, -confidence)`` over changes delta that keep
    pixels in 0..255, and searches for the smallest c that flips (see `Penalty`, also for the units).

    Parameters
    ----------
    beta
        Weight of the l1 distance. Each step shrinks components by the step's rate times `beta`.
    learning_rate
        The first step; it falls to 0 within each search.
    steps, binary_search_steps, initial_const, confidence, loss
        As in `Penalty`.

    Notes
    -----
    `beta` is large in units of the linear model's change, since the l1 distance is the objective and the
    square only smooths it. If the linear model's change is longer than 255 counts, many components share it,
    and the unit of changes shrinks with the square root of that length.

    References
    ----------
    Chen et al. 2018, arXiv:1709.04114, alg. 1 and eq. 6-7.
    """

    name: ClassVar[str] = "ead"
    paper: ClassVar[str] = "Chen et al. 2018, arXiv:1709.04114"
    norms: ClassVar[tuple[str, ...]] = ("l1",)

    beta: float = setting(10.0, "weight of the l1 distance beside the squared l2", low=0, high=1e6)
    learning_rate: float = setting(0.05, "first step", low=1e-6, high=100)

    def unit(self, linear: Any) -> Any:
        return ops.minimum(linear, TOP * batch_invariant(ops.sqrt, TOP / linear))

    def memory(self, task: Task) -> State:
        return {"before": ops.zeros_like(task.images)}

    def descend(
        self, change: Any, slope: Any, constant: Any, count: Any, rate: Any, memory: State
    ) -> tuple[Any, State]:
        step = self.learning_rate * rate
        free = change - step * (2 * change + (2 + self.beta) * constant * slope)
        shrunk = ops.sign(free) * ops.maximum(ops.abs(free) - step * self.beta, 0.0)
        ahead = shrunk + count / (count + 3) * (shrunk - memory["before"])
        return ahead, {"before": shrunk}
