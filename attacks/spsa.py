"""Simultaneous perturbation stochastic approximation (SPSA): Adam on gradients from random signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import Knowledge, State
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.losses import LOSSES
from robustness.numerics.powers_of_two import TINY, binade, magnitude
from robustness.threat.norms import Norm

BETAS = 0.9, 0.999
"""Adam's decay rates of the first and the second moment."""


@dataclass(frozen=True, kw_only=True)
class SPSA(Attack):
    """SPSA: find a flip in the linf ball by Adam on gradients estimated from pairs of probes.

    The estimate is ``g = mean((L(x + delta v) - L(x - delta v)) / (2 delta) * v)`` over random signs v. A
    step costs ``2 * samples`` probes and one query of the point. As in the paper, delta and rate are 0.01 of
    the pixel range (the rate at most a fifth of epsilon), and the loss is the margin. The paper uses 8192
    samples per step; 128 pairs are the default of CleverHans.

    References
    ----------
    Uesato et al. 2018, arXiv:1802.05666, alg. 1 and sec. 5.
    """

    name: ClassVar[str] = "spsa"
    paper: ClassVar[str] = "Uesato et al. 2018, arXiv:1802.05666"
    knowledge: ClassVar[Knowledge] = "score"

    steps: int = setting(100, "number of steps", low=1, high=100_000)
    samples: int = setting(128, "pairs of probes per step", low=1, high=100_000)
    delta: float = setting(
        2.55, "size of a probe in each component, in counts", low=0.001, high=255
    )
    learning_rate: float | None = setting(
        None, "Adam's step in counts", low=0.001, automatic="2.55, at most epsilon / 5"
    )
    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))

    @property
    def width(self) -> int:
        return 2 * self.samples

    def _rate(self, epsilon: Any) -> Any:
        usual = ops.minimum(2.55, epsilon / 5)
        return usual if self.learning_rate is None else self.learning_rate + 0 * epsilon

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        return self.steps * float(self._rate(epsilon))

    def init(self, task: Task) -> State:
        zero = ops.zeros_like(task.images)
        unit = 0 * task.epsilon + TINY
        return {"point": task.images, "first": zero, "second": zero, "unit": unit}

    def step(self, task: Task, state: State, look: Look) -> State:
        point = state["point"]
        look(point)
        drawn = task.uniform((self.samples, *point.shape[1:]))
        signs = ops.where(drawn < 0.5, -1.0, 1.0)
        moves = self.delta * ops.concatenate([signs, -signs], axis=1)
        losses = look(point[:, None] + moves, judged=False).level
        apart = losses[:, : self.samples] - losses[:, self.samples :]
        slope = ops.einsum("nk,nkhwc->nhwc", apart, signs) / (2 * self.delta * self.samples)
        # In units of the largest estimate so far, a power of two: squares of estimates may overflow.
        unit = ops.maximum(state["unit"], ops.where(magnitude(slope) > 0, binade(slope), TINY))
        shrunk, slope = task.per_row(state["unit"] / unit), slope / task.per_row(unit)
        first = BETAS[0] * shrunk * state["first"] + (1 - BETAS[0]) * slope
        second = BETAS[1] * shrunk**2 * state["second"] + (1 - BETAS[1]) * slope**2
        count = task.per_row(ops.cast(task.step, "float32") + 1)
        mean = first / (1 - batch_invariant(lambda n: BETAS[0] ** n, count))
        square = second / (1 - batch_invariant(lambda n: BETAS[1] ** n, count))
        move = task.per_row(self._rate(task.epsilon)) * mean / (ops.sqrt(square) + 1e-12)
        return {"point": task.project(point - move), "first": first, "second": second, "unit": unit}
