"""Computes the shortest change of an image onto a hyperplane, within the pixel range, for each row.

Every function solves, for each row i,

    minimise  ||delta_i||_p   subject to   <normal_i, delta_i> = gain_i,  low_i <= delta_i <= high_i

with ``low <= 0 <= high`` and a gain of either sign. If the box does not reach the plane, delta is the
point of the box that is farthest in that direction.

Croce & Hein 2020, arXiv:1907.02044, eq. 5-8, solve this by sorting. Here bisection finds the one unknown of
a row, which costs less for the number of components of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

ROUNDS = 30
"""The number of bisection steps."""


def _oriented(normal: Any, gain: Any, low: Any, high: Any) -> tuple[Any, Any, Any, Any]:
    """The signs of the change, the slopes >= 0, the largest move of each component, and the gain >= 0."""
    way = ops.sign(normal) * ops.sign(gain)[:, None]
    room = ops.where(way > 0, high, ops.where(way < 0, -low, 0.0))
    return way, ops.abs(normal), room, ops.abs(gain)


def _least(moves: Callable[[Any], Any], slope: Any, gain: Any, least: Any, most: Any) -> Any:
    """The moves (rows, n) at the smallest s in least..most of each row with ``<slope, moves(s)> >= gain``.

    Bisection ends with two values of s; the result interpolates between their moves.
    """

    def gained(s: Any) -> Any:
        return ops.sum(slope * moves(s), axis=1)

    def halve(below: Any, above: Any) -> tuple[Any, Any]:
        middle = (below + above) / 2
        short = gained(middle) < gain
        return ops.where(short, middle, below), ops.where(short, above, middle)

    below, above = ops.while_loop(lambda *_: True, halve, (least, most), maximum_iterations=ROUNDS)
    less, more = gained(below), gained(above)
    part = ops.clip((gain - less) / ops.maximum(more - less, 1e-30), 0.0, 1.0)
    before = moves(below)
    return before + part[:, None] * (moves(above) - before)


def linf(normal: Any, gain: Any, low: Any, high: Any) -> Any:
    """Return the shortest change in linf: every component moves by the same size, up to the box.

    Parameters
    ----------
    normal
        (rows, n) float, the normal of each row's plane.
    gain
        (rows,) float of either sign: ``<normal, delta>`` on the plane.
    low, high
        (rows, n) float, the box in counts, with ``low <= 0 <= high``.

    Returns
    -------
    (rows, n) float: the shortest change, or the box's farthest point where it does not reach the plane.
    """
    way, slope, room, gain = _oriented(normal, gain, low, high)
    most = ops.max(room, axis=1)
    moves = _least(lambda s: ops.minimum(s[:, None], room), slope, gain, 0 * most, most)
    return way * ops.where(slope > 0, moves, 0.0)


def l2(normal: Any, gain: Any, low: Any, high: Any) -> Any:
    """Return the shortest change in l2: a multiple of the normal, clipped to the box.

    Parameters
    ----------
    normal
        (rows, n) float, the normal of each row's plane.
    gain
        (rows,) float of either sign: ``<normal, delta>`` on the plane.
    low, high
        (rows, n) float, the box in counts, with ``low <= 0 <= high``.

    Returns
    -------
    (rows, n) float: the shortest change, or the box's farthest point where it does not reach the plane.
    """
    way, slope, room, gain = _oriented(normal, gain, low, high)
    # In units of the largest slope, since a gradient may have any scale.
    unit = slope / ops.maximum(ops.max(slope, axis=1, keepdims=True), 1e-30)
    # `free` is exact where nothing is clipped, and a lower bound elsewhere. At `most`, components with a
    # ten-thousandth of the largest slope are at the box.
    free = gain / ops.maximum(ops.sum(slope * unit, axis=1), 1e-30)
    most = ops.max(room, axis=1) * 1e4
    least = ops.minimum(free, most)
    return way * _least(lambda s: ops.minimum(s[:, None] * unit, room), slope, gain, least, most)


def l1(normal: Any, gain: Any, low: Any, high: Any) -> Any:
    """Return the shortest change in l1: components in the order of falling slope, each up to the box.

    Parameters
    ----------
    normal
        (rows, n) float, the normal of each row's plane.
    gain
        (rows,) float of either sign: ``<normal, delta>`` on the plane.
    low, high
        (rows, n) float, the box in counts, with ``low <= 0 <= high``.

    Returns
    -------
    (rows, n) float: the shortest change, or the box's farthest point where it does not reach the plane.
    """
    way, slope, room, gain = _oriented(normal, gain, low, high)
    top = ops.max(slope, axis=1)
    moves = _least(
        lambda s: ops.where(slope > (top - s)[:, None], room, 0.0),
        slope,
        gain,
        0 * top,
        top * (1 + 1e-6),
    )
    return way * ops.where(slope > 0, moves, 0.0)
