"""Prepares pictures as they are read: at most so large, and through the pipeline where images are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from robustness.errors import PipelineError
from robustness.images import Entry, Picture
from robustness.images.cache import Read
from robustness.images.entries import Shape, readable, unreadable
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.preprocessing import ImageShape, Preprocessing


@dataclass(frozen=True)
class Preparation:
    """Reads pictures at their own size, and makes images of them where a shape is wanted.

    Attributes
    ----------
    preprocessing : makes an image of a picture.
    max_side : the longest side of a picture in pixels; larger ones are reduced first.
    """

    preprocessing: Preprocessing
    max_side: int

    def __call__(self, read: Read, entry: Entry, shape: Shape) -> Picture:
        """Return the picture of `shape`; with a reason if the pipeline cannot process it."""
        height, width, channels = shape
        picture = read(entry, (None, None, channels))
        if picture.pixels is None:
            return picture
        picture = self._bounded(picture, picture.pixels)
        if height is None or width is None or picture.pixels is None:
            return picture
        wanted: ImageShape = (height, width, channels)
        try:
            image = Deployment(self.preprocessing, wanted).image(picture.pixels)
        except PipelineError as error:
            return unreadable(entry, str(error))
        note = "; ".join(filter(None, (picture.note, f"prepared by {self.preprocessing.text}")))
        return readable(entry, np.clip(np.round(image), 0, 255).astype(np.uint8), note)

    def _bounded(self, picture: Picture, pixels: np.ndarray) -> Picture:
        """The picture with sides of at most `max_side`."""
        height, width, channels = pixels.shape
        scale = self.max_side / max(height, width)
        if scale >= 1:
            return picture
        size = max(1, round(width * scale)), max(1, round(height * scale))
        flat = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        smaller = np.asarray(flat.resize(size, Image.Resampling.BOX)).reshape(
            size[1], size[0], channels
        )
        note = f"reduced from {width}x{height} to {size[0]}x{size[1]}, the largest side that is attacked"
        return readable(picture.entry, smaller, "; ".join(filter(None, (picture.note, note))))
