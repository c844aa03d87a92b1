"""Few-pixel attack: a few pixels of any colour, found by differential evolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import Knowledge, State
from robustness.numerics import prng
from robustness.numerics.losses import LOSSES
from robustness.numerics.powers_of_two import HUGE
from robustness.threat.norms import Norm


@dataclass(frozen=True, kw_only=True)
class FewPixel(Attack):
    """Few-pixel attack: find a flip by changing a few pixels, with differential evolution.

    In each generation, every candidate (positions and colours of pixels) gets a child ``p1 + F (p2 - p3)``
    of three other candidates, which replaces it if its loss is lower. A step is a generation, and epsilon
    counts pixels. As in the paper there is no crossover, and the first colours are drawn from N(128, 127)
    counts. The population is 100 instead of 400, at a quarter of the queries.

    References
    ----------
    Su et al. 2019, arXiv:1710.08864, sec. III-B.
    """

    name: ClassVar[str] = "few-pixel"
    padded: ClassVar[bool] = False
    paper: ClassVar[str] = "Su et al. 2019, arXiv:1710.08864"
    knowledge: ClassVar[Knowledge] = "score"
    norms: ClassVar[tuple[str, ...]] = ("l0",)

    steps: int = setting(100, "number of generations", low=1, high=100_000)
    population: int = setting(100, "candidates, each one query per generation", low=4, high=10_000)
    pixels: int = setting(5, "most pixels a candidate changes, within epsilon", low=1, high=1000)
    differential: float = setting(0.5, "weight of the difference of two others", low=0, high=2)
    restarts: int = setting(1, "independent starts of each image", low=1, high=10_000)
    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))

    @property
    def width(self) -> int:
        return self.population

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        return float(self.pixels)

    def init(self, task: Task) -> State:
        height, width, channels = task.images.shape[1:]
        shape = (self.population, self.pixels)
        places = prng.uniform(task.keys, 2, (*shape, 2)) * ops.convert_to_tensor(
            [float(height), float(width)]
        )
        colours = 128 + 127 * prng.normal(task.keys, 3, (*shape, channels))
        born = _inside(ops.concatenate([places, colours], axis=-1), task)
        # The parents' losses are infinite in effect: the first children are the first generation.
        merit = ops.zeros_like(born[:, :, 0, 0]) + HUGE
        return {"point": task.images, "parents": born, "children": born, "losses": merit}

    def step(self, task: Task, state: State, look: Look) -> State:
        pictures = _painted(task, state["children"])
        losses = look(pictures).level
        better = (losses < state["losses"])[:, :, None, None]
        parents = ops.where(better, state["children"], state["parents"])
        losses = ops.minimum(losses, state["losses"])
        # Shifts of one random order by 1, 2 and 3 give three different candidates other than the parent.
        order = ops.argsort(task.uniform((self.population,)), axis=1)
        turned = [ops.roll(order, -shift, axis=1) for shift in (1, 2, 3)]
        first, second, third = (_picked(parents, order, mates) for mates in turned)
        children = _inside(first + self.differential * (second - third), task)
        best = ops.argmin(losses, axis=1)[:, None, None, None]
        point = _painted(task, ops.take_along_axis(parents, best, axis=1))[:, 0]
        return {"point": point, "parents": parents, "children": children, "losses": losses}


def _picked(parents: Any, order: Any, mates: Any) -> Any:
    """The parents arranged so that the candidate at ``order[j]`` gets the one at ``mates[j]``."""
    back = ops.argsort(order, axis=1)
    index = ops.take_along_axis(mates, back, axis=1)
    return ops.take_along_axis(parents, index[:, :, None, None], axis=1)


def _inside(pixels: Any, task: Task) -> Any:
    """Clip candidates (rows, k, d, 2 + c) of (down, across, colour) to the image and to 0..255."""
    height, width, channels = task.images.shape[1:]
    most = np.array([height - 0.01, width - 0.01] + [255.0] * channels, "float32")
    return ops.clip(pixels, 0.0, most)


def _painted(task: Task, pixels: Any) -> Any:
    """The images (rows, k, h, w, c) with the first epsilon pixels of each candidate (rows, k, d, 2 + c)."""
    height, width, _ = task.images.shape[1:]
    pictures = ops.expand_dims(task.images, 1)
    for number in range(pixels.shape[2]):
        place, colour = ops.floor(pixels[:, :, number, :2]), pixels[:, :, number, None, None, 2:]
        down = ops.arange(height, dtype="float32") == place[:, :, :1]
        across = ops.arange(width, dtype="float32") == place[:, :, 1:]
        here = ops.logical_and(down[:, :, :, None], across[:, :, None, :])[..., None]
        counts = ops.reshape(number < task.epsilon, (-1, 1, 1, 1, 1))
        pictures = ops.where(ops.logical_and(here, counts), ops.round(colour), pictures)
    return pictures
