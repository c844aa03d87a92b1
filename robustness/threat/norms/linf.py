"""The norm linf: the largest change of a component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from robustness.numerics import linear_distances
from robustness.threat.norms.arithmetic import (
    batch_invariant,
    flat_rows,
    hyperplanes,
    ops,
    per_row,
    prng,
    projections,
)
from robustness.threat.norms.norm import TOP, Norm


class Linf(Norm):
    """The largest change of any component."""

    name: ClassVar[str] = "linf"
    label: ClassVar[str] = "L∞"
    measure: ClassVar[str] = "largest change"
    axis: ClassVar[str] = "counts a component"
    budget_words: ClassVar[str] = "{0}"
    meaning: ClassVar[str] = "no colour value of a pixel (0 to 255) moves by more than {0}"

    dual: ClassVar[str] = "l1"
    bounded_alike: ClassVar[bool] = True
    separable: ClassVar[bool] = True
    grey: ClassVar[float] = 128.0
    rounding: ClassVar[float] = 0.499
    scale_limit: ClassVar[float] = 1.0
    _small: ClassVar[float] = 8.0
    """The change in counts up to which it is hard to see."""

    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        return float((np.maximum(before, after) - np.minimum(before, after)).max())

    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        change = after.astype(np.float64) - before.astype(np.float64)
        return float(np.linalg.norm(change.ravel(), np.inf))

    def largest(self, pixels: int, channels: int) -> float:
        return TOP

    def largest_words(self, pixels: int, channels: int) -> str:
        return "255 counts, all that a component can change by"

    def is_small(self, epsilon: float, shape: Sequence[float] | None) -> bool:
        return epsilon <= self._small

    def gain(self, slope: np.ndarray) -> float:
        return float(np.linalg.norm(slope, 1))

    def dual_size(self, slope: Any) -> Any:
        return ops.sum(ops.abs(flat_rows(slope)), axis=1)

    def onto_plane(self, normal: Any, gain: Any, low: Any, high: Any) -> Any:
        return hyperplanes.linf(normal, gain, low, high)

    def plane_distance(self, normal: np.ndarray, margin: float, image: np.ndarray) -> float:
        return linear_distances.linf(normal, margin, image)

    def size(self, delta: Any) -> Any:
        return ops.max(ops.abs(flat_rows(delta)), axis=1)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.linf(z, radius, low, high)

    def steepest(self, gradient: Any) -> Any:
        return ops.sign(gradient)

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        reach = per_row(ops.floor(radius), delta)
        return ops.clip(ops.round(delta), ops.maximum(low, -reach), ops.minimum(high, reach))

    def fill_budget(self, delta: Any, radius: Any) -> Any:
        # A change of less than half a count rounds to nothing.
        factor = ops.floor(radius) / ops.maximum(self.size(delta), 1e-6)
        return delta * per_row(ops.maximum(factor, 1.0), delta)

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        unit = 2 * prng.uniform(keys, 0, shape) - 1
        return unit * per_row(radius, unit)

    def from_normal(self, noise: Any, radius: Any, keys: Any) -> Any:
        return per_row(radius, noise) * batch_invariant(ops.erf, noise * 0.5**0.5)
