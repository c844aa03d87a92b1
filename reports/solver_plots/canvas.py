"""A small canvas for still and moving charts: axes, dots, lines and words, with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from robustness.errors import SettingError

INK, QUIET, FAINT, PAPER = (34, 34, 34), (120, 120, 120), (226, 226, 226), (255, 255, 255)
SERIES = (
    (0, 90, 160), (200, 80, 0), (0, 125, 85), (150, 60, 140), (120, 95, 0), (70, 70, 70),
    (60, 165, 215), (225, 120, 150), (120, 175, 60), (95, 45, 20),
)  # fmt: skip
"""Colours that differ in lightness too, for readers who do not see hue."""
_SCALE = 2
_MARGIN = (62, 34, 16, 42)
_FRAMES = 60
_FEW = 12
"""Number of steps below which an animation shows moments between them."""


@dataclass(frozen=True)
class Box:
    """Where a panel lies on the canvas, in its pixels."""

    left: float
    top: float
    width: float
    height: float


class Canvas:
    """A white picture, drawn at twice its size and then reduced, so that lines are smooth."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.image = Image.new("RGB", (width * _SCALE, height * _SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def line(self, points: Iterable[Sequence[float]], colour: tuple, width: float = 1.5) -> None:
        """A line through points; those that are not finite are left out."""
        flat = [(x * _SCALE, y * _SCALE) for x, y in points if math.isfinite(x + y)]
        if len(flat) > 1:
            self._draw.line(flat, fill=colour, width=max(1, round(width * _SCALE)), joint="curve")

    def dot(self, x: float, y: float, radius: float, colour: tuple) -> None:
        """A filled disc."""
        box = [(v * _SCALE) for v in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, fill=colour)

    def ring(self, x: float, y: float, radius: float, colour: tuple) -> None:
        """A circle's outline."""
        box = [(v * _SCALE) for v in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, outline=colour, width=_SCALE)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "la",
        size: int = 12,
        colour: tuple = INK,
    ) -> None:
        """Words at a point; `anchor` as Pillow has it."""
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), words, fill=colour, font=font, anchor=anchor)

    def paste(self, picture: Image.Image, box: Box) -> None:
        """A picture, stretched over a box."""
        size = (round(box.width * _SCALE), round(box.height * _SCALE))
        place = (round(box.left * _SCALE), round(box.top * _SCALE))
        self.image.paste(picture.resize(size, Image.Resampling.BICUBIC), place)

    def finish(self) -> Image.Image:
        """The picture at its own size."""
        return self.image.reduce(_SCALE)


class Panel:
    """A chart inside a box: titled axes, and a map from data to canvas."""

    def __init__(
        self,
        canvas: Canvas,
        box: Box,
        span: tuple[float, float, float, float],
        titles: tuple[str, str, str],
        *,
        logarithmic: bool = False,
    ) -> None:
        left, top, right, bottom = _MARGIN
        self.canvas = canvas
        self.inner = Box(
            box.left + left, box.top + top, box.width - left - right, box.height - top - bottom
        )
        self._log = logarithmic
        low, high = (_log10(span[2]), _log10(span[3])) if logarithmic else span[2:]
        self._x, self._y = _widened(*span[:2]), _widened(low, high)
        self._titles = titles

    def frame(self) -> Panel:
        """Draw the grid, the ticks and the titles."""
        inner, canvas = self.inner, self.canvas
        for tick, words in ticks(*self._x):
            x, _ = self._place(tick, self._y[0])
            canvas.line([(x, inner.top), (x, inner.top + inner.height)], FAINT, 0.7)
            canvas.text(x, inner.top + inner.height + 5, words, anchor="ma", size=11, colour=QUIET)
        for tick, words in powers(*self._y) if self._log else ticks(*self._y):
            _, y = self._place(self._x[0], tick)
            canvas.line([(inner.left, y), (inner.left + inner.width, y)], FAINT, 0.7)
            canvas.text(inner.left - 6, y, words, anchor="rm", size=11, colour=QUIET)
        title, across, up = self._titles
        canvas.text(inner.left, inner.top - 9, title, anchor="ls", size=13)
        middle, below = inner.left + inner.width / 2, inner.top + inner.height + 22
        canvas.text(middle, below, across, anchor="ma", size=11, colour=QUIET)
        canvas.text(inner.left + inner.width, inner.top - 9, up, anchor="rs", size=11, colour=QUIET)
        return self

    def _place(self, x: float, y: float) -> tuple[float, float]:
        inner = self.inner
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return inner.left + across * inner.width, inner.top + (1.0 - up) * inner.height

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The canvas point of a data point, kept inside the panel's edges."""
        value = _log10(y) if self._log else y
        if not math.isfinite(x + value):
            return math.nan, math.nan
        return self._place(float(np.clip(x, *self._x)), float(np.clip(value, *self._y)))

    def curve(self, xs: Iterable, ys: Iterable, colour: tuple, width: float = 1.8) -> None:
        """A line through data points."""
        self.canvas.line(
            [self.at(float(x), float(y)) for x, y in zip(xs, ys, strict=True)], colour, width
        )

    def dots(self, xs: Iterable, ys: Iterable, colour: tuple, radius: float = 2.0) -> None:
        """A disc at each data point."""
        for x, y in zip(xs, ys, strict=True):
            place = self.at(float(x), float(y))
            if math.isfinite(sum(place)):
                self.canvas.dot(*place, radius, colour)


