"""An attack with random numbers of its own is told where to draw them."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import pytest

from robustness.attacks import Attack, Look, State, Task
from robustness.errors import AttackError
from robustness.testing import check_attack


@dataclass(frozen=True, kw_only=True)
class OwnNoise(Attack):
    name: ClassVar[str] = "own-noise"
    paper: ClassVar[str] = "none"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    baseline: ClassVar[bool] = True

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        points = state["point"]
        return {"point": task.project(points + keras.random.normal(points.shape))}


def test_the_fault_names_the_random_numbers_of_the_task() -> None:
    with pytest.raises(AttackError, match=r"task\.uniform or task\.normal"):
        check_attack(OwnNoise())
