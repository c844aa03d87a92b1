"""Renders the page of `robustness article` as one HTML file without requests or scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from robustness.reports import wording
from robustness.reports.article import printed
from robustness.reports.article.printed import PrintedFit
from robustness.reports.files import write_file
from robustness.reports.page.pixels import data_uri
from robustness.reports.page.templating import csp_hash, environment, read_template

_STYLE = ("report.css", "article.css")
_HALF = {2: 0.005, 1: 0.05}
"""Half a unit of the last printed decimal, by the number of decimals."""


@dataclass(frozen=True)
class FitRow:
    """A fit of the article, and its reproduction; `loss` is that before the last step."""

    printed: PrintedFit
    slope: float
    intercept: float
    loss: float

    @property
    def agrees(self) -> bool:
        """Whether every figure rounds to the printed one, or is as near as float32 leaves it."""
        pairs = (
            (self.slope, self.printed.slope, 2),
            (self.intercept, self.printed.intercept, 2),
            (self.loss, self.printed.loss, 1),
        )
        return all(abs(here - there) <= 1.1 * _HALF[decimals] for here, there, decimals in pairs)


@dataclass(frozen=True)
class Regression:
    """Part 1. `source` names the data; `own` is whether they are the article's."""

    source: str
    own: bool
    fits: Sequence[FitRow]
    plain: Path
    optimizers: Path

    @property
    def agreeing(self) -> int:
        """The number of fits whose figures are the printed ones."""
        return sum(row.agrees for row in self.fits)


@dataclass(frozen=True)
class SpreadRow:
    """What a loss reaches: the smallest angle in degrees, at the start and at its best step."""

    loss: str
    words: str
    angle: float
    first: float
    step: int
    steps: int


@dataclass(frozen=True)
class Spreading:
    """Part 2. `bound` is the largest smallest angle that is possible, in degrees."""

    rows: Sequence[SpreadRow]
    bound: float
    animation: Path


@dataclass(frozen=True)
class Step:
    """A picture of a strip with the class of the model and its confidence, 0..1."""

    pixels: np.ndarray
    word: str
    confidence: float
    first: float

    @property
    def picture(self) -> str:
        """The pixels as a data URI."""
        return data_uri(self.pixels)


@dataclass(frozen=True)
class Strip:
    """The steps of one photograph; `classes` are the two ends of its bars."""

    name: str
    classes: tuple[str, str]
    steps: Sequence[Step]

    @property
    def printed(self) -> Sequence[tuple[str, float]]:
        """The article's confidences for this photograph; empty for others."""
        return printed.CONFIDENCES.get(self.name, ())

    @property
    def change(self) -> np.ndarray:
        """Last minus first picture in counts, int16 (height, width, channels)."""
        return self.steps[-1].pixels.astype("int16") - self.steps[0].pixels.astype("int16")

    @property
    def patches(self) -> list[tuple[str, list[list[int]]]]:
        """The square of red values that the article prints: original, last step, change."""
        top, left, side = printed.PATCH
        place = (slice(top, top + side), slice(left, left + side), 0)
        ends = (self.steps[0].pixels, self.steps[-1].pixels, self.change)
        return [
            (title, pixels[place].tolist())
            for title, pixels in zip(("original", "last step", "change"), ends, strict=True)
        ]

    @property
    def even(self) -> float:
        """The share of numbers that changed by 0, 2 or 4 counts, as the article says of all."""
        return float(np.mean(np.isin(np.abs(self.change), (0, 2, 4))))

    @property
    def largest(self) -> int:
        """The largest change in counts."""
        return int(np.abs(self.change).max(initial=0))


@dataclass(frozen=True)
class Flipping:
    """Part 3. `report` is the page of the audit, relative to this page."""

    model: str
    source: str
    flipped: int
    correct: int
    labelled: bool
    strips: Sequence[Strip]
    report: str

    @property
    def compared(self) -> bool:
        """Whether a strip is of a photograph of the article."""
        return any(strip.printed for strip in self.strips)


@dataclass(frozen=True)
class Article:
    """All three parts."""

    regression: Regression
    spreading: Spreading
    flipping: Flipping
    command: str


def write_article(article: Article, path: Path) -> Path:
    """Write the page to `path`, and return `path`."""
    return write_file(path, render_article(article))


def render_article(article: Article) -> str:
    """Return the page as HTML."""
    style = "".join(read_template(name) for name in _STYLE)
    policy = (
        f"default-src 'none'; style-src {csp_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        _environment()
        .get_template("article.html.j2")
        .render(a=article, printed=printed, style=Markup(style), policy=policy)  # noqa: S704  our own files
    )


@cache
def _environment() -> Environment:
    return environment(
        percent=lambda share: wording.keep_units(f"{100 * share:.1f} %"),
        fixed=lambda value, decimals: f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}"),
        counts=lambda value: f"{value:+d}".replace("-", "\N{MINUS SIGN}") if value else "0",
        animation=_animation,
    )


def _animation(path: Path) -> str:
    """A GIF as a data URI."""
    return "data:image/gif;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
