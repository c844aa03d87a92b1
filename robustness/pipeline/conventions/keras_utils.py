"""`keras.utils.load_img` with `target_size`: Pillow underneath, nearest by default, nothing turned."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from robustness.errors import PipelineError
from robustness.images.png import to_png
from robustness.pipeline.axes import Axis
from robustness.pipeline.conventions.pillow import overshoots, pillow_part
from robustness.pipeline.conventions.sides import Side
from robustness.pipeline.decoders import expect_channels, expect_sound_header, first_line, pixels_of
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape

FILTERS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
_COLOURS = {1: "grayscale", 3: "rgb", 4: "rgba"}


@dataclass(frozen=True)
class LoadImage:
    """`keras.utils.load_img`; see `Preprocessing`."""

    text: str
    interpolation: str
    keep_aspect_ratio: bool = False
    oriented: bool = False
    whole: bool = True
    clips: bool = True
    fill: float = 0.0

    @property
    def clips_between(self) -> bool:
        """Whether values are limited between the passes."""
        return overshoots(self.interpolation)

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        return self._load(_uncompressed(pixels), shape)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        expect_sound_header(data)
        return self._load(data, shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        boxes = _boxes(size, shape) if self.keep_aspect_ratio else (None, None)
        axes = (
            Axis(size[0], shape[0], box=boxes[0]),
            Axis(size[1], shape[1], box=boxes[1]),
        )
        return pillow_part(self.interpolation, axes, size, shape)

    def _load(self, data: bytes, shape: ImageShape) -> np.ndarray:
        from keras.utils import load_img  # noqa: PLC0415 - slow to import

        expect_channels(shape[2])
        try:
            image = load_img(
                io.BytesIO(data),
                color_mode=_COLOURS[shape[2]],
                target_size=shape[:2],
                interpolation=self.interpolation,
                keep_aspect_ratio=self.keep_aspect_ratio,
            )
        except (OSError, ValueError, SyntaxError) as error:
            raise PipelineError(
                f"keras.utils.load_img cannot load the picture: {first_line(error)}"
            ) from error
        if image.mode not in ("L", "RGB", "RGBA"):
            raise PipelineError(
                f"keras.utils.load_img leaves a grey picture of the kind {image.mode} with more than 8 bits: "
                "its values exceed 255. Give a picture with 8 bits a channel."
            )
        return pixels_of(image)


def _boxes(size: Side, shape: ImageShape) -> tuple[tuple[float, float], tuple[float, float]]:
    """The part that `keep_aspect_ratio` resizes, as load_img counts it."""
    (height, width), (rows, columns) = size, shape[:2]
    inner_height = min(height, (width * rows) // columns)
    inner_width = min(width, (height * columns) // rows)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return (top, top + inner_height), (left, left + inner_width)


def _uncompressed(pixels: np.ndarray) -> bytes:
    """A file with these pixels that Pillow reads without decompression."""
    height, width, channels = pixels.shape
    expect_channels(channels)
    if channels == 4:
        return to_png(pixels)
    kind = "P5" if channels == 1 else "P6"
    return f"{kind}\n{width} {height}\n255\n".encode() + pixels.tobytes()
