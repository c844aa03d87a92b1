"""Random numbers as a pure function of (key, stream, position): the same in any batch and order.

Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
written in wrapping int32 arithmetic so that every Keras backend computes the same bits. A key is two
int32 per row, made by `key_for` from the seed and the names of what it is for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from keras import ops

from robustness import backend
from robustness.numerics.batch_invariant import batch_invariant

MANY = 4096
"""Numbers of a row. Fewer are drawn in less time than one pass over memory takes to compile."""
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def key_for(seed: int, *names: str | int) -> np.ndarray:
    """Two int32 that stand for `seed` and `names`; other names, another key."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int32).copy()


def _rotate(x: Any, distance: int, word: Callable[[int], Any]) -> Any:
    low = ops.bitwise_right_shift(x, word(32 - distance))
    low = ops.bitwise_and(low, word((1 << distance) - 1))
    return ops.bitwise_or(ops.bitwise_left_shift(x, word(distance)), low)


def threefry(keys: Any, counters: Any) -> tuple[Any, Any]:
    """Two words of random bits (rows, n) int32.

    `keys` is (rows, 2) int32; `counters` two int32 arrays that broadcast to (rows, n).
    """

    @cache
    def word(value: int) -> Any:
        # Each a node of the graph, and the same few again and again.
        return ops.cast(value, "int32")

    keys = ops.cast(keys, "int32")
    first, second = keys[:, 0:1], keys[:, 1:2]
    third = ops.bitwise_xor(ops.bitwise_xor(first, second), word(_PARITY))
    schedule = (first, second, third)
    a, b = (ops.cast(c, "int32") + key_for for c, key_for in zip(counters, schedule, strict=False))
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            a = a + b
            b = ops.bitwise_xor(_rotate(b, distance, word), a)
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + word(group + 1)
    return a, b


def uniform(keys: Any, stream: Any, shape: tuple[int, ...]) -> Any:
    """Numbers in (0, 1), (rows, *shape) float32.

    Parameters
    ----------
    keys: (rows, 2) int32.
    stream: an int, or (rows,) int32: which of a key's independent streams (a step number, say).
    shape: of one row.
    """
    count = math.prod(shape)
    streams = ops.broadcast_to(
        ops.reshape(ops.cast(stream, "int32"), (-1, 1)), (ops.shape(keys)[0], 1)
    )
    top = _top(count)(ops.cast(keys, "int32"), streams)
    # Half a step off zero, so that neither 0 nor 1 is ever drawn.
    return ops.reshape((ops.cast(top, "float32") + 0.5) * 2.0**-23, (-1, *shape))


@lru_cache(maxsize=256)
def _top(count: int) -> Callable[[Any, Any], Any]:
    """The top 23 bits of `count` words a row, (rows, count), of keys (rows, 2) and streams (rows, 1)."""

    def call(keys: Any, streams: Any) -> Any:
        positions = ops.arange((count + 1) // 2, dtype="int32")[None, :]
        bits = ops.concatenate(threefry(keys, (positions, streams)), axis=1)[:, :count]
        return ops.bitwise_and(ops.bitwise_right_shift(bits, ops.cast(9, "int32")), (1 << 23) - 1)

    return backend.fused(call) if count >= MANY else call


def normal(keys: Any, stream: Any, shape: tuple[int, ...]) -> Any:
    """Standard normal numbers (rows, *shape) float32, by Box and Muller's transform."""
    count = math.prod(shape)
    pairs = uniform(keys, stream, (2, (count + 1) // 2))
    radius = ops.sqrt(-2.0 * batch_invariant(ops.log, pairs[:, 0]))
    angle = 2.0 * math.pi * pairs[:, 1]
    both = ops.concatenate(
        [radius * batch_invariant(ops.cos, angle), radius * batch_invariant(ops.sin, angle)], axis=1
    )
    return ops.reshape(both[:, :count], (-1, *shape))
