"""The matrix of one side of a picture: weights that a library gives, and the crop or padding around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from robustness.errors import PipelineError
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape

_BLOCK = 1 << 22
"""Numbers of the identity matrix that are resized at once: 16 MiB."""


class RowResizer(ABC):
    """Resizes rows of numbers with a library's own code; hashable, so that weights are computed once."""

    @abstractmethod
    def resize_rows(
        self, values: np.ndarray, resized: int, box: tuple[float, float] | None
    ) -> np.ndarray:
        """Return float32 (resized, n) for float32 `values` (length, n): the columns are independent.

        `box` is the part of the length that is resized; None for all of it.
        """

    def as_stored(self, weights: np.ndarray, largest: float) -> np.ndarray:
        """Return the weights as the library's 8-bit code stores them; `largest` is that of all rows."""
        return weights


@dataclass(frozen=True)
class Axis:
    """What happens to one side: a window is resized, and a window of the result is the image's side.

    Attributes
    ----------
    length : pixels that are resized.
    resized : pixels after resizing.
    start : the first pixel of the picture that is resized; below 0, as many pixels are padded before it.
    first : the first resized pixel that is kept; below 0, as many pixels are padded before it.
    box : the part of `length` that becomes `resized`, where the code states one (Pillow's `box`: its kernels
        read beyond it).
    """

    length: int
    resized: int
    start: int = 0
    first: int = 0
    box: tuple[float, float] | None = None

    @classmethod
    def kept(cls, length: int, first: int = 0) -> Axis:
        """Return the axis of a side that is cropped or padded and not resized."""
        return cls(length, length, 0, first)

    def matrix(self, resizer: RowResizer, size: int, out: int) -> np.ndarray:
        """Return the weights (out, size) float32 of a picture's `size` pixels in an image's `out` pixels."""
        rows = _within(self.first, out, self.resized)
        columns = _within(-self.start, size, self.length)
        kept = (rows.start, rows.stop)
        weights = library_weights(resizer, self.length, self.resized, self.box, kept)
        matrix = np.zeros((out, size), np.float32)
        matrix[
            rows.start - self.first : rows.stop - self.first,
            columns.start + self.start : columns.stop + self.start,
        ] = weights[:, columns]
        return matrix


def _within(first: int, count: int, length: int) -> slice:
    """The part of `count` positions from `first` that lies in ``0..length``."""
    low = min(max(first, 0), length)
    return slice(low, max(low, min(first + count, length)))


def linear_part(
    resizer: RowResizer,
    axes: tuple[Axis, Axis],
    size: tuple[int, int],
    shape: ImageShape,
    rows_first: bool = False,
) -> Geometry:
    """Return the two matrices of pictures of `size`; `axes` are those of height and width.

    Raises
    ------
    PipelineError
        The library does not resize to these sizes.
    """
    try:
        rows = axes[0].matrix(resizer, size[0], shape[0])
        columns = axes[1].matrix(resizer, size[1], shape[1])
    except ValueError as error:  # Pillow, for an empty box
        raise PipelineError(
            f"A picture of {size[1]} × {size[0]} pixels cannot be resized: {error}"
        ) from error
    return Geometry(rows, columns, rows_first)


@lru_cache(maxsize=16)
def library_weights(
    resizer: RowResizer,
    length: int,
    resized: int,
    box: tuple[float, float] | None = None,
    kept: tuple[int, int] | None = None,
) -> np.ndarray:
    """Return weights (rows kept, length) float32 of a library, by resizing the identity matrix with it.

    Parameters
    ----------
    resizer : runs the library.
    length, resized : pixels before and after.
    box : the part of `length` that is resized; None for all of it.
    kept : the first of the `resized` rows that are returned, and the one after the last; None for all.
    """
    low, high = kept or (0, resized)
    if high == low or length == resized == 1:
        return np.ones((high - low, length), np.float32)
    weights = np.empty((high - low, length), np.float32)
    width = max(1, _BLOCK // max(length, resized))
    largest = 0.0
    for first in range(0, length, width):
        block = np.eye(length, min(width, length - first), -first, np.float32)
        part = resizer.resize_rows(block, resized, box)
        weights[:, first : first + block.shape[1]] = part[low:high]
        largest = max(largest, float(part.max()))
    weights = resizer.as_stored(weights, largest)
    weights.setflags(write=False)
    return weights
