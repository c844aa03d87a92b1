"""Euclidean projections onto the intersection of a norm ball and a box, for each row separately.

Every function solves, for each row i,

    minimise  ||delta_i - z_i||_2   subject to   ||delta_i||_p <= radius_i,  low_i <= delta_i <= high_i

with ``low <= 0 <= high``, so that the unchanged image is feasible. The solutions are exact up to float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from keras import ops

from robustness import backend

_TINY = 1e-12


def linf(z: Any, radius: Any, low: Any, high: Any) -> Any:
    """Project onto the cube of half side `radius`.

    Minimises ``||delta - z||_2`` subject to ``max |delta| <= radius`` and the box. The constraints are
    separate for each component, so the solution is a clip.

    Parameters
    ----------
    z
        (rows, n) float, the point to project, in counts.
    radius
        (rows,) float, positive: the radius of each row's ball, in counts.
    low, high
        (rows, n) float, the box, with ``low <= 0 <= high``.

    Returns
    -------
    (rows, n) float: the nearest point inside ball and box.
    """
    radius = radius[:, None]
    return ops.clip(z, ops.maximum(low, -radius), ops.minimum(high, radius))


def l2(z: Any, radius: Any, low: Any, high: Any) -> Any:
    """Project onto the Euclidean ball.

    Minimises ``||delta - z||_2`` subject to ``||delta||_2 <= radius`` and the box.

    Parameters
    ----------
    z
        (rows, n) float, the point to project, in counts.
    radius
        (rows,) float, positive: the radius of each row's ball, in counts.
    low, high
        (rows, n) float, the box, with ``low <= 0 <= high``.

    Returns
    -------
    (rows, n) float: the nearest point inside ball and box.

    Notes
    -----
    The solution is ``clip(s z, low, high)`` for one factor s in (0, 1] of each row (from
    the multiplier of the ball). If the set of clipped components is known, s is a square root. The iteration
    starts with no component clipped; the set only grows, and s with it, so that it ends at the exact solution
    after finitely many rounds and every iterate is feasible.
    """
    return _shared(_l2)(z, radius, low, high)


def _l2(z: Any, radius: Any, low: Any, high: Any) -> Any:
    budget = radius * radius

    def clipped(s: Any) -> Any:
        return ops.clip(s[:, None] * z, low, high)

    def next_scale(s: Any) -> Any:
        moved = s[:, None] * z
        stuck = ops.logical_or(moved < low, moved > high)
        bound = ops.where(z < 0, low, high)
        spent = ops.sum(ops.where(stuck, bound * bound, 0.0), axis=1)
        free = ops.sum(ops.where(stuck, 0.0, z * z), axis=1)
        grown = ops.sqrt(ops.maximum(budget - spent, 0.0) / ops.maximum(free, _TINY))
        return ops.minimum(ops.maximum(grown, s), 1.0)

    def grows(s: Any, previous: Any) -> Any:
        return ops.any(s > previous * (1 + 1e-6))

    norm = ops.sqrt(ops.sum(z * z, axis=1))
    start = ops.minimum(radius / ops.maximum(norm, _TINY), 1.0)
    scale, _ = ops.while_loop(
        grows,
        lambda s, previous: (next_scale(s), s),
        (next_scale(start), start),
        maximum_iterations=30,
    )
    return _shrunk(clipped(scale), radius, lambda d: ops.sqrt(ops.sum(d * d, axis=1)))


def l1(z: Any, radius: Any, low: Any, high: Any) -> Any:
    """Project onto the cross-polytope, the ball of l1.

    Minimises ``||delta - z||_2`` subject to ``sum |delta| <= radius`` and the box.

    Parameters
    ----------
    z
        (rows, n) float, the point to project, in counts.
    radius
        (rows,) float, positive: the radius of each row's ball, in counts.
    low, high
        (rows, n) float, the box, with ``low <= 0 <= high``.

    Returns
    -------
    (rows, n) float: the nearest point inside ball and box.

    Notes
    -----
    The solution is ``sign(z) clip(|z| - t, 0, cap)`` for one threshold t >= 0 of each row, at which the sizes
    add up to `radius`; `cap` is how far a component may go. The sum falls with t and is piecewise linear:
    bisection finds the piece, and a division the threshold within it.

    References
    ----------
    Croce & Hein 2021, arXiv:2103.01208, prop. 2.1.
    """
    return _shared(_l1)(z, radius, low, high)


def _l1(z: Any, radius: Any, low: Any, high: Any) -> Any:
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
    """Project onto the changes of at most `radius` pixels, each `channels` neighbouring components.

    Minimises ``||delta - z||_2`` subject to at most `radius` pixels of delta being non-zero, and the box.

    Parameters
    ----------
    z
        (rows, n) float, the point to project, in counts.
    radius
        (rows,) float, positive: the radius of each row's ball, in pixels.
    low, high
        (rows, n) float, the box, with ``low <= 0 <= high``.
    channels
        Components of a pixel; n is a multiple of it.

    Returns
    -------
    (rows, n) float: the nearest point inside ball and box.

    Notes
    -----
    The solution keeps the pixels with the largest gain ``|z|^2 - |z - clip(z)|^2`` and clips them to the box.
    Of pixels with equal gains the earlier one is kept.

    References
    ----------
    Croce & Hein 2019, arXiv:1909.05040, sec. 3.1.
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
    """`delta` scaled down by the rounding error by which it may exceed the ball."""
    return delta * ops.minimum(1.0, radius / ops.maximum(size(delta), _TINY))[:, None]


@cache
def _shared(projection: Callable[..., Any]) -> Callable[..., Any]:
    """`projection`, traced once for all attacks and norms: a loop takes longer to trace than a step."""
    return backend.traced_once(projection)
