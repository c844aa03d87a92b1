"""Decides what the numbers of a stream of images are: counts 0..255, or fractions 0..1 of 255."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustness.errors import ImagesError
from robustness.images.entries import Unreadable

DARK = 32
"""The largest value below which floats are not taken for counts: images that dark are none of photographs."""
_GIVE = (
    "expected counts 0..255 (best of the type uint8), or floats 0..1. Give the images as they are before "
    "they are scaled for the model; the audit finds the model's scaling, or takes --scaling"
)


@dataclass
class ValueRange:
    """The types and the range of the values seen so far, over all images.

    Attributes
    ----------
    counts : whether an image had an integer type, whose values are counts.
    low, high : the range of the values of images of float types.
    between : whether a float lies between 0 and 1, both excluded.
    """

    counts: bool = False
    low: float = np.inf
    high: float = -np.inf
    between: bool = False

    def see(self, pixels: np.ndarray) -> None:
        """Take note of an image.

        Raises
        ------
        Unreadable
            Its values are no numbers, not finite, or integers that are no counts.
        """
        if pixels.dtype == np.uint8:
            self.counts = True
            return
        if pixels.dtype.kind not in "iuf":
            raise Unreadable(f"Its values have the type {pixels.dtype}; expected numbers.")
        low, high = float(pixels.min()), float(pixels.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise Unreadable("It has values that are not finite.")
        if pixels.dtype.kind in "iu":
            if low < 0 or high > 255:
                raise Unreadable(
                    f"It has values from {low:g} to {high:g}; expected counts from 0 to 255."
                )
            self.counts = True
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        if not self.between and low < 1:
            self.between = bool(((pixels > 0) & (pixels < 1)).any())

    def factor(self, what: str) -> int:
        """Return by what floats are multiplied so that they are counts: 1 or 255.

        Raises
        ------
        ImagesError
            The range says neither, or both.
        """
        if self.low > self.high:  # there are no floats
            return 1
        span = f"{what}: the floats of the images lie between {self.low:g} and {self.high:g}"
        if self.counts:
            raise ImagesError(
                f"{what}: some images have an integer type and others floats; expected one type for all."
            )
        if self.low < 0:
            raise ImagesError(f"{span}, so they are scaled or normalised for a model; {_GIVE}.")
        if self.high <= 1:
            if not self.between:
                raise ImagesError(
                    f"{span}, all of them 0 or 1, which can be black images in counts or black and white "
                    f"ones in fractions; {_GIVE}."
                )
            return 255
        if self.high < DARK or self.high > 255:
            raise ImagesError(f"{span}, which is neither; {_GIVE}.")
        return 1


def to_counts(pixels: np.ndarray, factor: int) -> tuple[np.ndarray, str]:
    """Return an image in counts as uint8, and a note if values were rounded.

    Parameters
    ----------
    pixels : ndarray, shape (height, width, channels)
        Values from 0 to 255 / `factor`.
    factor : int
        By what the values of float types are multiplied: 1 or 255.
    """
    if pixels.dtype.kind in "iu":
        return pixels.astype(np.uint8), ""
    counts = pixels.astype(np.float64) * factor
    rounded = np.rint(counts)
    # Fractions in float32 are off by 255 * 2**-24; in float16 by an eighth of a count.
    tolerance = 255 * float(np.finfo(pixels.dtype).eps)
    note = "rounded to 8 bits" if np.abs(counts - rounded).max() > tolerance else ""
    return rounded.clip(0, 255).astype(np.uint8), note
