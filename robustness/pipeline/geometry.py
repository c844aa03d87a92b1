"""The linear part of an input pipeline for pictures of one size: two matrices, and what padding adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from robustness.pipeline.preprocessing import LinearConvention


@dataclass(frozen=True, eq=False)
class Geometry:
    """How a picture (height, width, channels) becomes the model's image, apart from rounding.

    ``image = rows @ picture @ columns.T`` for each channel. Where the convention pads, rows or columns are 0, and
    the pipeline's fill colour is added.

    Attributes
    ----------
    rows : (image height, height) float32: the weights of the picture's rows.
    columns : (image width, width) float32: the weights of the picture's columns.
    rows_first : whether the code resizes rows before columns. It matters only where values are limited between
        the two passes (`LinearConvention.clips_between`).
    """

    rows: np.ndarray
    columns: np.ndarray
    rows_first: bool = False

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


def twin_image(geometry: Geometry, convention: LinearConvention, picture: np.ndarray) -> np.ndarray:
    """Return the image before the final rounding, as attacks see it.

    Parameters
    ----------
    geometry : of the convention, for pictures of this size.
    convention : says where values are limited and what is padded.
    picture : (height, width, channels) in counts.

    Returns
    -------
    (image height, image width, channels) float32.
    """
    image = (
        _limited_between(geometry, convention.fill, picture)
        if convention.clips_between
        else geometry.apply(picture, convention.fill)
    )
    return image.clip(0, 255) if convention.clips else image


def _limited_between(geometry: Geometry, fill: float, picture: np.ndarray) -> np.ndarray:
    """The image of code that rounds and limits values between its two passes."""
    if geometry.rows_first:
        turned = Geometry(geometry.columns, geometry.rows)
        return _limited_between(turned, fill, picture.swapaxes(0, 1)).swapaxes(0, 1)
    rows, columns = geometry.rows.astype(np.float64), geometry.columns.astype(np.float64)
    between = np.einsum("HWc,wW->Hwc", picture.astype(np.float64), columns, optimize=True)
    # The code has whole counts here; attacks pass this rounding straight through.
    whole = np.floor(between + 0.5).clip(0, 255)
    image = np.einsum("hH,Hwc->hwc", rows, whole, optimize=True)
    covered = np.outer(rows.sum(axis=1), columns.sum(axis=1))[..., None]
    return (image + fill * (1 - covered)).astype(np.float32)
