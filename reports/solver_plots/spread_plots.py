"""Draws unit vectors moving apart, of one loss or of several: NumPy arrays in, a .gif or .png out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from robustness.reports.solver_plots.canvas import (
    FAINT,
    INK,
    QUIET,
    SERIES,
    Box,
    Canvas,
    Panel,
    evenly,
    save,
)

_RADIUS = 165.0


def plot_spread(
    target: str | Path,
    path: np.ndarray,
    bound: float,
    title: str,
    *,
    fixed: np.ndarray | None = None,
    antipodal: bool = False,
) -> None:
    """Draw vectors on their way, and their smallest angle in degrees over the steps.

    Parameters
    ----------
    target : str or Path
        The .gif or .png to write.
    path : numpy.ndarray, shape (steps + 1, count, dim)
        The vectors: in 2-D drawn as arrows, in 3-D on a sphere; beyond that their sorted nearest angles.
    bound : float
        The largest angle that is possible, in degrees.
    title : str
        The problem in words.
    fixed : numpy.ndarray, shape (others, dim), optional
        Vectors that do not move, drawn black.
    antipodal : bool
        Whether the vectors are lines; both ends are drawn.
    """
    kept = np.zeros((0, path.shape[2])) if fixed is None else np.asarray(fixed, "float64")
    kept = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    nearest = np.stack([_nearest(vectors, kept, antipodal) for vectors in path])
    smallest = np.min(nearest, axis=1)

    def draw(frame: int) -> Image.Image:
        canvas = Canvas(860, 420)
        words = f"{title}, step {frame}: smallest angle {smallest[frame]:.3f}°"
        canvas.text(20, 22, words, anchor="lm", size=14)
        ends = np.concatenate([path[frame], kept])
        inks = [SERIES[0]] * len(path[frame]) + [INK] * len(kept)
        if antipodal:
            ends, inks = np.concatenate([ends, -ends]), inks * 2
        _vectors(canvas, Box(0, 0, 430, 420), ends, inks)
        if path.shape[2] > 3:
            _sorted_angles(canvas, Box(10, 40, 420, 375), nearest, frame, bound)
        _angles(canvas, Box(430, 40, 420, 375), {"": smallest}, frame, bound)
        return canvas.finish()

    save(draw, evenly(len(path)), target)


def plot_spreads(
    target: str | Path, paths: Mapping[str, np.ndarray], bound: float, title: str
) -> None:
    """Draw the ways of several losses beside one another, and their smallest angles in one chart.

    Parameters
    ----------
    target : str or Path
        The .gif or .png to write.
    paths : mapping of str to numpy.ndarray, shape (steps + 1, count, dim)
        The vectors of every step, by the name of the loss.
    bound : float
        The largest angle that is possible, in degrees.
    title : str
        The problem in words.
    """
    empty = np.zeros((0, next(iter(paths.values())).shape[2]))
    nearest = {
        name: np.stack([_nearest(vectors, empty, False) for vectors in path])
        for name, path in paths.items()
    }
    smallest = {name: np.min(angles, axis=1) for name, angles in nearest.items()}

    def draw(frame: int) -> Image.Image:
        canvas = Canvas(320 * len(paths), 640)
        canvas.text(20, 22, f"{title}, step {frame}", anchor="lm", size=14)
        for i, (name, path) in enumerate(paths.items()):
            ink, step = SERIES[i % len(SERIES)], min(frame, len(path) - 1)
            box = Box(320 * i, 64, 320, 300)
            words = f"{name}: {smallest[name][step]:.3f}°"
            canvas.dot(320 * i + 26, 52, 4, ink)
            canvas.text(320 * i + 36, 52, words, anchor="lm", size=13)
            _vectors(canvas, box, path[step], [ink] * len(path[step]))
            if path.shape[2] > 3:
                _sorted_angles(canvas, box, nearest[name], step, bound, ink)
        _angles(canvas, Box(0, 375, 320 * len(paths), 255), smallest, frame, bound)
        return canvas.finish()

    save(draw, evenly(max(len(path) for path in paths.values())), target)


def _angles(
    canvas: Canvas, box: Box, smallest: Mapping[str, np.ndarray], frame: int, bound: float
) -> None:
    """The smallest angle over the steps, one line per name, below the bound."""
    low = min(float(np.min(angles)) for angles in smallest.values())
    high = max(bound, *(float(np.max(angles)) for angles in smallest.values()))
    steps = max(1, *(len(angles) - 1 for angles in smallest.values()))
    panel = Panel(canvas, box, (0, steps, low, high), ("smallest angle", "step", "degrees"))
    panel.frame()
    panel.curve([0, steps], [bound, bound], INK, 1.0)
    middle, line = panel.at(steps / 2, bound)
    canvas.text(middle, line - 5, f"bound {bound:.3f}°", anchor="ms", size=11, colour=QUIET)
    for i, angles in enumerate(smallest.values()):
        seen = angles[: frame + 1]
        panel.curve(range(len(seen)), seen, SERIES[i % len(SERIES)])
        panel.dots([len(seen) - 1], seen[-1:], SERIES[i % len(SERIES)], 3.2)


def _vectors(canvas: Canvas, box: Box, vectors: np.ndarray, inks: Sequence[tuple]) -> None:
    """Vectors in 2-D as arrows, in 3-D on a sphere, in the middle of a box; nothing beyond."""
    radius = min(_RADIUS, 0.46 * min(box.width, box.height))
    middle = (box.left + box.width / 2, box.top + box.height / 2 + (22 if not box.top else 0))
    if vectors.shape[1] == 2:
        _arrows(canvas, middle, radius, vectors, inks)
    elif vectors.shape[1] == 3:
        _sphere(canvas, middle, radius, vectors, inks)


def _nearest(vectors: np.ndarray, fixed: np.ndarray, antipodal: bool) -> np.ndarray:
    cosines = vectors @ np.concatenate([vectors, fixed]).T
    cosines = np.abs(cosines) if antipodal else cosines
    np.fill_diagonal(cosines, -1.0)
    return np.degrees(np.arccos(np.clip(np.max(cosines, axis=1), -1.0, 1.0)))


def _arrows(
    canvas: Canvas,
    middle: tuple[float, float],
    radius: float,
    vectors: np.ndarray,
    inks: Sequence[tuple],
) -> None:
    canvas.ring(*middle, radius, FAINT)
    for (x, y), ink in zip(vectors, inks, strict=True):
        tip = np.array([middle[0] + radius * x, middle[1] - radius * y])
        along = np.array([x, -y])
        across = np.array([-along[1], along[0]])
        canvas.line([middle, tuple(tip)], ink, 1.5)
        for side in (4.0, -4.0):
            canvas.line([tuple(tip), tuple(tip - 9.0 * along + side * across)], ink, 1.5)


def _sphere(
    canvas: Canvas,
    middle: tuple[float, float],
    radius: float,
    vectors: np.ndarray,
    inks: Sequence[tuple],
) -> None:
    """Seen from a little above: what lies behind is smaller and paler, and is drawn first."""
    turn, tilt = math.radians(30.0), math.radians(20.0)
    around = np.array(
        [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
    )
    down = np.array(
        [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
    )
    view = down @ around
    canvas.ring(*middle, radius, QUIET)
    angle = np.linspace(0.0, 2.0 * math.pi, 121)
    flat = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    for circle in (flat, flat[:, [2, 0, 1]], flat[:, [0, 2, 1]]):
        seen = circle @ view.T
        canvas.line(
            [(middle[0] + radius * p[0], middle[1] - radius * p[2]) for p in seen], FAINT, 1.0
        )
    seen = vectors @ view.T
    paper = np.array([200, 214, 226])
    for i in np.argsort(-seen[:, 1]):
        x, depth, z = seen[i]
        near = 0.5 * (1.0 - depth)
        colour = tuple(int(c) for c in paper + near * (np.array(inks[i]) - paper))
        canvas.dot(middle[0] + radius * x, middle[1] - radius * z, 3.5 + 3.5 * near, colour)


def _sorted_angles(
    canvas: Canvas,
    box: Box,
    nearest: np.ndarray,
    frame: int,
    bound: float,
    colour: tuple = SERIES[0],
) -> None:
    span = (1, nearest.shape[1], float(np.min(nearest)), max(float(np.max(nearest)), bound))
    titles = ("angle to the nearest neighbour", "vector, sorted", "degrees")
    panel = Panel(canvas, box, span, titles).frame()
    panel.curve([1, nearest.shape[1]], [bound, bound], INK, 1.0)
    values = np.sort(nearest[frame])
    panel.curve(range(1, len(values) + 1), values, colour)
    panel.dots(range(1, len(values) + 1), values, colour, 2.0)
