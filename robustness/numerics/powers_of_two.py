"""Scales tensors by powers of two, which is exact in float32.

A gradient may be as small as the logits of its model, and its products with the weights of a network even
smaller. Scaled by a power of two before and back afterwards, they stay in the range of normal float32
numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import ops

from robustness.backend.types import Tensor

TINY = 2.0**-126
"""The smallest normal float32: a lower bound for divisors that may be zero."""
HUGE = float(np.finfo("float32").max)
"""The largest float32: no logit or loss is above it, or below its negative."""
_REACH = 2.0**100
_EXPONENT = 0x7F800000
"""The bits of a float32 that hold its exponent."""


def magnitude(values: Tensor) -> Tensor:
    """Return the largest absolute value of each row, (rows,)."""
    return ops.max(ops.abs(ops.reshape(values, (ops.shape(values)[0], -1))), axis=1)


def binade(values: Tensor) -> Tensor:
    """Return the largest power of two that is at most the largest absolute value of each row.

    Parameters
    ----------
    values : tensor, shape (rows, ...)
        float32.

    Returns
    -------
    (rows,) float32, within 2^-100 and 2^100; 1 for a row of zeros and for a row that is not finite.
    """
    bits = ops.view(ops.cast(magnitude(values), "float32"), dtype="int32")
    power = ops.view(ops.bitwise_and(bits, _EXPONENT), dtype="float32")
    known = ops.logical_and(power > 0, ops.isfinite(power))
    return ops.where(known, ops.clip(power, 1 / _REACH, _REACH), 1.0)


def scaled(linear: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
    """Apply a linear function to rows that are scaled to numbers near one, and scale the result back.

    Parameters
    ----------
    linear : callable
        A linear function from (rows, n) to (rows, ...), separate for each row.
    weights : tensor, shape (rows, n)
        float32.

    Returns
    -------
    ``linear(weights)``: the same bits, unless numbers underflow or overflow without the scaling.
    """
    size = binade(weights)
    result = linear(weights / size[:, None])
    return result * ops.reshape(
        ops.cast(size, result.dtype), (-1,) + (1,) * (len(result.shape) - 1)
    )
