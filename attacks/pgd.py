"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustness.attack import Attack, Look, State, Task
from robustness.settings import setting


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Steepest descent in the ball, from random starts.

    Madry et al. 2018, arXiv:1706.06083, sec. 2.1; in l1 the sparse step of Tramer & Boneh 2019,
    arXiv:1904.13000. The step is a quarter of the budget unless given, as theirs was (2 of 8).
    """

    name: ClassVar[str] = "pgd"
    paper: ClassVar[str] = "Madry et al. 2018, arXiv:1706.06083"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    steps: int = setting(40, "number of steps", low=1, high=100_000)
    step_size: float | None = setting(
        None, "length of a step, as epsilon is counted", low=0.001, automatic="epsilon / 4"
    )
    random_start: bool = setting(True, "start at a random point of the ball, not at the image")
    restarts: int = setting(1, "independent starts of each image", low=1, high=10_000)

    def init(self, task: Task) -> State:
        return {"point": task.random_start() if self.random_start else task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        length = task.epsilon / 4 if self.step_size is None else self.step_size + 0 * task.epsilon
        move = task.per_row(length) * task.norm.steepest(look(state["point"]).gradient)
        return {"point": task.project(state["point"] - move)}
