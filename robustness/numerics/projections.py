"""Euclidean projections onto a ball inside a box, exact and row by row.

Every function solves, for each row i,

    minimise  ||delta_i - z_i||_2   subject to   ||delta_i||_p <= radius_i,  low_i <= delta_i <= high_i

with ``low <= 0 <= high`` (the original image is a legal one). `z`, `low`, `high` are (rows, n)
float arrays, `radius` is (rows,) and positive.
"""

from __future__ import annotations

from typing import Any

from keras import ops

_TINY = 1e-12


def linf(z: Any, radius: Any, low: Any, high: Any) -> Any:
    """Onto the cube of half side `radius`: a clip, as the constraints are per component."""
    radius = radius[:, None]
    return ops.clip(z, ops.maximum(low, -radius), ops.minimum(high, radius))


def l2(z: Any, radius: Any, low: Any, high: Any) -> Any:
    """Onto the Euclidean ball.

    The solution is ``clip(s z, low, high)`` for one factor s in (0, 1] a row. With the set of clipped
    components known, s is a square root; starting from none, the set only grows and s with it, so
    the iteration ends at the exact solution after finitely many rounds, and is feasible throughout.
    """
    budget = radius * radius

    def clipped(s: Any) -> Any:
        return ops.clip(s[:, None] * z, low, high)

    def better(s: Any) -> Any:
        moved = s[:, None] * z
        stuck = ops.logical_or(moved < low, moved > high)
        bound = ops.where(z < 0, low, high)
        spent = ops.sum(ops.where(stuck, bound * bound, 0.0), axis=1)
        free = ops.sum(ops.where(stuck, 0.0, z * z), axis=1)
        grown = ops.sqrt(ops.maximum(budget - spent, 0.0) / ops.maximum(free, _TINY))
        return ops.minimum(ops.maximum(grown, s), 1.0)

    def unsettled(s: Any, previous: Any) -> Any:
        return ops.any(s > previous * (1 + 1e-6))

    norm = ops.sqrt(ops.sum(z * z, axis=1))
    start = ops.minimum(radius / ops.maximum(norm, _TINY), 1.0)
    scale, _ = ops.while_loop(
        unsettled, lambda s, previous: (better(s), s), (better(start), start), maximum_iterations=30
    )
    return _shrunk(clipped(scale), radius, lambda d: ops.sqrt(ops.sum(d * d, axis=1)))


def l1(z: Any, radius: Any, low: Any, high: Any) -> Any:
    """Onto the cross-polytope (Croce & Hein 2021, arXiv:2103.01208, prop. 2.1).

    The solution is ``sign(z) clip(|z| - t, 0, cap)`` for one threshold t >= 0 a row, at which the
    components add up to `radius`. The sum falls with t, piecewise linearly: halving finds the piece,
    and a division the threshold in it.
    """
    size = ops.abs(z)
    cap = ops.where(z < 0, -low, high)

    def spread(t: Any) -> Any:
        return ops.clip(size - t[:, None], 0.0, cap)

    def halve(below: Any, above: Any) -> tuple[Any, Any]:
        middle = (below + above) / 2
        over = ops.sum(spread(middle), axis=1) > radius
        return ops.where(over, middle, below), ops.where(over, above, middle)

    zero = ops.zeros_like(radius)
    below, above = ops.while_loop(
        lambda *_: True, halve, (zero, ops.max(size, axis=1)), maximum_iterations=26
    )
    rest = size - above[:, None]
    free = ops.logical_and(rest > 0, rest < cap)
    full = ops.sum(ops.where(rest >= cap, cap, 0.0), axis=1)
    count = ops.sum(ops.cast(free, z.dtype), axis=1)
    exact = (ops.sum(ops.where(free, size, 0.0), axis=1) + full - radius) / ops.maximum(count, 1.0)
    threshold = ops.where(count > 0, ops.clip(exact, below, above), above)
    inside = ops.sum(spread(zero), axis=1) <= radius
    delta = ops.sign(z) * spread(ops.where(inside, zero, threshold))
    return _shrunk(delta, radius, lambda d: ops.sum(ops.abs(d), axis=1))


def l0(z: Any, radius: Any, low: Any, high: Any, *, channels: int = 1) -> Any:
    """Onto at most `radius` changed pixels, each a group of `channels` neighbouring components.

    Kept are the pixels whose change brings the result nearest to z: by the largest gain
    ``|z|^2 - |z - clip(z)|^2`` (Croce & Hein 2019, arXiv:1909.05040, sec. 3.1). Ties go to the
    earlier pixel.
    """
    inside = ops.clip(z, low, high)
    gain = ops.sum(
        ops.reshape(z * z - (z - inside) ** 2, (-1, z.shape[1] // channels, channels)), 2
    )
    order = ops.argsort(-gain, axis=1)
    rank = ops.argsort(order, axis=1)
    kept = ops.cast(rank, z.dtype) < ops.floor(radius)[:, None]
    return ops.where(ops.repeat(kept, channels, axis=1), inside, 0.0)


def _shrunk(delta: Any, radius: Any, size: Any) -> Any:
    """`delta`, less the last rounding error by which it may stick out of the ball."""
    return delta * ops.minimum(1.0, radius / ops.maximum(size(delta), _TINY))[:, None]
