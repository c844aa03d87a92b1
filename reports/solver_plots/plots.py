"""Draws a regression on its way to the optimum: NumPy arrays in, a .gif or .png out, without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from robustness.reports.solver_plots.canvas import (
    INK,
    QUIET,
    SERIES,
    Box,
    Canvas,
    Panel,
    early,
    save,
)


@dataclass(frozen=True)
class Way:
    """The way of one optimizer.

    Attributes
    ----------
    name : str
        Its name in the legend.
    path : numpy.ndarray, shape (steps + 1, features + 1)
        The parameters, intercept last.
    losses : numpy.ndarray, shape (steps + 1,)
        The losses of these points.
    ended : str
        How it ended if not at the optimum, such as "not converged".
    """

    name: str
    path: np.ndarray
    losses: np.ndarray
    ended: str = ""

    @property
    def title(self) -> str:
        """The name, and how the way ended."""
        return f"{self.name}, {self.ended}" if self.ended else self.name

    def until(self, moment: float) -> np.ndarray:
        """Return the points of the path up to a moment, the last one between two steps."""
        return _until(self.path, moment)


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
    save(chart.draw, early(max(len(way.path) for way in ways)), target)


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
            self.heights = self._heights()

    def _heights(self) -> tuple[float, float]:
        """The span of the targets, widened for the lines of all steps by at most twice its size each way."""
        low, high = float(np.min(self.y)), float(np.max(self.y))
        ends = np.array([[np.min(self.x)], [np.max(self.x)]])
        lines = np.concatenate([way.path for way in self.ways])
        margins = (lines[:, :-1] @ ends.T + lines[:, -1:])[np.isfinite(lines[:, 0])]
        if self.logistic or not margins.size:
            return low, high
        room = 2.0 * (high - low)
        least, most = float(np.min(margins)), float(np.max(margins))
        return max(min(low, least), low - room), min(max(high, most), high + room)

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

    def draw(self, moment: float) -> Image.Image:
        """Return the picture of a moment; a fraction lies between two steps."""
        panels = 3 if self.single else 2
        names = [*(way.title for way in self.ways), "exact"]
        slot = 30 + 7 * max(14, *map(len, names))
        across = max(1, (400 * panels - 66) // slot)
        canvas = Canvas(400 * panels, 360 + 18 * ((len(names) - 1) // across))
        self._data(canvas, Box(0, 0, 400, 340), moment)
        self._losses(canvas, Box(400, 0, 400, 340), moment)
        if self.single:
            self._paths(canvas, Box(800, 0, 400, 340), moment)
        for i, name in enumerate(names):
            at, down = 66 + slot * (i % across), 350 + 18 * (i // across)
            if i < len(self.ways):
                canvas.dot(at, down, 4, SERIES[i % len(SERIES)])
            else:
                canvas.line([(at - 8, down), (at + 4, down)], INK, 1.2)
            canvas.text(at + 9, down, name, anchor="lm", size=12)
        return canvas.finish()

    def _data(self, canvas: Canvas, box: Box, moment: float) -> None:
        steps = max(len(way.path) for way in self.ways) - 1
        title = f"step {min(int(moment), steps)} of {steps}"
        pick = np.linspace(0, len(self.y) - 1, min(len(self.y), 600)).astype(int)
        low, high = float(np.min(self.y)), float(np.max(self.y))
        if not self.single:
            names = (title, self.titles[1], "predicted")
            panel = Panel(canvas, box, (low, high, low, high), names).frame()
            for i, way in enumerate(self.ways):
                predicted = self._predict(way.until(moment)[-1:])[0]
                panel.dots(self.y[pick], predicted[pick], SERIES[i % len(SERIES)], 1.8)
            panel.curve([low, high], [low, high], INK, 1.0)
            return
        column = self.x[:, 0]
        span = (float(np.min(column)), float(np.max(column)), *self.heights)
        panel = Panel(canvas, box, span, (title, *self.titles)).frame()
        panel.dots(column[pick], self.y[pick], QUIET, 1.8)
        ends = np.linspace(span[0], span[1], 80)
        self._line(panel, ends, self.exact, INK, 1.0)
        for i, way in enumerate(self.ways):
            self._line(panel, ends, way.until(moment)[-1], SERIES[i % len(SERIES)], 2.2)

    def _line(
        self, panel: Panel, ends: np.ndarray, point: np.ndarray, colour: tuple, width: float
    ) -> None:
        margin = point[0] * ends + point[1]
        inside = 0.5 * (1.0 + np.tanh(0.5 * margin)) if self.logistic else margin
        low, high = self.heights
        room = 0.04 * (high - low)
        seen = (inside >= low - room) & (inside <= high + room)
        panel.curve(ends[seen], inside[seen], colour, width)

    def _losses(self, canvas: Canvas, box: Box, moment: float) -> None:
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
            points = way.until(moment)
            whole = min(int(moment) + 1, len(points))
            seen = np.concatenate([way.losses[:whole], self._loss(points[whole:])])
            steps_seen = np.append(np.arange(whole), [moment] * (len(points) - whole))
            panel.curve(steps_seen, seen, SERIES[i % len(SERIES)])
            panel.dots(steps_seen[-1:], seen[-1:], SERIES[i % len(SERIES)], 3.2)

    def _paths(self, canvas: Canvas, box: Box, moment: float) -> None:
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
            seen = self._upright(way.until(moment))
            panel.curve(seen[:, 0], seen[:, 1], SERIES[i % len(SERIES)])
            panel.dots(seen[-1:, 0], seen[-1:, 1], SERIES[i % len(SERIES)], 3.6)


def _until(path: np.ndarray, moment: float) -> np.ndarray:
    """The rows of a path up to a moment; the last row lies on the line between two steps."""
    step = min(int(moment), len(path) - 1)
    part = moment - step
    if step == len(path) - 1 or part <= 0:
        return path[: step + 1]
    between = path[step] + part * (path[step + 1] - path[step])
    return np.concatenate([path[: step + 1], between[None]])


def _tamed(ways: Sequence[Way]) -> list[Way]:
    """Without the points of ways that blow up: one of them would leave no room for the others."""
    firsts = [float(way.losses[0]) for way in ways if np.isfinite(way.losses[0])]
    most = 10.0 * max(firsts, default=np.inf)
    tamed = []
    for way in ways:
        wild = ~(way.losses <= most)
        ended = "diverged" if wild[-1] else way.ended
        path = np.where(wild[:, None], np.nan, way.path)
        tamed.append(Way(way.name, path, np.where(wild, np.nan, way.losses), ended))
    return tamed
