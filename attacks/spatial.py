"""Rotations and translations: a grid search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import Knowledge, State
from robustness.numerics.batch_invariant import batch_invariant

DEGREES = 30.0
"""The paper's largest rotation, at which its largest translation applies."""


@dataclass(frozen=True, kw_only=True)
class Spatial(Attack):
    """Spatial transformations: does a rotation and translation of a grid change the class?

    Evaluates every rotation of the grid, the smallest first, with every shift. A step is one rotation with
    all its shifts. Epsilon is the largest rotation in degrees. Interpolation is bilinear, and pixels from
    outside the image are black.

    Parameters
    ----------
    steps
        Number of rotations.
    shifts
        Number of shifts per axis.
    translation
        The largest shift at 30 degrees, as a share of the side; in proportion at another epsilon.

    Notes
    -----
    The paper rotates by up to 30 degrees and shifts by up to a tenth of the side.

    References
    ----------
    Engstrom et al. 2019, arXiv:1712.02779, sec. 3 and 4.
    """

    name: ClassVar[str] = "spatial"
    padded: ClassVar[bool] = False
    paper: ClassVar[str] = "Engstrom et al. 2019, arXiv:1712.02779"
    knowledge: ClassVar[Knowledge] = "decision"
    norms: ClassVar[tuple[str, ...]] = ("free",)
    baseline: ClassVar[bool] = True

    steps: int = setting(31, "rotations of the grid", low=1, high=10_000)
    shifts: int = setting(5, "shifts of the grid per axis", low=1, high=100)
    translation: float = setting(
        0.1, "largest shift at 30 degrees, as a share of a side", low=0, high=1
    )

    @property
    def width(self) -> int:
        return self.shifts**2

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        grid = np.linspace(-1, 1, self.steps) if self.steps > 1 else np.ones(1)
        turns = ops.convert_to_tensor(
            grid[np.argsort(np.abs(grid), kind="stable")].astype("float32")
        )
        angle = task.epsilon * ops.take(turns, ops.minimum(task.step, self.steps - 1), axis=0)
        line = np.linspace(-1, 1, self.shifts) if self.shifts > 1 else np.zeros(1)
        places = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
        far = self.translation * task.epsilon / DEGREES
        sides = np.array(task.images.shape[1:3], "float32")
        moves = far[:, None, None] * ops.convert_to_tensor((places * sides).astype("float32"))
        points = task.clip(moved(task.images, angle, moves))
        look(points)
        return {"point": points[:, 0]}


def moved(images: Any, degrees: Any, shifts: Any) -> Any:
    """Rotate images and translate each by several shifts.

    Parameters
    ----------
    images
        (rows, h, w, c).
    degrees
        (rows,); positive is counter-clockwise.
    shifts
        (rows, k, 2), down and across, in pixels.

    Returns
    -------
    (rows, k, h, w, c).
    """
    count, (height, width, channels) = shifts.shape[1], images.shape[1:]
    angle = ops.repeat(degrees * math.pi / 180, count)
    down, across = (ops.reshape(shifts[:, :, axis], (-1,)) for axis in (0, 1))
    cos, sin = batch_invariant(ops.cos, angle), batch_invariant(ops.sin, angle)
    middle, centre = (height - 1) / 2, (width - 1) / 2
    # The source of each pixel of the result: shifted back, then rotated back about the middle.
    right = centre - cos * (centre + across) + sin * (middle + down)
    lower = middle - sin * (centre + across) - cos * (middle + down)
    zero = 0 * angle
    back = ops.stack([cos, -sin, right, sin, cos, lower, zero, zero], axis=1)
    every = ops.repeat(images, count, axis=0)
    turned = ops.image.affine_transform(
        every, back, interpolation="bilinear", fill_mode="constant", fill_value=0.0,
        data_format="channels_last",
    )  # fmt: skip
    return ops.reshape(turned, (-1, count, height, width, channels))
