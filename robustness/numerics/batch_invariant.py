"""Functions of a row's numbers to the same bits, wherever in the batch the row stands.

A processor computes `exp` or `cos` of 4, 8 or 16 numbers at once, by a formula of its own, and what is
left over at the end of an array one by one, by another, whose last bit may differ. A run that was killed
and resumed holds its rows in other places, and must come to the same outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

LANES = 16
"""Float32 numbers that the widest processors (AVX-512) take at once."""


def batch_invariant(fn: Callable[[Any], Any], values: Any) -> Any:
    """``fn(values)``, number by number; `values` is (rows, ...) and so is the result.

    Each row is filled up to whole groups, so that nothing of it is ever left over.
    """
    shape = (-1, *values.shape[1:])
    count = math.prod(shape[1:])
    rows = ops.reshape(values, (-1, count))
    if spare := -count % LANES:
        rows = ops.concatenate([rows, ops.repeat(rows[:, :1], spare, axis=1)], axis=1)
    return ops.reshape(fn(rows)[:, :count], shape)
