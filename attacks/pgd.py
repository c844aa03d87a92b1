"""Projected gradient descent (PGD) from random starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustness.attacks.components.starts import MEANING, STARTS
from robustness.attacks.components.step_length import Stepping
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State


@dataclass(frozen=True, kw_only=True)
class PGD(Stepping, Attack):
    """Projected gradient descent: find a flip in the ball by steepest descent from random starts.

    Lowers the loss L by ``x' = P(x - a * d(grad L(x)))``, `steps` times, where d is the steepest direction
    of the norm and P the projection onto the ball and 0..255.

    Parameters
    ----------
    steps
        Number of steps, those of an output-diversified start included.
    step_size
        The step a in the norm's unit; by default epsilon / 4, as in the paper (2 of 8).
    random_start
        Whether to start at a random point of the ball instead of the image.
    start
        How restarts begin, a name in `robustness.attacks.STARTS`.
    restarts
        Number of starts of each image.

    References
    ----------
    Madry et al. 2018, arXiv:1706.06083, sec. 2.1.
    Tramer & Boneh 2019, arXiv:1904.13000, for the sparse step in l1.
    """

    name: ClassVar[str] = "pgd"
    paper: ClassVar[str] = "Madry et al. 2018, arXiv:1706.06083"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    any_norm: ClassVar[bool] = True

    steps: int = setting(40, "number of steps", low=1, high=100_000)
    step_size: float | None = setting(
        None, "length of a step, in the unit of epsilon", low=0.001, automatic="epsilon / 4"
    )
    random_start: bool = setting(True, "start at a random point of the ball, not at the image")
    start: str = setting("random", MEANING, choices=tuple(STARTS))
    restarts: int = setting(1, "independent starts of each image", low=1, high=10_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        STARTS[self.start].expect(self.steps, self.random_start)

    def guided(self) -> int:
        return self.steps - STARTS[self.start].steps

    def init(self, task: Task) -> State:
        if not self.random_start:
            return {"point": task.images}
        return {"point": STARTS[self.start].point(task, self.restarts)}

    def step(self, task: Task, state: State, look: Look) -> State:
        start, output = STARTS[self.start], look(state["point"])
        length = start.lengths(task, self.length(task.epsilon))
        direction = task.norm.steepest(start.gradient(task, output, self.loss, self.restarts))
        return {"point": task.descend(state["point"], direction, length)}
