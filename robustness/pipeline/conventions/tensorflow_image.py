"""TensorFlow's `tf.image.resize`, `tf.image.resize_with_pad`, and `image_dataset_from_directory` of Keras.

All run on the CPU, as input pipelines do; kernels of a GPU may differ in the last bit. All run eagerly, which
gives what `tf.data` gives. A `tf.function` does not always: its optimiser multiplies by reciprocals, and
`resize_with_pad` then makes pictures of some sizes a row or a column smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from robustness.errors import PipelineError
from robustness.pipeline.axes import Axis, RowResizer, linear_part
from robustness.pipeline.conventions.sides import Side, expect_shape
from robustness.pipeline.decoders import DECODERS, first_line
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape

METHODS = (
    "bilinear",
    "nearest",
    "bicubic",
    "area",
    "lanczos3",
    "lanczos5",
    "gaussian",
    "mitchellcubic",
)


@dataclass(frozen=True)
class TensorFlowRows(RowResizer):
    """Resizes rows with `tf.image.resize`."""

    method: str
    antialias: bool = False

    def resize_rows(
        self, values: np.ndarray, resized: int, box: tuple[float, float] | None
    ) -> np.ndarray:
        """Return float32 (resized, n): the columns are channels of a picture one pixel wide."""
        import tensorflow as tf  # noqa: PLC0415 - slow to import

        with tf.device("CPU"):
            image = tf.image.resize(
                values[:, None, :], (resized, 1), method=self.method, antialias=self.antialias
            )
            return image.numpy()[:, 0, :]


@dataclass(frozen=True)
class TensorFlowConvention:
    """`tf.image.resize` and what is built on it; see `Preprocessing`.

    Attributes
    ----------
    aspect : "squash"; "pad" for `tf.image.resize_with_pad`; "crop" for Keras' `smart_resize`.
    decoder : name of the decoder of files.
    """

    text: str
    interpolation: str
    antialias: bool = False
    aspect: str = "squash"
    decoder: str = "tensorflow"
    oriented: bool = False
    clips_between: bool = False
    clips: bool = False
    fill: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether images have whole counts."""
        return self.interpolation == "nearest"

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        import tensorflow as tf  # noqa: PLC0415 - slow to import

        try:
            with tf.device("CPU"):
                image = self._code(shape)(tf.constant(pixels)).numpy()
        except (tf.errors.OpError, ValueError) as error:
            raise PipelineError(
                f"TensorFlow cannot resize a picture of {pixels.shape[1]} × {pixels.shape[0]} pixels: "
                f"{first_line(error)}"
            ) from error
        return expect_shape(image, shape, self.text)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        return self.image(DECODERS[self.decoder](data, shape[2]), shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        resizer = TensorFlowRows(self.interpolation, self.antialias)
        return linear_part(resizer, self._axes(size, shape), size, shape)

    def _axes(self, size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
        if self.aspect == "crop":
            return cropped_axes(size, shape)
        if self.aspect == "pad":
            return self._padded_axes(size, shape)
        return Axis(size[0], shape[0]), Axis(size[1], shape[1])

    def _padded_axes(self, size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
        """The sides as the code pads them: where a white picture ends.

        `resize_with_pad` counts in float32, rounded down, so that the order of operations matters.
        """
        white = np.full((*size, 1), 255, np.uint8)
        covered = self.image(white, (*shape[:2], 1))[..., 0] > 100
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        return (
            Axis(size[0], len(rows), 0, -int(rows[0])),
            Axis(size[1], len(columns), 0, -int(columns[0])),
        )

    def _code(self, shape: ImageShape) -> Callable[[Any], Any]:
        return _code(self.aspect, self.interpolation, self.antialias, shape[:2])


@lru_cache(maxsize=32)
def _code(aspect: str, method: str, antialias: bool, size: Side) -> Callable[[Any], Any]:
    import tensorflow as tf  # noqa: PLC0415 - slow to import

    if aspect == "pad":
        return lambda pixels: tf.image.resize_with_pad(
            pixels, *size, method=method, antialias=antialias
        )
    if aspect == "crop":
        from keras.src.backend import tensorflow as backend  # noqa: PLC0415 - slow to import
        from keras.src.utils.image_utils import smart_resize  # noqa: PLC0415 - slow to import

        # The public smart_resize takes no backend; a dataset of Keras always runs it on TensorFlow.
        return lambda pixels: smart_resize(
            pixels, size, interpolation=method, backend_module=backend
        )
    return lambda pixels: tf.image.resize(pixels, size, method=method, antialias=antialias)


def cropped_axes(size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
    """Return the sides as `crop_to_aspect_ratio` of Keras counts them, in float32."""
    height, width = _other_sides(size, shape)
    inner_height, inner_width = max(1, min(size[0], height)), max(1, min(size[1], width))
    top, left = (size[0] - inner_height) // 2, (size[1] - inner_width) // 2
    return Axis(inner_height, shape[0], top), Axis(inner_width, shape[1], left)


def padded_axes(size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
    """Return the sides as `pad_to_aspect_ratio` of a Keras layer counts them: padded, then resized."""
    height, width = _other_sides(size, shape)
    top, left = max(0, (height - size[0]) // 2), max(0, (width - size[1]) // 2)
    return (
        Axis(size[0] + 2 * top, shape[0], -top),
        Axis(size[1] + 2 * left, shape[1], -left),
    )


def _other_sides(size: Side, shape: ImageShape) -> Side:
    """The height that fits the width at the model's aspect ratio, and the width that fits the height."""
    height = np.float32(size[1] * shape[0]) / np.float32(shape[1])
    width = np.float32(size[0] * shape[1]) / np.float32(shape[0])
    return int(height), int(width)
