"""A norm as a plug-in package would define it: the Euclidean length in luminance."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from robustness.threat.norms import TOP, Norm
from robustness.threat.norms.arithmetic import flat_rows, ops, per_row, prng, uniform_share

WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""


def luminance(delta: Any) -> Any:
    """The luminance (rows, h, w, 1) of changes (rows, h, w, 3)."""
    return ops.sum(delta * ops.convert_to_tensor(WEIGHTS, dtype="float32"), axis=-1, keepdims=True)


class LuminanceL2(Norm):
    """The Euclidean length of the change in luminance, for RGB pictures."""

    name: ClassVar[str] = "l2-luma"
    label: ClassVar[str] = "L2 of luminance"
    measure: ClassVar[str] = "length of the change in luminance"
    axis: ClassVar[str] = "counts of luminance"
    budget_words: ClassVar[str] = "a luminance distance of {0}"
    meaning: ClassVar[str] = (
        "the changes of all pixels' luminance, squared, add up to at most {0} squared"
    )
    whole: ClassVar[bool] = False

    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        change = (after.astype(np.int32) - before.astype(np.int32)) @ np.array([299, 587, 114])
        return math.sqrt(float(np.square(change, dtype=np.int64).sum())) / 1000

    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        luma = [np.dot(x.astype(np.float64), WEIGHTS) for x in (before, after)]
        return float(np.linalg.norm(luma[1] - luma[0]))

    def largest(self, pixels: int, channels: int) -> float:
        return TOP * math.sqrt(pixels)

    def size(self, delta: Any) -> Any:
        return ops.sqrt(ops.sum(flat_rows(luminance(delta)) ** 2, axis=1))

    def project(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        """Project into ball and box; the nearest point apart from clipping to the box."""
        weights = ops.convert_to_tensor(WEIGHTS, dtype="float32")
        factor = ops.minimum(radius / ops.maximum(self.size(delta), 1e-6), 1.0)
        surplus = (1 - per_row(factor, delta)) * luminance(delta)
        inside = ops.clip(delta - surplus * weights / ops.sum(weights**2), low, high)
        shrunk = ops.minimum(radius / ops.maximum(self.size(inside), 1e-6), 1.0)
        return inside * per_row(shrunk, inside)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        raise AssertionError("project does it all")

    def steepest(self, gradient: Any) -> Any:
        """A grey change, so that all of it is luminance."""
        grey = ops.sum(gradient, axis=-1, keepdims=True) * ops.ones_like(gradient)
        scaled = grey / per_row(
            ops.maximum(ops.max(ops.abs(flat_rows(grey)), axis=1), 1e-30), gradient
        )
        return scaled / per_row(ops.maximum(self.size(scaled), 1e-12), gradient)

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        noise = prng.normal(keys, 0, (*shape[:-1], 1)) * ops.ones((1, 1, 1, shape[-1]))
        length = uniform_share(keys, (*shape[:-1], 1))
        return noise * per_row(radius * length / ops.maximum(self.size(noise), 1e-6), noise)
