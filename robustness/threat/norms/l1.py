"""The norm l1: the sum of the absolute changes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from robustness.numerics import linear_distances, pixel_lattice
from robustness.numerics.pixel_lattice import Lattice, Path
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


class L1(Norm):
    """The sum of the absolute changes of all components."""

    name: ClassVar[str] = "l1"
    label: ClassVar[str] = "L1"
    measure: ClassVar[str] = "sum of changes"
    axis: ClassVar[str] = "counts in all"
    budget_words: ClassVar[str] = "an L1 distance of {0}"
    meaning: ClassVar[str] = "the changes of all colour values (0 to 255) add up to at most {0}"

    dual: ClassVar[str] = "linf"
    sparse: ClassVar[bool] = True
    has_path_along: ClassVar[bool] = True
    has_steepest_path: ClassVar[bool] = True
    share: ClassVar[float] = 0.01
    """The share of components that `steepest` changes, at least four of them. The true steepest direction
    changes a single one, which takes thousands of steps in an image; the hundredth with the largest gradient
    is the usual compromise (Tramer & Boneh 2019, arXiv:1904.13000, sec. 5)."""

    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        change = np.maximum(before, after) - np.minimum(before, after)
        return float(change.sum(dtype=np.int64))

    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        change = after.astype(np.float64) - before.astype(np.float64)
        return float(np.linalg.norm(change.ravel(), 1))

    def largest(self, pixels: int, channels: int) -> float:
        return TOP * pixels * channels

    def largest_words(self, pixels: int, channels: int) -> str:
        most = self.largest(pixels, channels)
        return f"{most:.0f} counts, the sum of the largest change ({pixels} pixels)"

    def path_along(self, delta: np.ndarray, low: np.ndarray, high: np.ndarray) -> Lattice:
        return pixel_lattice.lattice(delta, low, high, self.power)

    def steepest_path(self, gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path:
        return pixel_lattice.steepest_components(gradient, low, high)

    def gain(self, slope: np.ndarray) -> float:
        return float(np.linalg.norm(slope, np.inf))

    def dual_size(self, slope: Any) -> Any:
        return ops.max(ops.abs(flat_rows(slope)), axis=1)

    def onto_plane(self, normal: Any, gain: Any, low: Any, high: Any) -> Any:
        return hyperplanes.l1(normal, gain, low, high)

    def plane_distance(self, normal: np.ndarray, margin: float, image: np.ndarray) -> float:
        return linear_distances.l1(normal, margin, image)

    def size(self, delta: Any) -> Any:
        return ops.sum(ops.abs(flat_rows(delta)), axis=1)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.l1(z, radius, low, high)

    def steepest(self, gradient: Any) -> Any:
        size = ops.abs(flat_rows(gradient))
        count = min(size.shape[1], max(4, int(self.share * size.shape[1])))
        least = ops.top_k(size, count)[0][:, -1:]
        chosen = ops.logical_and(size >= least, size > 0)
        signs = ops.where(chosen, ops.sign(flat_rows(gradient)), 0.0)
        total = ops.maximum(ops.sum(ops.abs(signs), axis=1, keepdims=True), 1.0)
        return ops.reshape(signs / total, ops.shape(gradient))

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        # Exponential numbers divided by their sum are uniform on the simplex; with one more number that is
        # left out, they are uniform in the solid simplex.
        count = int(np.prod(shape))
        pieces = -batch_invariant(ops.log, prng.uniform(keys, 0, (count + 1,)))
        signs = ops.sign(prng.uniform(keys, 1, (count,)) - 0.5)
        within = signs * pieces[:, :count] / ops.sum(pieces, axis=1, keepdims=True)
        return ops.reshape(within * radius[:, None], (-1, *shape))

    def from_normal(self, noise: Any, radius: Any, keys: Any) -> Any:
        # Exponential numbers divided by their sum, with one more that is left out, are uniform in the
        # solid simplex.
        most = 1.0 - 1e-7
        sizes = batch_invariant(
            lambda z: -ops.log1p(-ops.minimum(ops.abs(ops.erf(z * 0.5**0.5)), most)), noise
        )
        spare = -batch_invariant(ops.log, prng.uniform(keys, 1, (1,))[:, 0])
        total = ops.sum(sizes, axis=(1, 2, 3)) + spare
        return ops.sign(noise) * sizes * per_row(radius / total, noise)
