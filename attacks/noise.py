"""Random noise: the baseline with which attacks are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from keras import ops

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import Knowledge, State


@dataclass(frozen=True, kw_only=True)
class _Noise(Attack):
    """The common part of noise: each step evaluates a new random point and learns nothing from it."""

    knowledge: ClassVar[Knowledge] = "decision"
    baseline: ClassVar[bool] = True

    steps: int = setting(10, "number of random points", low=1, high=1_000_000)

    def init(self, task: Task) -> State:
        return {"point": task.images}


@dataclass(frozen=True, kw_only=True)
class UniformNoise(_Noise):
    """Uniform noise: points drawn uniformly from the ball; in l0, random pixels of random colours.

    Parameters
    ----------
    steps
        Number of random points.
    """

    name: ClassVar[str] = "uniform-noise"
    paper: ClassVar[str] = "none; the baseline"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1", "l0")
    any_norm: ClassVar[bool] = True

    def step(self, task: Task, state: State, look: Look) -> State:
        # Each step needs its own key, since `random_start` depends on the key alone.
        fresh = ops.stack([task.keys[:, 0], task.keys[:, 1] + 1 + task.step], axis=1)
        point = replace(task, keys=fresh).random_start()
        look(point)
        return {"point": point}


SPREADS: dict[str, Callable[[Task, Any], Any]] = {
    "linf": lambda task, noise: task.epsilon / 2,
    "l2": lambda task, noise: task.epsilon / task.norm.size(noise),
    "l1": lambda task, noise: task.epsilon / task.norm.size(noise),
}
"""The factor of standard normal noise, (rows,), by norm."""


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(_Noise):
    """Gaussian noise: scaled to the length epsilon in l2 and l1, of standard deviation epsilon / 2 in linf.

    Parameters
    ----------
    steps
        Number of random points.
    """

    name: ClassVar[str] = "gaussian-noise"
    paper: ClassVar[str] = "none; the baseline"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    def step(self, task: Task, state: State, look: Look) -> State:
        noise = task.normal(tuple(task.images.shape[1:]))
        spread = task.per_row(SPREADS[task.norm.name](task, noise))
        point = task.project(task.images + spread * noise)
        look(point)
        return {"point": point}
