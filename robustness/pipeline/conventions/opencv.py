"""OpenCV: `cv2.imread` and `cv2.resize`, with a centre crop or a border. Colours are red, green, blue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.errors import PipelineError
from robustness.pipeline.axes import Axis, RowResizer, linear_part
from robustness.pipeline.conventions.sides import (
    Side,
    centre,
    expect_crop_inside,
    expect_shape,
    short_side,
)
from robustness.pipeline.decoders import by_opencv, first_line
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape

FLAGS = {
    "linear": "INTER_LINEAR",
    "nearest": "INTER_NEAREST",
    "cubic": "INTER_CUBIC",
    "area": "INTER_AREA",
    "lanczos4": "INTER_LANCZOS4",
}
"""Names of interpolations, and OpenCV's."""


@dataclass(frozen=True)
class OpenCvRows(RowResizer):
    """Resizes rows with `cv2.resize` in floating point.

    Attributes
    ----------
    enlarges : whether a side grows: then area interpolation runs another code for both sides.
    """

    interpolation: str
    enlarges: bool

    def resize_rows(
        self, values: np.ndarray, resized: int, box: tuple[float, float] | None
    ) -> np.ndarray:
        """Return float32 (resized, n)."""
        import cv2  # noqa: PLC0415 - an extra

        flag = getattr(cv2, FLAGS[self.interpolation])
        width = values.shape[1]
        if self.interpolation == "area" and self.enlarges and resized <= values.shape[0]:
            # Doubling the width selects the code that runs when a side grows; it repeats each column.
            return cv2.resize(values, (2 * width, resized), interpolation=flag)[:, ::2]
        return cv2.resize(values, (width, resized), interpolation=flag)


@dataclass(frozen=True)
class OpenCvConvention:
    """`cv2.resize` and slices of arrays; see `Preprocessing`.

    Attributes
    ----------
    resize : the short side (the long one is rounded), or (height, width); None for the model's size.
    crop : the centre that is kept, (height, width); "aspect" for the largest of the model's aspect ratio.
    pad : counts of `cv2.copyMakeBorder` that keeps the aspect ratio; None for no border.
    """

    text: str
    interpolation: str
    resize: int | Side | None = None
    crop: Side | str | None = None
    pad: float | None = None
    oriented: bool = True
    whole: bool = True
    clips: bool = True
    clips_between: bool = False

    @property
    def fill(self) -> float:
        """Counts of padded areas."""
        return self.pad or 0.0

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        import cv2  # noqa: PLC0415 - an extra

        size = (pixels.shape[0], pixels.shape[1])
        flag = getattr(cv2, FLAGS[self.interpolation])
        try:
            picture: Any = pixels
            if self.crop == "aspect":
                top, left, height, width = _largest(size, shape)
                picture = np.ascontiguousarray(picture[top : top + height, left : left + width])
            resized = self._resized(size, shape)
            picture = cv2.resize(picture, resized[::-1], interpolation=flag)
            if self.crop is not None and not isinstance(self.crop, str):
                top, left = expect_crop_inside(resized, self.crop, size)
                picture = picture[top : top + self.crop[0], left : left + self.crop[1]]
            if self.pad is not None:
                top, left = centre((shape[0], shape[1]), resized)
                bottom, right = shape[0] - resized[0] - top, shape[1] - resized[1] - left
                picture = cv2.copyMakeBorder(
                    picture,
                    *(top, bottom, left, right),
                    borderType=cv2.BORDER_CONSTANT,
                    value=(int(self.pad),) * 4,
                )
        except cv2.error as error:
            raise PipelineError(
                f"OpenCV cannot resize a picture of {size[1]} × {size[0]} pixels: {first_line(error)}"
            ) from error
        return expect_shape(picture.reshape(*picture.shape[:2], -1), shape, self.text)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        return self.image(by_opencv(data, shape[2], self.oriented), shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        axes = self._axes(size, shape)
        enlarges = any(axis.resized > axis.length for axis in axes)
        return linear_part(OpenCvRows(self.interpolation, enlarges), axes, size, shape)

    def _axes(self, size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
        if self.crop == "aspect":
            top, left, height, width = _largest(size, shape)
            return Axis(height, shape[0], top), Axis(width, shape[1], left)
        resized = self._resized(size, shape)
        top, left = (0, 0)
        if self.pad is not None:
            above, before = centre((shape[0], shape[1]), resized)
            top, left = -above, -before
        elif self.crop is not None and not isinstance(self.crop, str):
            top, left = expect_crop_inside(resized, self.crop, size)
        return Axis(size[0], resized[0], 0, top), Axis(size[1], resized[1], 0, left)

    def _resized(self, size: Side, shape: ImageShape) -> Side:
        """Height and width after resizing, before crop and border."""
        if self.pad is not None:
            scale = min(shape[0] / size[0], shape[1] / size[1])
            return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        if self.resize is None:
            cropped = self.crop is not None and not isinstance(self.crop, str)
            return size if cropped else (shape[0], shape[1])
        return short_side(size, self.resize, round) if isinstance(self.resize, int) else self.resize


def _largest(size: Side, shape: ImageShape) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest centre part with the model's aspect ratio."""
    height = max(1, min(size[0], size[1] * shape[0] // shape[1]))
    width = max(1, min(size[1], size[0] * shape[1] // shape[0]))
    return *centre(size, (height, width)), height, width
