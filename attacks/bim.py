"""Basic iterative method."""

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
    """Iterative signed gradient, from the image itself.

    Lowers the loss L in the linf ball by ``x' = P(x - a * sign(grad L(x)))``, `steps` times; P projects
    onto the ball and 0..255. The step a is in counts.

    Kurakin et al. 2017, arXiv:1607.02533, eq. 3. They take steps of one count, more for a larger epsilon;
    here a fixed number of steps, of whole counts so that rounding to a file loses nothing, covers epsilon.
    The article's four steps of one count at any epsilon are the ensemble `article`.
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
        # Less a little: where division is inexact, 21 / 7 must not become 4.
        return ops.ceil(epsilon / self.steps - 1e-4)

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        direction = ops.sign(look(state["point"]).gradient)
        return {"point": task.descend(state["point"], direction, self.length(task.epsilon))}
