"""Which pixels of a picture an input pipeline reads at all, and how much each of them counts.

A resize that only interpolates (nearest, or bilinear without antialiasing) reads few pixels of a large
picture: whoever changes these alone decides what the model sees.

References
----------
Xiao et al. 2019, "Seeing is Not Believing: Camouflage Attacks on Image Scaling Algorithms", USENIX Security;
Quiring et al. 2020, arXiv:2003.08633; Gao et al. 2022, arXiv:2104.08690.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robustness.pipeline.geometry import Geometry

_TINY = 1e-6
"""The smallest weight that counts: 255 counts times it are lost in any rounding."""


@dataclass(frozen=True, eq=False)
class PixelsRead:
    """How much the rows and the columns of a picture count in the model's image.

    Attributes
    ----------
    rows : (height,) the sum of the absolute weights of each row, over all rows of the image.
    columns : (width,) the same of each column.
    """

    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, geometry: Geometry) -> PixelsRead:
        """Return what a pipeline reads of pictures of one size."""
        return cls(_influence(geometry.rows), _influence(geometry.columns))

    @cached_property
    def share(self) -> float:
        """The share of the picture's pixels with any weight in any pixel of the image, 0..1."""
        return (
            _read(self.rows).size * _read(self.columns).size / (self.rows.size * self.columns.size)
        )

    @cached_property
    def share_of_window(self) -> float:
        """The same share of the pixels within the crop alone, 0..1: what the resize itself skips is left.

        The crop reaches as far beyond the outermost pixels that are read as there are unread ones between two
        that are.
        """
        window = _window(self.rows) * _window(self.columns)
        return _read(self.rows).size * _read(self.columns).size / window if window else 0.0

    def influence(self) -> np.ndarray:
        """Return the sum of the absolute weights of each pixel, (height, width) float32.

        All pixels together have about as much as the image has pixels.
        """
        return np.outer(self.rows, self.columns)


def _influence(weights: np.ndarray) -> np.ndarray:
    """The sum of the absolute weights of each pixel along one side; tiny ones count as none."""
    sizes = np.abs(weights)
    total: np.ndarray = np.where(sizes > _TINY, sizes, 0).sum(axis=0, dtype=np.float32)
    return total


def _read(influence: np.ndarray) -> np.ndarray:
    """The places along one side that are read."""
    return np.flatnonzero(influence)


def _window(influence: np.ndarray) -> int:
    """The length of the part of one side that is resized."""
    places = _read(influence)
    if not places.size:
        return 0
    gap = int(np.diff(places).max(initial=1)) - 1
    first, last = max(0, places[0] - gap), min(influence.size - 1, places[-1] + gap)
    return int(last - first) + 1
