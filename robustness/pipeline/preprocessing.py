"""Defines what an input pipeline is: from a picture, or its file, to the image that the model takes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from robustness.pipeline.geometry import Geometry

ImageShape = tuple[int, int, int]


class Preprocessing(Protocol):
    """From an uploaded picture to the model's image, exactly as deployed; the judge uses it."""

    @property
    def text(self) -> str:
        """The canonical text, which `parse_pipeline` reads again; recorded in the run."""

    @property
    def oriented(self) -> bool:
        """Whether the deployment turns a photograph as its EXIF orientation says."""

    @property
    def whole(self) -> bool:
        """Whether images have whole counts."""

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
    """A named convention, whose resizing, cropping and padding are linear."""

    @property
    def fill(self) -> float:
        """The counts of padded areas."""

    @property
    def clips_between(self) -> bool:
        """Whether the code limits values to 0..255 between the passes along columns and rows.

        Pillow does with kernels that overshoot; columns are then resized first.
        """

    @property
    def clips(self) -> bool:
        """Whether the result is limited to 0..255."""

    def geometry(self, size: tuple[int, int], shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size` (height, width) and images of `shape`."""
