"""The layers `keras.layers.Resizing`, also as the `ImageConverter` of keras-hub uses it, and `CenterCrop`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from robustness.errors import PipelineError
from robustness.pipeline.axes import Axis, RowResizer, linear_part
from robustness.pipeline.conventions.sides import Side, expect_shape
from robustness.pipeline.conventions.tensorflow_image import cropped_axes, padded_axes
from robustness.pipeline.decoders import DECODERS, first_line
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape

INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5", "area")


@dataclass(frozen=True)
class ResizingRows(RowResizer):
    """Resizes rows with the layer."""

    interpolation: str
    antialias: bool

    def resize_rows(
        self, values: np.ndarray, resized: int, box: tuple[float, float] | None
    ) -> np.ndarray:
        """Return float32 (resized, n): the columns are channels of a picture one pixel wide."""
        layer = _layer((resized, 1), interpolation=self.interpolation, antialias=self.antialias)
        return _run(layer, values[:, None, :])[:, 0, :]


@dataclass(frozen=True)
class ResizingConvention:
    """`keras.layers.Resizing`; see `Preprocessing`.

    Attributes
    ----------
    dtype : of the pixels that enter the layer; it rounds to uint8 what enters as uint8.
    decoder : name of the decoder of files.
    """

    text: str
    interpolation: str
    antialias: bool = False
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    fill: float = 0.0
    dtype: str = "float32"
    decoder: str = "tensorflow"
    oriented: bool = False
    clips_between: bool = False

    @property
    def whole(self) -> bool:
        """Whether images have whole counts."""
        return self.dtype == "uint8" or self.interpolation == "nearest"

    @property
    def clips(self) -> bool:
        """Whether the result is limited to 0..255."""
        return self.dtype == "uint8"

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        layer = _layer(
            (shape[0], shape[1]),
            interpolation=self.interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_value=int(self.fill) if self.dtype == "uint8" else self.fill,
        )
        try:
            image = _run(layer, pixels.astype(self.dtype))
        except Exception as error:  # each backend of Keras raises its own
            raise PipelineError(
                f"keras.layers.Resizing cannot resize a picture of {pixels.shape[1]} × {pixels.shape[0]} "
                f"pixels: {first_line(error)}"
            ) from error
        return expect_shape(image, shape, self.text)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        return self.image(DECODERS[self.decoder](data, shape[2]), shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        if self.crop_to_aspect_ratio:
            axes = cropped_axes(size, shape)
        elif self.pad_to_aspect_ratio:
            axes = padded_axes(size, shape)
        else:
            axes = Axis(size[0], shape[0]), Axis(size[1], shape[1])
        resizer = ResizingRows(self.interpolation, self.antialias)
        return linear_part(resizer, axes, size, shape)


@dataclass(frozen=True)
class CenterCropConvention:
    """`keras.layers.CenterCrop`; see `Preprocessing`.

    Of a picture with a side that is smaller than the crop, the largest centre of the crop's aspect ratio is
    resized.

    Attributes
    ----------
    interpolation : of such a picture.
    decoder : name of the decoder of files.
    """

    text: str
    interpolation: str = "bilinear"
    decoder: str = "tensorflow"
    oriented: bool = False
    whole: bool = False
    clips_between: bool = False
    clips: bool = False
    fill: float = 0.0

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        image = _run(_cropping_layer((shape[0], shape[1])), pixels.astype(np.float32))
        return expect_shape(image, shape, self.text)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        return self.image(DECODERS[self.decoder](data, shape[2]), shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        spare = size[0] - shape[0], size[1] - shape[1]
        axes = Axis.kept(size[0], spare[0] // 2), Axis.kept(size[1], spare[1] // 2)
        if min(spare) < 0:
            axes = cropped_axes(size, shape)
        return linear_part(ResizingRows(self.interpolation, False), axes, size, shape)


@lru_cache(maxsize=16)
def _cropping_layer(size: Side) -> Any:
    import keras  # noqa: PLC0415 - slow to import

    return keras.layers.CenterCrop(*size, data_format="channels_last")


@lru_cache(maxsize=64, typed=True)  # a fill of 0.0 fails for uint8 where 0 does not
def _layer(size: Side, **options: Any) -> Any:
    import keras  # noqa: PLC0415 - slow to import

    return keras.layers.Resizing(*size, data_format="channels_last", **options)


def _run(layer: Any, values: np.ndarray) -> np.ndarray:
    """The layer on one picture, on the CPU, as in an input pipeline."""
    import keras  # noqa: PLC0415 - slow to import

    with keras.device("cpu"):
        return keras.ops.convert_to_numpy(layer(values))
