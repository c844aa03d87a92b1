"""Basic iterative method (BIM): signed gradient steps from the image."""

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


@dataclass(frozen=True, kw_only=True)
class BIM(Stepping, Attack):
    """Basic iterative method: find a flip in the linf ball by signed gradient steps from the image.

    Lowers the loss L by ``x' = P(x - a * sign(grad L(x)))``, `steps` times, where P is the projection onto
    the ball and 0..255.

    Parameters
    ----------
    steps
        Number of steps.
    step_size
        The step a in counts; by default epsilon / steps, rounded up to whole counts.

    Notes
    -----
    The paper takes steps of one count, more of them for a larger epsilon. Here a fixed number of steps
    covers epsilon, in whole counts so that rounding to an 8-bit file loses nothing. The article's four steps
    of one count at any epsilon are the ensemble `article`.

    References
    ----------
    Kurakin et al. 2017, arXiv:1607.02533, eq. 3.
    """

    name: ClassVar[str] = "bim"
    paper: ClassVar[str] = "Kurakin et al. 2017, arXiv:1607.02533"

    steps: int = setting(4, "number of steps", low=1, high=100_000)
    step_size: float | None = setting(
        None,
        "length of a step in counts",
        low=0.001,
        high=255,
        automatic="epsilon / steps, rounded up to whole counts",
    )

    def usual(self, epsilon: Any) -> Any:
        # The subtraction keeps an inexact 21 / 7 from being rounded up to 4.
        return ops.ceil(epsilon / self.steps - 1e-4)

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        direction = ops.sign(look(state["point"]).gradient)
        return {"point": task.descend(state["point"], direction, self.length(task.epsilon))}
