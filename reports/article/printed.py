"""The figures that the article prints: A. Reiner, "The Many Applications of Gradient Descent in TensorFlow".

Figures of the regressions are from the output of its first notebook, confidences from the two strips of
pictures that it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TITLE = "The Many Applications of Gradient Descent in TensorFlow"
AUTHOR = "Alan Reiner"
ADDRESS = "https://www.toptal.com/python/gradient-descent-in-tensorflow"
ROWS = 150
"""The number of heights and weights."""
TABLE = "height_v_weight.csv"
FEATURE, TARGET = "Height", "Weight"
COUNT, DIMENSIONS = 20, 2
"""The vectors that it spreads over a circle."""
PATCH = (50, 50, 6)
"""Top row, left column and side of the square of pixels that it prints, of the red channel."""


@dataclass(frozen=True)
class PrintedFit:
    """A regression of the article and its printed figures.

    Attributes
    ----------
    name : str
        The method in words.
    slope, intercept, loss : float
        The printed figures, rounded to 2, 2 and 1 decimals.
    start : tuple of float or None
        Initial slope and intercept; None stands for the exact solution's value.
    how : mapping
        Settings of `robustness.optimization.regression.least_squares.Descent`; empty for the exact solution.
    """

    name: str
    slope: float
    intercept: float
    loss: float
    start: tuple[float | None, float | None] = (None, None)
    how: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether this is the exact solution, not a descent."""
        return not self.how


_PLAIN = {"learning_rate": 2e-5, "rates": (1.0, 1000.0), "steps": 25}
FITS = (
    PrintedFit("exact solution", 6.04, -230.53, 127.1),
    PrintedFit("plain descent from intercept −180", 5.44, -188.81, 129.4, (None, -180.0), _PLAIN),
    PrintedFit("plain descent from slope 5", 5.86, -218.09, 127.3, (5.0, None), _PLAIN),
    PrintedFit(
        "RMSprop",
        *(5.32, -180.74, 130.4),
        start=(None, -180.0),
        how={"optimizer": "rmsprop", "learning_rate": 0.1, "steps": 25},
    ),
    PrintedFit(
        "Adam",
        *(5.29, -180.77, 138.4),
        start=(None, -180.0),
        how={"optimizer": "adam", "learning_rate": 0.1, "steps": 50},
    ),
)
"""Descents take 25 steps, Adam's 50. The printed loss is that before the last step."""

CONFIDENCES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "img_1.jpg": (("cat", 0.990), ("cat", 0.673), ("dog", 0.717), ("dog", 0.943), ("dog", 0.994)),
    "img_3.jpg": (("dog", 0.984), ("dog", 0.839), ("dog", 0.546), ("cat", 0.904), ("cat", 0.998)),
}
"""The class and its confidence before and after each of four steps, by photograph."""
