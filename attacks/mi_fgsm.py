"""Momentum iterative FGSM (MI-FGSM): steps along an accumulated gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from robustness.attacks.components.step_length import Stepping
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.powers_of_two import TINY


@dataclass(frozen=True, kw_only=True)
class MIFGSM(Stepping, Attack):
    """Momentum iterative FGSM: find a flip in the ball by steps along an accumulated gradient.

    With the gradient g of the loss, ``m' = mu * m + g / mean|g|`` and ``x' = P(x - a * d(m'))``, where d is
    the steepest direction of the norm and P the projection onto the ball and 0..255.

    Parameters
    ----------
    steps
        Number of steps.
    decay
        The share mu of the momentum that is kept.
    step_size
        The step a in the norm's unit; by default epsilon / steps.

    Notes
    -----
    The paper divides g by its l1 norm; the mean gives the same direction without underflow.

    References
    ----------
    Dong et al. 2018, arXiv:1710.06081, alg. 1, eq. 6-7.
    """

    name: ClassVar[str] = "mi-fgsm"
    paper: ClassVar[str] = "Dong et al. 2018, arXiv:1710.06081"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    steps: int = setting(10, "number of steps", low=1, high=100_000)
    decay: float = setting(1.0, "share of the momentum kept", low=0, high=1)
    step_size: float | None = setting(
        None, "length of a step, in the unit of epsilon", low=0.001, automatic="epsilon / steps"
    )

    def init(self, task: Task) -> State:
        return {"point": task.images, "momentum": ops.zeros_like(task.images)}

    def step(self, task: Task, state: State, look: Look) -> State:
        gradient = look(state["point"]).gradient
        size = ops.mean(ops.abs(gradient), axis=(1, 2, 3), keepdims=True)
        momentum = self.decay * state["momentum"] + gradient / ops.maximum(size, TINY)
        direction = task.norm.steepest(momentum)
        point = task.descend(state["point"], direction, self.length(task.epsilon))
        return {"point": point, "momentum": momentum}

    def usual(self, epsilon: Any) -> Any:
        return epsilon / self.steps
