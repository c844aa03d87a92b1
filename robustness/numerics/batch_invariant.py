"""Applies elementwise functions so that no bit of a result depends on the position of its row in the batch.

A processor computes `exp` or `cos` of 4, 8 or 16 numbers at once by one formula, and the rest of an array one
by one by another formula, whose last bit may differ. The rows of a resumed run are at other positions, and
must reach the same outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from keras import ops

from robustness.backend.types import Tensor

LANES = 16
"""The number of float32 that the widest processors (AVX-512) compute at once."""


def batch_invariant(fn: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Apply an elementwise function so that the result of a row does not depend on the other rows.

    Parameters
    ----------
    fn : callable
        An elementwise function of a tensor.
    values : tensor, shape (rows, ...)
        float32.

    Returns
    -------
    ``fn(values)``, of the same shape.

    Notes
    -----
    Each row is padded with its first number to a multiple of `LANES`, so that none of its numbers is computed
    by the formula for the rest of an array.
    """
    shape = (-1, *values.shape[1:])
    count = math.prod(shape[1:])
    rows = ops.reshape(values, (-1, count))
    if spare := -count % LANES:
        first = ops.broadcast_to(rows[:, :1], (ops.shape(rows)[0], spare))
        rows = ops.concatenate([rows, first], axis=1)
    return ops.reshape(fn(rows)[:, :count], shape)
