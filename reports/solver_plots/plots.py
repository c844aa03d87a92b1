"""Pictures of the two solvers: a fit on its way to the optimum, and vectors moving apart.

Plain numpy in, a .gif or .png out; nothing here computes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    save,
)


@dataclass(frozen=True)
class Way:
    """One optimizer's way: parameters (steps + 1, features + 1), intercept last, and losses."""

    name: str
    path: np.ndarray
    losses: np.ndarray


# --- regression ------------------------------------------------------------------------------


def plot_fit(  # noqa: PLR0913 - the parts of one drawing
    target: str | Path,
    x: np.ndarray,
    y: np.ndarray,
    ways: Sequence[Way],
    exact: np.ndarray,
    titles: tuple[str, str],
    *,
    logistic: bool = False,
    weights: np.ndarray | None = None,
    ridge: float = 0.0,
) -> None:
    """The data with the line, the losses, and for one feature the path over the loss surface.

    `x` is (rows, features), `exact` (features + 1,) the optimum, `titles` name feature and target;
    `weights` (rows,) and `ridge` are those of the fit. With several features the first panel shows
    predictions against targets instead.
    """
    mass = np.ones(len(y)) if weights is None else weights
    chart = _FitChart(x, y, ways, exact, titles, logistic, mass, ridge)
    save(chart.draw, max(len(way.path) for way in ways), target)


