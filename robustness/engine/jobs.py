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
        (height, width, channels) uint8; on a canvas (`model_input.on_canvas`) if `size` is set.
    label
        The class that the model predicts for it.
    epsilon_count
        The number of epsilons, from the smallest on, that need an outcome; None for all.
    size
        Height and width of the picture, at the top left of `pixels`; None if it fills them.
    """

    key: str
    pixels: np.ndarray
    label: int
    epsilon_count: int | None = None
    size: tuple[int, int] | None = None

    def cropped(self, picture: np.ndarray) -> np.ndarray:
        """Return the part of a picture shaped like `pixels` that is not canvas."""
        return picture if self.size is None else picture[: self.size[0], : self.size[1]]

    @property
    def inside(self) -> np.ndarray | None:
        """1 inside the picture, 0 on the canvas around it, (height, width, 1) uint8; None without canvas."""
        if self.size is None:
            return None
        inside = np.zeros((*self.pixels.shape[:2], 1), np.uint8)
        inside[: self.size[0], : self.size[1]] = 1
        return inside


@dataclass(frozen=True)
class AttackJob:
    """The input of a row: an image, one epsilon in the norm's unit, and the number of the start."""

    example: Example
    epsilon: float
    restart: int = 0
