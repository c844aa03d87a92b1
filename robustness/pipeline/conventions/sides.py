"""Sides of pictures in whole pixels: the short side resized, the centre cropped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustness.errors import PipelineError
from robustness.images.png import MAX_PIXELS
from robustness.pipeline.preprocessing import ImageShape

Side = tuple[int, int]
"""Height and width in pixels."""


def short_side(size: Side, length: int, whole: Callable[[float], int]) -> Side:
    """Return height and width with the short side `length` and the aspect ratio of `size`.

    `whole` makes a whole number of the long side: `int` in torchvision.
    """
    short, long = min(size), max(size)
    other = max(1, whole(length * long / short))
    if length * other > MAX_PIXELS:
        raise PipelineError(
            f"A picture of {size[1]} × {size[0]} pixels with its short side resized to {length} would have "
            f"{length * other:,} pixels; at most {MAX_PIXELS:,} are made. Leave this picture out."
        )
    return (length, other) if size[0] <= size[1] else (other, length)


def centre(size: Side, crop: Side) -> Side:
    """Return top and left of the centre crop, rounded down."""
    return (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2


def expect_crop_inside(resized: Side, crop: Side, size: Side) -> Side:
    """Return top and left of the centre crop; PipelineError if the picture is smaller than the crop."""
    if resized[0] < crop[0] or resized[1] < crop[1]:
        after = "" if resized == size else f", {resized[1]} × {resized[0]} after resizing"
        raise PipelineError(
            f"The picture has {size[1]} × {size[0]} pixels{after}; the pipeline crops {crop[1]} × {crop[0]}. "
            "Leave this picture out, or resize to a larger side first (resize=N)."
        )
    return centre(resized, crop)


def expect_shape(image: np.ndarray, shape: ImageShape, text: str) -> np.ndarray:
    """Return `image`; PipelineError if it does not have the model's shape."""
    if image.shape != tuple(shape):
        had = " × ".join(map(str, image.shape))
        wanted = " × ".join(map(str, shape))
        raise PipelineError(
            f"The pipeline {text} gives images of {had} (height, width, channels); the model takes {wanted}. "
            "Choose the sizes of the pipeline after the model, or state the model's: --input-size."
        )
    return image
