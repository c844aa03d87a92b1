"""The norm l0: the number of changed pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from robustness.numerics import linear_distances, pixel_lattice
from robustness.numerics.pixel_lattice import Path
from robustness.threat.norms.arithmetic import flat_rows, ops, prng, projections
from robustness.threat.norms.norm import Norm


class L0(Norm):
    """The number of pixels that change in any channel; strictly no norm, since its balls are not convex."""

    name: ClassVar[str] = "l0"
    label: ClassVar[str] = "L0"
    measure: ClassVar[str] = "changed pixels"
    unit: ClassVar[tuple[str, str]] = ("pixel", "pixels")
    axis: ClassVar[str] = "pixels"
    budget_words: ClassVar[str] = "{0}"
    meaning: ClassVar[str] = "no more pixels than {0} change, by any amount"
    changes: ClassVar[str] = "changes of a few pixels"

    convex: ClassVar[bool] = False
    sparse: ClassVar[bool] = True
    in_counts: ClassVar[bool] = False
    has_steepest_path: ClassVar[bool] = True
    _small: ClassVar[float] = 0.01
    """The share of pixels up to which changes are hard to see."""
    _counts: ClassVar[float] = 60.0
    """The smallest change of a pixel that raises a function, in counts, over all its components."""

    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        change = np.maximum(before, after) - np.minimum(before, after)
        return float(np.count_nonzero(reduce(np.bitwise_or, np.moveaxis(change, -1, 0))))

    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        change = after.astype(np.float64) - before.astype(np.float64)
        return float(np.count_nonzero(np.abs(change).max(axis=-1)))

    def largest(self, pixels: int, channels: int) -> float:
        return float(pixels)

    def largest_words(self, pixels: int, channels: int) -> str:
        return f"{pixels} pixels, all that may change"

    def is_small(self, epsilon: float, shape: Sequence[float] | None) -> bool:
        return shape is None or epsilon <= self._small * shape[0] * shape[1]

    def steepest_path(self, gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path:
        return pixel_lattice.steepest_pixels(gradient, low, high)

    def gain(self, slope: np.ndarray) -> float:
        """Return a lower estimate of the rise of a linear function by the best pixel; not a dual norm."""
        return self._counts * float(np.linalg.norm(slope, np.inf))

    def plane_distance(self, normal: np.ndarray, margin: float, image: np.ndarray) -> float:
        return linear_distances.l0(normal, margin, image)

    def size(self, delta: Any) -> Any:
        changed = ops.any(ops.abs(delta) > 0, axis=-1)
        return ops.sum(ops.cast(flat_rows(changed), "float32"), axis=1)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.l0(z, radius, low, high, channels=channels)

    def steepest(self, gradient: Any) -> Any:
        strength = ops.sum(ops.abs(gradient), axis=-1, keepdims=True)
        first = ops.one_hot(
            ops.argmax(flat_rows(strength), axis=1), int(np.prod(strength.shape[1:]))
        )
        return ops.sign(gradient) * ops.reshape(first, ops.shape(strength))

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        return ops.clip(ops.round(self.project(delta, radius, low, high)), low, high)

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        values = 510 * prng.uniform(keys, 0, shape) - 255
        places = prng.uniform(keys, 1, (*shape[:-1], 1))
        wide = ops.broadcast_to(ops.full_like(places, 1e9), ops.shape(values))
        chosen = self.project(ops.broadcast_to(places, ops.shape(values)), radius, -wide, wide)
        return ops.where(ops.abs(chosen) > 0, values, 0.0)
