"""Defines what an input pipeline is: from a picture, or its file, to the image that the model takes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from robustness.pipeline.geometry import Geometry

ImageShape = tuple[int, int, int]


class Preprocessing(Protocol):
    """From an uploaded picture to the model's image, exactly as deployed; the judge uses it.

    Attributes
    ----------
    text : the canonical text, which `parse_pipeline` reads again; recorded in the run.
    oriented : whether the deployment turns a photograph as its EXIF orientation says.
    whole : whether images have whole counts.
    """

    text: str
    oriented: bool
    whole: bool

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image that the deployed code makes of decoded pixels.

        Parameters
        ----------
        pixels : (height, width, channels) uint8.
        shape : the model's input, (height, width, channels).

        Returns
        -------
        `shape`, uint8 or float32, in counts of 0..255 (a user's own function: the model's inputs).

        Raises
        ------
        PipelineError
            The code cannot process this picture: it is smaller than the crop, for instance.
        """

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of an encoded picture, decoded as the deployment decodes it; see `image`."""


class LinearConvention(Preprocessing, Protocol):
    """A named convention, whose resizing, cropping and padding are linear.

    Attributes
    ----------
    fill : the counts of padded areas.
    clips_between : whether the code limits values to 0..255 between the passes along columns and rows
        (Pillow with kernels that overshoot); then columns are resized first.
    clips : whether the result is limited to 0..255.
    """

    fill: float
    clips_between: bool
    clips: bool

    def geometry(self, size: tuple[int, int], shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size` (height, width) and images of `shape`."""
