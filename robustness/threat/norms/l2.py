"""The norm l2: the Euclidean length of the change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from robustness.numerics import linear_distances, pixel_lattice
from robustness.numerics.pixel_lattice import Lattice
from robustness.threat.norms.arithmetic import (
    batch_invariant,
    flat_rows,
    hyperplanes,
    ops,
    per_row,
    prng,
    projections,
    uniform_share,
)
from robustness.threat.norms.norm import TOP, Norm

_SMALLEST_NORMAL = 2.0**-126
"""The smallest normal float32, a lower bound for divisors that may be zero."""


class L2(Norm):
    """The Euclidean length of the change."""

    name: ClassVar[str] = "l2"
    label: ClassVar[str] = "L2"
    measure: ClassVar[str] = "Euclidean length"
    axis: ClassVar[str] = "counts of Euclidean length"
    budget_words: ClassVar[str] = "an L2 distance of {0}"
    meaning: ClassVar[str] = (
        "the changes of all colour values (0 to 255), squared, add up to at most {0} squared"
    )

    dual: ClassVar[str] = "l2"
    power: ClassVar[int] = 2
    whole: ClassVar[bool] = False
    has_path_along: ClassVar[bool] = True
    has_steepest_path: ClassVar[bool] = True
    _small: ClassVar[float] = 4.0
    """The change in counts, equal in all components, up to which it is hard to see."""

    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        change = np.maximum(before, after) - np.minimum(before, after)
        return float(np.sqrt(np.square(change, dtype=np.int32).sum(dtype=np.int64)))

    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        change = after.astype(np.float64) - before.astype(np.float64)
        return float(np.linalg.norm(change.ravel(), 2))

    def largest(self, pixels: int, channels: int) -> float:
        return TOP * math.sqrt(pixels * channels)

    def largest_words(self, pixels: int, channels: int) -> str:
        most = self.largest(pixels, channels)
        return f"{most:.6g} counts, the length of the largest change ({pixels} pixels)"

    def is_small(self, epsilon: float, shape: Sequence[float] | None) -> bool:
        return shape is None or epsilon <= self._small * math.prod(shape) ** 0.5

    def path_along(self, delta: np.ndarray, low: np.ndarray, high: np.ndarray) -> Lattice:
        return pixel_lattice.lattice(delta, low, high, self.power)

    def steepest_path(self, gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Lattice:
        return pixel_lattice.lattice(gradient, low, high, self.power)

    def gain(self, slope: np.ndarray) -> float:
        return float(np.linalg.norm(slope, 2))

    def dual_size(self, slope: Any) -> Any:
        return self.size(slope)

    def onto_plane(self, normal: Any, gain: Any, low: Any, high: Any) -> Any:
        return hyperplanes.l2(normal, gain, low, high)

    def plane_distance(self, normal: np.ndarray, margin: float, image: np.ndarray) -> float:
        return linear_distances.l2(normal, margin, image)

    def size(self, delta: Any) -> Any:
        flat = flat_rows(delta)
        # TensorFlow would replace a division by a square root with a product with an inexact inverse.
        return batch_invariant(ops.sqrt, ops.sum(flat * flat, axis=1))

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.l2(z, radius, low, high)

    def steepest(self, gradient: Any) -> Any:
        # Scaled first, since squares of small gradients would underflow.
        largest = ops.maximum(ops.max(ops.abs(flat_rows(gradient)), axis=1), _SMALLEST_NORMAL)
        scaled = gradient / per_row(largest, gradient)
        return scaled / per_row(ops.maximum(self.size(scaled), 1e-12), gradient)

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        direction = prng.normal(keys, 0, shape)
        length = uniform_share(keys, shape)
        return direction * per_row(radius * length / self.size(direction), direction)

    def from_normal(self, noise: Any, radius: Any, keys: Any) -> Any:
        share = uniform_share(keys, tuple(noise.shape[1:]))
        return noise * per_row(radius * share / self.size(noise), noise)
