"""The task of an attack: the image, the aim and the budget of each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, overload

from keras import ops

from robustness import backend
from robustness.contract.types import State
from robustness.numerics import prng
from robustness.threat.goals import Goal
from robustness.threat.norms import Norm
from robustness.threat.threat import room

FAR = 1e30
"""A distance larger than any."""


@dataclass(frozen=True)
class Task:
    """The rows that an attack works on; every array has a leading row axis.

    Parameters
    ----------
    images
        (rows, height, width, channels) float32 counts, 0..255.
    aims
        (rows,) int32: the class that the loss is taken against.
    epsilon
        (rows,) float32: the budget, in the norm's unit.
    keys
        (rows, 2) int32: the keys of the random numbers.
    restart
        (rows,) int32: the number of the start, from 0 on.
    step
        (rows,) int32: the number of steps done.
    norm, goal
        The norm and goal of the threat.
    mask
        1 where pixels may change and 0 elsewhere, (height, width, 1), or (rows, height, width, 1) where it
        differs by row; None if all may change.
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
        """Return the nearest points inside 0..255 and the mask, at any distance from the images."""
        inside = ops.clip(points, 0.0, 255.0)
        if self.mask is None:
            return inside
        several = len(points.shape) == 5
        images = self.images[:, None] if several else self.images
        return ops.where(self._mask_of(points) > 0, inside, images)

    def _mask_of(self, points: Any) -> Any:
        """The mask in a shape that multiplies `points`, (rows, h, w, c) or (rows, k, h, w, c)."""
        by_row = self.mask is not None and len(self.mask.shape) == 4
        return self.mask[:, None] if by_row and len(points.shape) == 5 else self.mask

    def room(self, points: Any) -> tuple[Any, Any]:
        """Return the least and largest change of each component of `points` inside 0..255 and the mask."""
        return room(points, self._mask_of(points))

    def only(self, gradient: Any) -> Any:
        """Return `gradient` with 0 where pixels may not change."""
        if self.mask is None or len(self.mask.shape) == 4:
            # A mask of each row is that of a canvas, which the model does not see: its gradient is 0.
            return gradient
        return gradient * self.mask

    def distance(self, points: Any) -> Any:
        """Return the distance of each point from its image in the threat's norm, (rows,)."""
        return self.norm.size(points - self.images)

    def project(self, points: Any) -> Any:
        """Return the nearest points inside the ball around the images, 0..255, and the mask."""
        return self._in_one_pass(lambda task, there: task._projected(there), points)

    def _projected(self, points: Any) -> Any:
        low, high = self.room(self.images)
        return self.images + self.norm.project(points - self.images, self.epsilon, low, high)

    def descend(self, points: Any, direction: Any, length: Any) -> Any:
        """Step from `points` against `direction` by `length` (rows,), and project.

        `points` and `direction` are (rows, height, width, channels).
        """
        return self._in_one_pass(
            lambda task, there, way, far: task._projected(there - task.per_row(far) * way),
            points,
            direction,
            length + 0 * self.epsilon,
        )

    def _in_one_pass(self, move: Callable[..., Any], *arrays: Any) -> Any:
        """Return ``move(task, *arrays)``; in one pass over memory where pictures are large."""
        if self.mask is None or len(self.mask.shape) == 3 or not self.norm.separable:
            return move(self, *arrays)

        def alone(images: Any, mask: Any, epsilon: Any, *others: Any) -> Any:
            return move(replace(self, images=images, mask=mask, epsilon=epsilon), *others)

        return backend.fused(alone)(self.images, self.mask, self.epsilon, *arrays)

    def random_start(self) -> Any:
        """Return a random point of each row, fixed by its key, inside the ball, 0..255 and the mask."""
        shape = tuple(self.images.shape[1:])
        return self.project(self.images + self.norm.sample(self.keys, self.epsilon, shape))

    def uniform(self, shape: tuple[int, ...], stream: int = 0) -> Any:
        """Return uniform numbers in (0, 1), (rows, *shape), new ones at each step.

        Give each use within a step its own `stream`.
        """
        return prng.uniform(self.keys, 16 + stream + 4096 * (1 + self.step), shape)

    def normal(self, shape: tuple[int, ...], stream: int = 0) -> Any:
        """Return standard normal numbers; parameters as for `uniform`."""
        return prng.normal(self.keys, 16 + stream + 4096 * (1 + self.step), shape)

    def per_row(self, values: Any) -> Any:
        """Return `values` (rows,) as (rows, 1, 1, 1), so that they multiply images."""
        return ops.reshape(values, (-1, 1, 1, 1))


@overload
def where_rows(condition: Any, chosen: State, other: State) -> State: ...
@overload
def where_rows(condition: Any, chosen: Any, other: Any) -> Any: ...
def where_rows(condition: Any, chosen: Any, other: Any) -> Any:
    """Take some rows from one array or state, and the rest from another.

    Parameters
    ----------
    condition
        (rows,) bool.
    chosen, other
        Arrays (rows, ...), or states; `chosen` has at least the names of `other`.

    Returns
    -------
    The rows of `chosen` where `condition` is true, those of `other` elsewhere; of states under the names of
    `other`. It is faster than ``ops.where(task.per_row(condition), chosen, other)``.
    """
    if isinstance(other, Mapping):
        return {name: where_rows(condition, chosen[name], value) for name, value in other.items()}
    if tuple(chosen.shape) == tuple(other.shape) and len(other.shape) > 1:
        return backend.select_rows(condition, chosen, other)
    if wide := max(len(chosen.shape), len(other.shape)) - 1:
        condition = ops.reshape(condition, (-1, *[1] * wide))
    return ops.where(condition, chosen, other)