class _FitChart:
    def __init__(  # noqa: PLR0917 - the parts of one drawing
        self,
        x: np.ndarray,
        y: np.ndarray,
        ways: Sequence[Way],
        exact: np.ndarray,
        titles: tuple[str, str],
        logistic: bool,
        weights: np.ndarray,
        ridge: float,
    ) -> None:
        self.x, self.y, self.ways, self.exact = x, y, _tamed(ways), exact
        self.shares = weights / np.sum(weights)
        self.ridge = ridge / np.sum(weights) * (0.5 if logistic else 1.0)
        self.titles, self.logistic = titles, logistic
        self.single = x.shape[1] == 1
        self.best = self._loss(exact[None])[0]
        if self.single:
            self.surface, self.span = self._surface()

    def _predict(self, points: np.ndarray) -> np.ndarray:
        margin = points[:, :-1] @ self.x.T + points[:, -1:]
        return 0.5 * (1.0 + np.tanh(0.5 * margin)) if self.logistic else margin

    def _loss(self, points: np.ndarray) -> np.ndarray:
        if not self.logistic:
            return ((self._predict(points) - self.y) ** 2) @ self.shares
        margin = points[:, :-1] @ self.x.T + points[:, -1:]
        return (np.logaddexp(0.0, margin) - self.y * margin) @ self.shares

    def _lowered(self, points: np.ndarray) -> np.ndarray:
        """What the fit lowers: the loss with the ridge's part."""
        return self._loss(points) + self.ridge * np.sum(points[:, :-1] ** 2, axis=1)

    def _surface(self) -> tuple[Image.Image, tuple[float, float, float, float]]:
        """Shades of the loss over what the paths cross: level at the centre of the data, slope.

        The intercept itself is so tied to the slope that the surface would be one thin ravine; the
        height of the line above the mean of x is the same parameter, upright.
        """
        points = np.concatenate([self._upright(way.path) for way in self.ways])
        points = np.concatenate([points, self._upright(self.exact[None])])
        points = points[np.all(np.isfinite(points), axis=1)]
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        room = np.maximum(0.25 * (high - low), 0.05 * np.abs(points[-1]) + 1e-9)
        low, high = low - room, high + room
        levels, slopes = np.linspace(low[0], high[0], 90), np.linspace(high[1], low[1], 90)
        grid = np.stack(np.meshgrid(levels, slopes), axis=-1).reshape(-1, 2)
        centre = float(np.mean(self.x))
        plain = np.stack([grid[:, 1], grid[:, 0] - grid[:, 1] * centre], axis=1)
        best = self._lowered(self.exact[None])[0]
        height = np.log(np.maximum(self._lowered(plain) - best, 1e-12 * best + 1e-300))
        deep, top = np.quantile(height, 0.01), np.max(height)
        share = np.clip((height - deep) / max(top - deep, 1e-12), 0.0, 1.0)
        # Terraces, as on a map: equal steps of the logarithm of the excess loss.
        share = np.floor(share * 14.0) / 14.0
        grey = (252 - 84 * (1.0 - share)).reshape(90, 90)
        tint = np.stack([grey - 14, grey - 4, grey], axis=-1).clip(0, 255).astype("uint8")
        return Image.fromarray(tint), (low[0], high[0], low[1], high[1])

    def _upright(self, points: np.ndarray) -> np.ndarray:
        return np.stack([points[:, -1] + points[:, 0] * np.mean(self.x), points[:, 0]], axis=1)

    def draw(self, frame: int) -> Image.Image:
        panels = 3 if self.single else 2
        across = (400 * panels - 66) // 130
        words = len(self.ways) + 1
        canvas = Canvas(400 * panels, 360 + 18 * ((words - 1) // across))
        self._data(canvas, Box(0, 0, 400, 340), frame)
        self._losses(canvas, Box(400, 0, 400, 340), frame)
        if self.single:
            self._paths(canvas, Box(800, 0, 400, 340), frame)
        for i, name in enumerate([*(way.name for way in self.ways), "exact"]):
            at, down = 66 + 130 * (i % across), 350 + 18 * (i // across)
            if i < len(self.ways):
                canvas.dot(at, down, 4, SERIES[i % len(SERIES)])
            else:
                canvas.line([(at - 8, down), (at + 4, down)], INK, 1.2)
            canvas.text(at + 9, down, name, anchor="lm", size=12)
        return canvas.finish()

    def _data(self, canvas: Canvas, box: Box, frame: int) -> None:
        steps = max(len(way.path) for way in self.ways) - 1
        title = f"step {min(frame, steps)} of {steps}"
        pick = np.linspace(0, len(self.y) - 1, min(len(self.y), 600)).astype(int)
        low, high = float(np.min(self.y)), float(np.max(self.y))
        if not self.single:
            names = (title, self.titles[1], "predicted")
            panel = Panel(canvas, box, (low, high, low, high), names).frame()
            for i, way in enumerate(self.ways):
                predicted = self._predict(way.path[min(frame, len(way.path) - 1)][None])[0]
                panel.dots(self.y[pick], predicted[pick], SERIES[i % len(SERIES)], 1.8)
            panel.curve([low, high], [low, high], INK, 1.0)
            return
        column = self.x[:, 0]
        span = (float(np.min(column)), float(np.max(column)), low, high)
        panel = Panel(canvas, box, span, (title, *self.titles)).frame()
        panel.dots(column[pick], self.y[pick], QUIET, 1.8)
        ends = np.linspace(span[0], span[1], 80)
        self._line(panel, ends, self.exact, INK, 1.0)
        for i, way in enumerate(self.ways):
            point = way.path[min(frame, len(way.path) - 1)]
            self._line(panel, ends, point, SERIES[i % len(SERIES)], 2.2)

    def _line(
        self, panel: Panel, ends: np.ndarray, point: np.ndarray, colour: tuple, width: float
    ) -> None:
        margin = point[0] * ends + point[1]
        inside = 0.5 * (1.0 + np.tanh(0.5 * margin)) if self.logistic else margin
        low, high = float(np.min(self.y)), float(np.max(self.y))
        room = 0.04 * (high - low)
        seen = (inside >= low - room) & (inside <= high + room)
        panel.curve(ends[seen], inside[seen], colour, width)

    def _losses(self, canvas: Canvas, box: Box, frame: int) -> None:
        every = np.concatenate([way.losses for way in self.ways])
        every = every[np.isfinite(every)]
        top, low = float(np.max(every)), min(float(np.min(every)), self.best)
        wide = top > 20.0 * max(low, 1e-300)
        steps = max(len(way.losses) for way in self.ways) - 1
        name = "mean log-loss" if self.logistic else "mean squared error"
        titles = ("loss", "step", name + (", logarithmic" if wide else ""))
        panel = Panel(canvas, box, (0, max(steps, 1), low, top), titles, logarithmic=wide).frame()
        panel.curve([0, max(steps, 1)], [self.best, self.best], INK, 1.0)
        for i, way in enumerate(self.ways):
            seen = way.losses[: frame + 1]
            panel.curve(range(len(seen)), seen, SERIES[i % len(SERIES)])
            panel.dots([len(seen) - 1], [seen[-1]], SERIES[i % len(SERIES)], 3.2)

    def _paths(self, canvas: Canvas, box: Box, frame: int) -> None:
        titles = ("path over the loss", f"{self.titles[1]} at the mean {self.titles[0]}", "slope")
        panel = Panel(canvas, box, self.span, titles)
        panel.frame()
        corner, end = panel.at(self.span[0], self.span[3]), panel.at(self.span[1], self.span[2])
        canvas.paste(self.surface, Box(*corner, end[0] - corner[0], end[1] - corner[1]))
        goal = self._upright(self.exact[None])[0]
        x, y = panel.at(*goal)
        canvas.line([(x - 6, y), (x + 6, y)], INK, 1.2)
        canvas.line([(x, y - 6), (x, y + 6)], INK, 1.2)
        for i, way in enumerate(self.ways):
            seen = self._upright(way.path[: frame + 1])
            panel.curve(seen[:, 0], seen[:, 1], SERIES[i % len(SERIES)])
            panel.dots(seen[-1:, 0], seen[-1:, 1], SERIES[i % len(SERIES)], 3.6)


def _tamed(ways: Sequence[Way]) -> list[Way]:
    """Without the points of ways that blow up: one of them would leave no room for the others."""
    firsts = [float(way.losses[0]) for way in ways if np.isfinite(way.losses[0])]
    most = 10.0 * max(firsts, default=np.inf)
    tamed = []
    for way in ways:
        wild = ~(way.losses <= most)
        name = f"{way.name} (diverged)" if wild[-1] else way.name
        path = np.where(wild[:, None], np.nan, way.path)
        tamed.append(Way(name, path, np.where(wild, np.nan, way.losses)))
    return tamed


# --- spreading -------------------------------------------------------------------------------


def plot_spread(
    target: str | Path,
    path: np.ndarray,
    bound: float,
    title: str,
    *,
    fixed: np.ndarray | None = None,
    antipodal: bool = False,
) -> None:
    """Vectors (frames, count, dim) on their way, and their smallest angle in degrees.

    In 2-D arrows, in 3-D a sphere, beyond that the sorted angles to the nearest neighbour; `bound`,
    in degrees, is what nobody can beat. `fixed` (others, dim) are drawn black; `antipodal` draws both
    ends of lines.
    """
    dim = path.shape[2]
    kept = np.zeros((0, dim)) if fixed is None else np.asarray(fixed, "float64")
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
        if dim == 2:
            _arrows(canvas, ends, inks)
        elif dim == 3:
            _sphere(canvas, ends, inks)
        else:
            _sorted_angles(canvas, nearest, frame, bound)
        low, high = float(np.min(smallest)), max(float(np.max(smallest)), bound)
        steps = max(len(path) - 1, 1)
        box = Box(430, 40, 420, 375)
        panel = Panel(canvas, box, (0, steps, low, high), ("smallest angle", "step", "degrees"))
        panel.frame()
        panel.curve([0, steps], [bound, bound], INK, 1.0)
        right, line = panel.at(steps, bound)
        canvas.text(right, line - 5, f"bound {bound:.3f}°", anchor="rs", size=11, colour=QUIET)
        panel.curve(range(frame + 1), smallest[: frame + 1], SERIES[0])
        panel.dots([frame], [smallest[frame]], SERIES[0], 3.2)
        return canvas.finish()

    save(draw, len(path), target)


def _nearest(vectors: np.ndarray, fixed: np.ndarray, antipodal: bool) -> np.ndarray:
    cosines = vectors @ np.concatenate([vectors, fixed]).T
    cosines = np.abs(cosines) if antipodal else cosines
    np.fill_diagonal(cosines, -1.0)
    return np.degrees(np.arccos(np.clip(np.max(cosines, axis=1), -1.0, 1.0)))


def _arrows(canvas: Canvas, vectors: np.ndarray, inks: Sequence[tuple]) -> None:
    middle, radius = (215.0, 232.0), 165.0
    canvas.ring(*middle, radius, FAINT)
    for (x, y), ink in zip(vectors, inks, strict=True):
        tip = np.array([middle[0] + radius * x, middle[1] - radius * y])
        along = np.array([x, -y])
        across = np.array([-along[1], along[0]])
        canvas.line([middle, tuple(tip)], ink, 1.5)
        for side in (4.0, -4.0):
            canvas.line([tuple(tip), tuple(tip - 9.0 * along + side * across)], ink, 1.5)


def _sphere(canvas: Canvas, vectors: np.ndarray, inks: Sequence[tuple]) -> None:
    """Seen from a little above: what lies behind is smaller and paler, and is drawn first."""
    middle, radius = (215.0, 232.0), 165.0
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


def _sorted_angles(canvas: Canvas, nearest: np.ndarray, frame: int, bound: float) -> None:
    span = (1, nearest.shape[1], float(np.min(nearest)), max(float(np.max(nearest)), bound))
    titles = ("angle to the nearest neighbour", "vector, sorted", "degrees")
    panel = Panel(canvas, Box(10, 40, 420, 375), span, titles).frame()
    panel.curve([1, nearest.shape[1]], [bound, bound], INK, 1.0)
    values = np.sort(nearest[frame])
    panel.curve(range(1, len(values) + 1), values, SERIES[0])
    panel.dots(range(1, len(values) + 1), values, SERIES[0], 2.0)
