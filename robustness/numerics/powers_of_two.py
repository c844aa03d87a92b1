"""Powers of two, by which float32 numbers are multiplied without changing a digit of them.

A gradient may be as small as the logits of its model, and what is multiplied with it along a network
smaller still. Scaled by a power of two first, and back afterwards, it keeps to where float32 has its digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

TINY = 2.0**-126
"""The smallest normal float32: what a divisor that may be zero is kept above."""
_REACH = 2.0**100
_EXPONENT = 0x7F800000
"""The bits of a float32 that hold its exponent."""


def magnitude(values: Any) -> Any:
    """The largest size of each row's numbers, (rows,)."""
    return ops.max(ops.abs(ops.reshape(values, (ops.shape(values)[0], -1))), axis=1)


def binade(values: Any) -> Any:
    """The power of two at or below the largest size of each row's numbers, (rows,) float32.

    1 for a row of zeros, and for one that is not finite. Powers stay within 2^-100 and 2^100.

    Parameters
    ----------
    values: (rows, ...) float32.
    """
    bits = ops.view(ops.cast(magnitude(values), "float32"), dtype="int32")
    power = ops.view(ops.bitwise_and(bits, _EXPONENT), dtype="float32")
    known = ops.logical_and(power > 0, ops.isfinite(power))
    return ops.where(known, ops.clip(power, 1 / _REACH, _REACH), 1.0)


def scaled(linear: Callable[[Any], Any], weights: Any) -> Any:
    """``linear(weights)`` of a linear function, row by row, whose own numbers stay near one meanwhile.

    The same bits as without, unless numbers underflow or overflow there.

    Parameters
    ----------
    linear: takes (rows, n) to (rows, ...), each row by itself.
    weights: (rows, n) float32.
    """
    size = binade(weights)
    found = linear(weights / size[:, None])
    return found * ops.reshape(ops.cast(size, found.dtype), (-1,) + (1,) * (len(found.shape) - 1))
