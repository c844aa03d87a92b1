"""Keras and the arithmetic of rows, imported at first use.

A report needs the words of a norm and none of its tensors, and opens without TensorFlow. A norm in a file
of its own package may import `keras.ops` directly; then only reports on that norm load TensorFlow.
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
    """``function(values)`` to the same bits wherever in the batch a row stands."""
    return _lanes.batch_invariant(function, values)


def flat_rows(values: Any) -> Any:
    """`values` (rows, ...) as (rows, n)."""
    return ops.reshape(values, (-1, math.prod(values.shape[1:])))


def per_row(values: Any, like: Any) -> Any:
    """`values` (rows,) shaped so that they multiply `like` (rows, ...)."""
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))


def uniform_share(keys: Any, shape: tuple[int, ...]) -> Any:
    """The radius of a uniform point of the unit ball in ``prod(shape)`` dimensions, (rows,), in (0, 1).

    ``u ** (1 / n)`` of a uniform number u, drawn from stream 1 of `keys` (rows, 2).
    """
    root = 1.0 / float(math.prod(shape))
    return batch_invariant(lambda u: u**root, prng.uniform(keys, 1, (1,))[:, 0])
