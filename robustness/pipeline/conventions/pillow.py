"""Pillow: `Image.resize` with all its filters, alone, with a centre crop, or with padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageOps

from robustness.errors import PipelineError
from robustness.pipeline.axes import Axis, RowResizer, linear_part
from robustness.pipeline.conventions.sides import (
    Side,
    expect_crop_inside,
    expect_shape,
    short_side,
)
from robustness.pipeline.decoders import (
    by_pillow,
    by_toolkit,
    expect_sound_header,
    first_line,
    image_of,
    pixels_of,
)
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape

FILTERS = tuple(name.lower() for name in Image.Resampling.__members__)
"""The filters of the installed Pillow."""
_NOT_NEGATIVE = ("nearest", "box", "bilinear", "hamming")


def overshoots(interpolation: str) -> bool:
    """Return whether a filter has negative weights, so that Pillow limits values between its two passes."""
    return interpolation not in _NOT_NEGATIVE


_FIXED = 1 << 22
"""Pillow's 8-bit code has weights that are whole numbers of 2**-22."""


@dataclass(frozen=True)
class PillowRows(RowResizer):
    """Resizes the identity with Pillow as whole numbers, rounded as the weights of its 8-bit code."""

    interpolation: str

    def resize_rows(
        self, values: np.ndarray, resized: int, box: tuple[float, float] | None
    ) -> np.ndarray:
        """Return float32 (resized, n)."""
        width = values.shape[1]
        low, high = box or (0, values.shape[0])
        image = Image.fromarray((values * _FIXED).astype(np.int32)).resize(
            (width, resized), self.filter, box=(0, low, width, high)
        )
        return (np.asarray(image) / _FIXED).astype(np.float32)

    @property
    def filter(self) -> Image.Resampling:
        """The filter as Pillow names it."""
        return Image.Resampling[self.interpolation.upper()]


def pillow_part(
    interpolation: str, axes: tuple[Axis, Axis], size: Side, shape: ImageShape
) -> Geometry:
    """Return the linear part of code that resizes with Pillow."""
    shrinks = [axis.length - axis.resized for axis in axes]
    # Resample.c of Pillow 13; before, columns always came first.
    rows_first = _may_resize_rows_first() and shrinks[0] > max(0, 2 * shrinks[1])
    return linear_part(PillowRows(interpolation), axes, size, shape, rows_first)


@lru_cache(maxsize=1)
def _may_resize_rows_first() -> bool:
    """Whether the installed Pillow resizes rows first where that is cheaper, found by trying."""
    # Columns first, the negative lobe beside the white column is cut off; rows first, it darkens the rest.
    pixels = np.zeros((40, 4), np.uint8)
    pixels[:20, 1], pixels[:, 2] = 255, 128
    both = PillowRows("lanczos").filter
    image = Image.fromarray(pixels)
    columns_first = image.resize((9, 40), both).resize((9, 10), both)
    return not np.array_equal(np.asarray(image.resize((9, 10), both)), np.asarray(columns_first))


@dataclass(frozen=True)
class PillowConvention:
    """`Image.resize`, `Image.crop`, `ImageOps.fit` or `ImageOps.pad`; see `Preprocessing`.

    Attributes
    ----------
    interpolation : name of the filter.
    resize : the short side, or (height, width); None for the model's size.
    crop : the centre that is kept, (height, width); "aspect" for the largest of the model's aspect ratio.
    pad : counts of the padding that keeps the aspect ratio; None for none.
    """

    text: str
    interpolation: str
    resize: int | Side | None = None
    crop: Side | str | None = None
    pad: float | None = None
    oriented: bool = True
    whole: bool = True
    clips: bool = True

    @property
    def fill(self) -> float:
        """Counts of padded areas."""
        return self.pad or 0.0

    @property
    def clips_between(self) -> bool:
        """Whether values are limited between the passes."""
        return overshoots(self.interpolation)

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        picture, resample = image_of(pixels), PillowRows(self.interpolation).filter
        size = (shape[1], shape[0])
        try:
            if self.pad is not None:
                fill = int(self.pad)
                colour = fill if shape[2] == 1 else (fill,) * shape[2]
                picture = ImageOps.pad(picture, size, resample, colour)
            elif self.crop == "aspect":
                picture = ImageOps.fit(picture, size, resample)
            else:
                picture = self._resized_and_cropped(picture, shape)
        except (ValueError, ZeroDivisionError) as error:
            raise PipelineError(
                f"Pillow cannot resize a picture of {pixels.shape[1]} × {pixels.shape[0]} pixels: "
                f"{first_line(error)}"
            ) from error
        return expect_shape(pixels_of(picture), shape, self.text)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        if not self.oriented:
            return self.image(by_pillow(data, shape[2]), shape)
        expect_sound_header(data)
        return self.image(by_toolkit(data, shape[2]), shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        return pillow_part(self.interpolation, self._axes(size, shape), size, shape)

    def _resized_and_cropped(self, picture: Image.Image, shape: ImageShape) -> Image.Image:
        size = (picture.height, picture.width)
        resized = self._resized(size, shape)
        picture = picture.resize(resized[::-1], PillowRows(self.interpolation).filter)
        if self.crop is None or isinstance(self.crop, str):
            return picture
        top, left = expect_crop_inside(resized, self.crop, size)
        return picture.crop((left, top, left + self.crop[1], top + self.crop[0]))

    def _resized(self, size: Side, shape: ImageShape) -> Side:
        """Height and width after resizing, before the crop."""
        if self.resize is None:
            return size if self.crop is not None else (shape[0], shape[1])
        return short_side(size, self.resize, round) if isinstance(self.resize, int) else self.resize

    def _axes(self, size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
        if self.pad is not None:
            return _padded(size, shape)
        if self.crop == "aspect":
            return _fitted(size, shape)
        resized = self._resized(size, shape)
        top, left = (0, 0)
        if self.crop is not None and not isinstance(self.crop, str):
            top, left = expect_crop_inside(resized, self.crop, size)
        return Axis(size[0], resized[0], 0, top), Axis(size[1], resized[1], 0, left)


def _padded(size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
    """The sides as `ImageOps.pad` counts them."""
    (height, width), (rows, columns) = size, shape[:2]
    if width / height > columns / rows:
        rows = round(height / width * columns)
    elif width / height < columns / rows:
        columns = round(width / height * rows)
    top, left = round((shape[0] - rows) * 0.5), round((shape[1] - columns) * 0.5)
    return Axis(height, rows, 0, -top), Axis(width, columns, 0, -left)


def _fitted(size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
    """The sides as `ImageOps.fit` counts them: fractions of pixels, and kernels read beyond the box."""
    (height, width), ratio = size, shape[1] / shape[0]
    inner_height, inner_width = float(height), float(width)
    if width / height > ratio:
        inner_width = ratio * height
    elif width / height < ratio:
        inner_height = width / ratio
    top, left = (height - inner_height) * 0.5, (width - inner_width) * 0.5
    return (
        Axis(height, shape[0], box=(top, top + inner_height)),
        Axis(width, shape[1], box=(left, left + inner_width)),
    )
