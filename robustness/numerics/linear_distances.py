"""Computes exact distances to a hyperplane inside the pixel box, the reference for minimising attacks.

For one image x in 0..255 and a linear score, each function solves

    minimise  ||delta||_p   subject to   normal . delta >= margin,  0 <= x + delta <= 255

exactly, in float64. `normal` and `image` are (pixels, channels), `margin` is positive. The distance is
infinite if no picture crosses the plane.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def _room(normal: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The largest move of each component in the direction that raises the score, in counts."""
    return np.where(normal > 0, 255.0 - image, image.astype("float64"))


def _breakpoint(
    gain: Callable[[float], float], margin: float, high: float, rounds: int = 200
) -> float:
    """The smallest s up to `high` with ``gain(s) >= margin``, for a non-decreasing gain; else infinity."""
    if gain(high) < margin:
        return np.inf
    low = 0.0
    for _ in range(rounds):
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) >= margin else (middle, high)
    return high


def linf(normal: np.ndarray, margin: float, image: np.ndarray) -> float:
    """Return the linf distance: every component moves by the same size, up to the box."""
    size, room = np.abs(normal), _room(normal, image)
    return _breakpoint(lambda s: float((size * np.minimum(s, room)).sum()), margin, 255.0)


def l2(normal: np.ndarray, margin: float, image: np.ndarray) -> float:
    """Return the l2 distance: the move is a multiple of the normal, clipped to the box."""
    size, room = np.abs(normal), _room(normal, image)

    def move(s: float) -> np.ndarray:
        return np.minimum(s * size, room)

    largest = 255.0 / max(size[size > 0].min(initial=np.inf), 1e-300)
    s = _breakpoint(lambda s: float((size * move(s)).sum()), margin, largest)
    return float(np.linalg.norm(move(s))) if np.isfinite(s) else np.inf


def l1(normal: np.ndarray, margin: float, image: np.ndarray) -> float:
    """Return the l1 distance: components in the order of falling slope, each up to the box."""
    size, room = np.abs(normal).ravel(), _room(normal, image).ravel()
    order = np.argsort(-size)
    gains = np.cumsum(size[order] * room[order])
    last = int(np.searchsorted(gains, margin))
    if last == len(order):
        return np.inf
    before = gains[last - 1] if last else 0.0
    return float(room[order[:last]].sum() + (margin - before) / size[order[last]])


def l0(normal: np.ndarray, margin: float, image: np.ndarray) -> float:
    """Return the l0 distance in pixels: those with the largest possible gain first, in all channels."""
    gains = np.sort((np.abs(normal) * _room(normal, image)).sum(axis=-1))[::-1]
    count = int(np.searchsorted(np.cumsum(gains), margin))
    return float(count + 1) if count < len(gains) else np.inf