def _log10(value: float) -> float:
    return math.log10(max(value, 1e-300)) if value == value else math.nan  # noqa: PLR0124


def _widened(low: float, high: float) -> tuple[float, float]:
    room = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About five round numbers between `low` and `high`, and how to write them."""
    rough = (high - low) / 5.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(i * step, f"{i * step + 0.0:.{digits}f}") for i in range(first, last + 1)]


def powers(low: float, high: float) -> list[tuple[float, str]]:
    """Logarithms of round numbers between 10**low and 10**high, and how to write the numbers."""
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [
            (math.log10(factor) + power, factor, power)
            for power in range(math.floor(low), math.floor(high) + 1)
            for factor in factors
            if low <= math.log10(factor) + power <= high
        ]
        if len(found) <= 7:
            break
    found = found[:: math.ceil(len(found) / 7)] if len(found) > 7 else found
    if len(found) < 2:  # less than from one round number to the next: as if it were not logarithmic
        return [(math.log10(float(words)), words) for _, words in ticks(10.0**low, 10.0**high)]
    return [
        (
            place,
            f"{factor * 10.0**power:,.{max(0, -power)}f}"
            if -4 <= power < 6
            else f"{factor}e{power}",
        )
        for place, factor, power in found
    ]


def writable(path: str | Path) -> Path:
    """`path`, if a picture can be written there; SettingError if not. Ask before a long computation."""
    target = Path(path)
    if target.suffix.lower() not in (".gif", ".png"):
        raise SettingError(f"--plot {target.name}; expected a name that ends in .gif or .png.")
    if not target.parent.is_dir():
        raise SettingError(f"The folder {target.parent} does not exist; make it first.")
    return target


def _palette(picture: Image.Image) -> Image.Image:
    """The canvas's own colours, paler where lines are smoothed, and what else `picture` holds.

    Left to itself, quantising merges the few pixels of one thin line with another line's colour.
    """
    own = np.array([INK, QUIET, *SERIES], "float64")
    shares = np.linspace(0.0, 1.0, 7)[1:, None, None]
    kept = (np.array(PAPER) + shares * (own - np.array(PAPER))).round().astype(int).reshape(-1, 3)
    fixed = [*PAPER, *FAINT, *kept.ravel().tolist()]
    rest = picture.quantize(256 - len(fixed) // 3).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette((fixed + rest)[:768])
    return palette


def _indexed(picture: Image.Image, palette: Image.Image) -> Image.Image:
    found = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    # Pillow looks colours up by their upper bits, which makes paper a little grey.
    paper = np.asarray(picture.convert("L")) == 255
    cleaned = Image.fromarray(np.where(paper, 0, np.asarray(found)).astype(np.uint8))
    cleaned.putpalette(palette.getpalette() or [])
    return cleaned


def evenly(count: int) -> list[int]:
    """Return at most `_FRAMES` of `count` steps, evenly spaced, with the first and the last."""
    chosen = np.linspace(0, count - 1, min(count, _FRAMES)).round().astype(int)
    return np.unique(chosen).tolist()


def early(count: int) -> list[float]:
    """Return the moments of an animation of `count` steps that change most in the beginning.

    Of many steps, the first ones are all kept and later ones become rarer. Few steps are divided, so that the
    animation shows the movement from each to the next; moments between two steps are fractions.
    """
    last = count - 1
    if last < _FEW:
        parts = max(1, math.ceil(2 * _FEW / max(last, 1)))
        return [step / parts for step in range(last * parts + 1)]
    if count <= _FRAMES:
        return [float(step) for step in range(count)]
    start = _FRAMES // 3
    rare = np.geomspace(start, last, _FRAMES - start).round()
    return np.unique(np.concatenate([np.arange(start), rare])).astype(float).tolist()


Moment = TypeVar("Moment", int, float)


def save(
    draw: Callable[[Moment], Image.Image], moments: Sequence[Moment], path: str | Path
) -> None:
    """Write the moments of an animation as a .gif that dwells on both ends, or the last as a .png.

    Raises
    ------
    SettingError
        The name of the file has another suffix, or its folder does not exist.
    """
    target = writable(path)
    if target.suffix.lower() == ".png":
        draw(moments[-1]).save(target)
        return
    drawn = [draw(moment) for moment in moments]
    palette = _palette(drawn[-1])
    frames = [_indexed(picture, palette) for picture in drawn]
    times = [600] + [80] * (len(frames) - 2) + [2000] if len(frames) > 1 else [2000]
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=times, loop=0)
