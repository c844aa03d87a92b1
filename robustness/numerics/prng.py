"""Counter-based random numbers: a pure function of key, stream and position, the same in any batch and order.

Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), in wrapping
int32 arithmetic so that every Keras backend computes the same bits. A key is two int32 per row, which
`key_for` derives from the seed and the names of its purpose.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from keras import ops

from robustness import backend
from robustness.backend.types import Tensor
from robustness.numerics.batch_invariant import batch_invariant

FUSED_FROM = 4096
"""The count of numbers per row from which they are drawn in one pass over memory (`backend.fused`); for
fewer, compiling takes longer than it saves."""
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def key_for(seed: int, *names: str | int) -> np.ndarray:
    """Derive a key, (2,) int32, from `seed` and `names`.

    Different names give independent keys (the first 64 bits of a SHA-256).
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int32).copy()


def _rotate(x: Tensor, distance: int, word: Callable[[int], Tensor]) -> Tensor:
    low = ops.bitwise_right_shift(x, word(32 - distance))
    low = ops.bitwise_and(low, word((1 << distance) - 1))
    return ops.bitwise_or(ops.bitwise_left_shift(x, word(distance)), low)


def threefry(keys: Tensor, counters: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Compute two words of random bits for each counter (Threefry-2x32-20).

    Parameters
    ----------
    keys : tensor, shape (rows, 2)
        int32.
    counters : tuple of two tensors
        int32; they broadcast to (rows, n).

    Returns
    -------
    Two tensors (rows, n) int32, all of whose bits are random.
    """

    @cache
    def word(value: int) -> Tensor:
        # Each constant is a node of the graph, so the few that are needed are reused.
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


def uniform(keys: Tensor, stream: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Draw uniform numbers.

    Parameters
    ----------
    keys : tensor, shape (rows, 2)
        int32.
    stream : int or tensor, shape (rows,)
        int32: the number of one of the independent streams of a key, such as a step.
    shape : tuple of int
        The shape of one row.

    Returns
    -------
    (rows, *shape) float32 in the open interval (0, 1), with 23 random bits each.
    """
    count = math.prod(shape)
    streams = ops.broadcast_to(
        ops.reshape(ops.cast(stream, "int32"), (-1, 1)), (ops.shape(keys)[0], 1)
    )
    top = _top(count)(ops.cast(keys, "int32"), streams)
    # Half a step above the grid, so that neither 0 nor 1 is ever drawn.
    return ops.reshape((ops.cast(top, "float32") + 0.5) * 2.0**-23, (-1, *shape))


@lru_cache(maxsize=256)
def _top(count: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The top 23 bits of `count` words per row, (rows, count), of keys (rows, 2) and streams (rows, 1)."""

    def call(keys: Tensor, streams: Tensor) -> Tensor:
        positions = ops.arange((count + 1) // 2, dtype="int32")[None, :]
        bits = ops.concatenate(threefry(keys, (positions, streams)), axis=1)[:, :count]
        return ops.bitwise_and(ops.bitwise_right_shift(bits, ops.cast(9, "int32")), (1 << 23) - 1)

    # Compiled here, the hundreds of operations are traced once and not again for each function that draws.
    return backend.fused(call) if count >= FUSED_FROM else backend.compile(call)


def normal(keys: Tensor, stream: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Draw standard normal numbers by the Box-Muller transform; parameters as for `uniform`."""
    count = math.prod(shape)
    pairs = uniform(keys, stream, (2, (count + 1) // 2))
    radius = ops.sqrt(-2.0 * batch_invariant(ops.log, pairs[:, 0]))
    angle = 2.0 * math.pi * pairs[:, 1]
    both = ops.concatenate(
        [radius * batch_invariant(ops.cos, angle), radius * batch_invariant(ops.sin, angle)], axis=1
    )
    return ops.reshape(both[:, :count], (-1, *shape))
