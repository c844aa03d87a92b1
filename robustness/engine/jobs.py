"""The input of a search: examples, and the jobs that attack them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Example:
    """A correctly classified image.

    Parameters
    ----------
    key
        The identifier of the image, on which its random numbers depend.
    pixels
        (height, width, channels) uint8.
    label
        The class that the model predicts for it.
    epsilon_count
        The number of epsilons, from the smallest on, that need an outcome; None for all.
    """

    key: str
    pixels: np.ndarray
    label: int
    epsilon_count: int | None = None


@dataclass(frozen=True)
class AttackJob:
    """The input of a row: an image, one epsilon in the norm's unit, and the number of the start."""

    example: Example
    epsilon: float
    restart: int = 0
