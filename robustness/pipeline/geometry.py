"""The linear part of an input pipeline for pictures of one size: two matrices, and what padding adds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Geometry:
    """How a picture becomes the model's image, apart from rounding.

    ``image = rows @ picture @ columns.T`` for each channel. Where the convention pads, rows or columns are 0,
    and the pipeline's fill colour is added.

    Attributes
    ----------
    rows : (image height, height) float32: the weights of the picture's rows.
    columns : (image width, width) float32: the weights of the picture's columns.
    """

    rows: np.ndarray
    columns: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.rows.shape[1], self.columns.shape[1]

    def apply(self, picture: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Return the image (image height, image width, channels) float32 of a picture, without rounding."""
        image = np.einsum(
            "hH,HWc,wW->hwc", self.rows, picture.astype(np.float32), self.columns, optimize=True
        )
        covered = np.outer(self.rows.sum(axis=1), self.columns.sum(axis=1))[..., None]
        return image + np.float32(fill) * (1 - covered).astype(np.float32)
