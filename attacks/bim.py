"""Basic iterative method: the article's attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from robustness.attacks.components.step_length import Stepping
from robustness.configuration.parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State


@dataclass(frozen=True, kw_only=True)
class BIM(Stepping, Attack):
    """Iterative signed gradient, from the image itself.

    Kurakin et al. 2017, arXiv:1607.02533, eq. 3. Theirs are steps of one count, as many as epsilon
    asks for; here so many whole counts that the steps lead through all of epsilon, whole so that files
    lose nothing. The article's are four of one count, whatever epsilon: `article`.
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
