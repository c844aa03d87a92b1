"""What a search is asked: examples, and the jobs that attack them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Example:
    """A correctly classified image: its stable key, uint8 pixels (h, w, c), and its class.

    `rungs`: how many of the epsilons, from the smallest on, are to be settled; all if None.
    """

    key: str
    pixels: np.ndarray
    label: int
    rungs: int | None = None


@dataclass(frozen=True)
class AttackJob:
    """An image at one epsilon, from one start: all that a row needs to run."""

    subject: Example
    epsilon: float
    restart: int = 0
