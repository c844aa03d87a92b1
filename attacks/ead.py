"""Elastic-net attack on deep networks."""

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
"""Counts by which a component can change at most."""


@dataclass(frozen=True, kw_only=True)
class EAD(Penalty):
    """Smallest l1 change: shrinkage-thresholding on ``beta |d|_1 + |d|_2^2 + c * max(margin, -confidence)``.

    Chen et al. 2018, arXiv:1709.04114, alg. 1 (FISTA), eq. 6-7. The shrinkage is that of the step, rate
    times beta. `beta` is large in units of the linear model's change, since the l1 distance is the aim and
    the square only smooths. Where the linear model's change is longer than a component can change, many
    components share it, and steps shrink with the square root of it.
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
