"""Basic iterative method: the article's attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras import ops

from robustness.attack import Attack, Look, State, Task
from robustness.settings import setting


@dataclass(frozen=True, kw_only=True)
class BIM(Attack):
    """Iterative signed gradient, from the image itself.

    Kurakin et al. 2017, arXiv:1607.02533, eq. 3. Four steps of one count are the article's.
    """

    name: ClassVar[str] = "bim"
    paper: ClassVar[str] = "Kurakin et al. 2017, arXiv:1607.02533"

    steps: int = setting(4, "number of steps", low=1, high=100_000)
    step_size: float = setting(1.0, "length of a step in counts", low=0.001, high=255)

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        move = self.step_size * ops.sign(look(state["point"]).gradient)
        return {"point": task.project(state["point"] - move)}
