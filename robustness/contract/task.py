"""What each row of a batch is about: its image, its aim, its budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import ops

from robustness.numerics import prng
from robustness.threat.goals import Goal
from robustness.threat.norms import Norm
from robustness.threat.threat import room


@dataclass(frozen=True)
class Task:
    """What each row is about. Every array has a leading row axis.

    `images` (rows, h, w, c) counts, `aims` (rows,) int32 classes the loss is taken against, `epsilon`
    (rows,) counts, `keys` (rows, 2) int32 for random numbers, `restart` (rows,) int32 which of the
    attack's starts this is, `step` (rows,) int32 steps done. `mask` (h, w, 1) is 1 where pixels may change
    and 0 elsewhere; None if all may.
    """

    images: Any
    aims: Any
    epsilon: Any
    keys: Any
    restart: Any
    step: Any
    norm: Norm
    goal: Goal
    mask: Any = None

    def clip(self, points: Any) -> Any:
        """The nearest pictures: inside 0..255 and the mask, however far from the images."""
        inside = ops.clip(points, 0.0, 255.0)
        if self.mask is None:
            return inside
        several = len(points.shape) == 5
        return ops.where(self.mask > 0, inside, self.images[:, None] if several else self.images)

    def room(self, points: Any) -> tuple[Any, Any]:
        """The least and the largest change of each component of `points` that leaves them pictures."""
        return room(points, self.mask)

    def only(self, gradient: Any) -> Any:
        """`gradient`, nothing where pixels may not change."""
        return gradient if self.mask is None else gradient * self.mask

    def distance(self, points: Any) -> Any:
        """How far each point is from its image, (rows,), in the threat's norm."""
        return self.norm.size(points - self.images)

    def project(self, points: Any) -> Any:
        """The nearest legal points: inside the ball around the images, 0..255, and the mask."""
        low, high = self.room(self.images)
        return self.images + self.norm.project(points - self.images, self.epsilon, low, high)

    def random_start(self) -> Any:
        """A random legal point of each row, the same for the same key."""
        shape = tuple(self.images.shape[1:])
        return self.project(self.images + self.norm.sample(self.keys, self.epsilon, shape))

    def uniform(self, shape: tuple[int, ...], stream: int = 0) -> Any:
        """Numbers in (0, 1), (rows, *shape), fresh at each step; `stream` tells uses apart."""
        return prng.uniform(self.keys, 16 + stream + 4096 * (1 + self.step), shape)

    def normal(self, shape: tuple[int, ...], stream: int = 0) -> Any:
        """Standard normal numbers, like `uniform`."""
        return prng.normal(self.keys, 16 + stream + 4096 * (1 + self.step), shape)

    def per_row(self, values: Any) -> Any:
        """(rows,) shaped so that it multiplies images."""
        return ops.reshape(values, (-1, 1, 1, 1))
