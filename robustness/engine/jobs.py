"""The input of a search: examples, and the jobs that attack them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Example:
    """A correctly classified image.

    Parameters
    ----------
    key : identifies the image; its random numbers depend on it.
    pixels : (height, width, channels) uint8.
    label : the class that the model predicts for it.
    epsilon_count : how many of the epsilons, from the smallest on, need an outcome; None for all.
    """

    key: str
    pixels: np.ndarray
    label: int
    epsilon_count: int | None = None


@dataclass(frozen=True)
class AttackJob:
    """All that a row needs to run: an image, one epsilon in the norm's unit, and which start."""

    example: Example
    epsilon: float
    restart: int = 0
