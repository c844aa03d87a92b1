"""Imports Keras and the arithmetic of rows at first use, for norms.

A report needs the texts of a norm and none of its tensors, and must not load TensorFlow. A norm of another
package may import `keras.ops` directly; then reports on that norm load TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A module that is imported when the first of its names is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


ops = LazyModule("keras.ops")
prng = LazyModule("robustness.numerics.prng")
projections = LazyModule("robustness.numerics.projections")
hyperplanes = LazyModule("robustness.numerics.hyperplanes")
_lanes = LazyModule("robustness.numerics.batch_invariant")


def batch_invariant(function: Callable[[Any], Any], values: Any) -> Any:
    """Return ``function(values)``, with the same bits at every position of a row in the batch."""
    return _lanes.batch_invariant(function, values)


def flat_rows(values: Any) -> Any:
    """Return `values` (rows, ...) as (rows, n)."""
    return ops.reshape(values, (-1, math.prod(values.shape[1:])))


def per_row(values: Any, like: Any) -> Any:
    """Return `values` (rows,) in a shape that multiplies `like` (rows, ...)."""
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))


def uniform_share(keys: Any, shape: tuple[int, ...]) -> Any:
    """Return the radius of a uniform point of the unit ball in ``prod(shape)`` dimensions, (rows,), in (0,
    1).

    It is ``u ** (1 / n)`` for a uniform number u, drawn from stream 1 of `keys` (rows, 2).
    """
    root = 1.0 / float(math.prod(shape))
    return batch_invariant(lambda u: u**root, prng.uniform(keys, 1, (1,))[:, 0])
