"""torchvision's `Resize` and `CenterCrop`: of Pillow images without torchvision, of tensors with it.

On Pillow images torchvision runs Pillow's code; only the arithmetic of sides is its own, and stated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.errors import PipelineError
from robustness.pipeline.axes import Axis, RowResizer, linear_part
from robustness.pipeline.conventions.pillow import PillowRows, overshoots, pillow_part
from robustness.pipeline.conventions.sides import Side, expect_shape, short_side
from robustness.pipeline.decoders import (
    by_pillow,
    first_line,
    image_of,
    pixels_of,
)
from robustness.pipeline.geometry import Geometry
from robustness.pipeline.preprocessing import ImageShape

PIL_INTERPOLATIONS = (
    "bilinear",
    "nearest",
    "nearest-exact",
    "bicubic",
    "box",
    "hamming",
    "lanczos",
)
TENSOR_INTERPOLATIONS = ("bilinear", "nearest", "nearest-exact", "bicubic")


@dataclass(frozen=True)
class TorchvisionSides:
    """The arithmetic of `Resize(resize)` and `CenterCrop(crop)`; None leaves a step out."""

    resize: int | Side | None
    crop: Side | None

    def resized(self, size: Side, shape: ImageShape) -> Side:
        """Height and width after `Resize`; without any step the model's own."""
        if self.resize is None:
            return size if self.crop is not None else (shape[0], shape[1])
        return short_side(size, self.resize, int) if isinstance(self.resize, int) else self.resize

    def corner(self, resized: Side) -> Side:
        """Top and left of `CenterCrop`; below 0, as many pixels are padded."""
        if self.crop is None:
            return 0, 0
        return _first(resized[0], self.crop[0]), _first(resized[1], self.crop[1])

    def axes(self, size: Side, shape: ImageShape) -> tuple[Axis, Axis]:
        """The sides of pictures of `size`."""
        resized = self.resized(size, shape)
        top, left = self.corner(resized)
        return Axis(size[0], resized[0], 0, top), Axis(size[1], resized[1], 0, left)


def _first(side: int, crop: int) -> int:
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2.0)


@dataclass(frozen=True)
class PilConvention:
    """torchvision's transforms of Pillow images; see `Preprocessing`."""

    text: str
    interpolation: str
    sides: TorchvisionSides
    oriented: bool = False
    whole: bool = True
    clips: bool = True
    fill: float = 0.0

    @property
    def clips_between(self) -> bool:
        """Whether values are limited between the passes."""
        return overshoots(self._rows.interpolation)

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        resized = self.sides.resized(pixels.shape[:2], shape)
        picture = image_of(pixels).resize(resized[::-1], self._rows.filter)
        if self.sides.crop is not None:
            top, left = self.sides.corner(resized)
            rows, columns = self.sides.crop
            picture = picture.crop((left, top, left + columns, top + rows))
        return expect_shape(pixels_of(picture), shape, self.text)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        return self.image(by_pillow(data, shape[2]), shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        axes = self.sides.axes(size, shape)
        return pillow_part(self._rows.interpolation, axes, size, shape)

    @property
    def _rows(self) -> PillowRows:
        return PillowRows(
            "nearest" if self.interpolation == "nearest-exact" else self.interpolation
        )


@dataclass(frozen=True)
class TensorRows(RowResizer):
    """Resizes rows with torchvision in floating point."""

    interpolation: str
    antialias: bool
    fixed_point: bool

    def resize_rows(
        self, values: np.ndarray, resized: int, box: tuple[float, float] | None
    ) -> np.ndarray:
        """Return float32 (resized, n): a picture whose width stays."""
        import torch  # noqa: PLC0415 - an optional library
        from torchvision.transforms.v2 import functional  # noqa: PLC0415 - an optional library

        picture = torch.from_numpy(np.ascontiguousarray(values))[None]
        if self.fixed_point:  # whose weights PyTorch computes in float64
            picture = picture.double()
        size = [resized, values.shape[1]]
        mode = _mode(self.interpolation)
        resized_rows = functional.resize(picture, size, mode, antialias=self.antialias)
        return resized_rows.numpy()[0].astype(np.float32)

    def as_stored(self, weights: np.ndarray, largest: float) -> np.ndarray:
        """Return the weights; PyTorch's 8-bit code has whole numbers of 16 bits, as large as these allow."""
        if not self.fixed_point:
            return weights
        bits = 0
        while bits < 22 and int(0.5 + largest * 2.0 ** (bits + 1)) < 1 << 15:
            bits += 1
        whole = np.trunc(weights * 2.0**bits + np.copysign(0.5, weights))
        return (whole / 2.0**bits).astype(np.float32)


@dataclass(frozen=True)
class TensorConvention:
    """torchvision's transforms of uint8 tensors, run by torchvision; see `Preprocessing`.

    Attributes
    ----------
    first_version : whether `torchvision.transforms` runs, not `torchvision.transforms.v2`: they may differ by
        one count.
    """

    text: str
    interpolation: str
    sides: TorchvisionSides
    antialias: bool = True
    first_version: bool = False
    oriented: bool = False
    whole: bool = True
    clips: bool = True
    fill: float = 0.0

    @property
    def clips_between(self) -> bool:
        """Whether values are rounded and limited between the passes: by the second version's 8-bit code."""
        return not self.first_version and self.interpolation in ("bilinear", "bicubic")

    def image(self, pixels: np.ndarray, shape: ImageShape) -> np.ndarray:
        """Return the image of decoded pixels; see `Preprocessing.image`."""
        import torch  # noqa: PLC0415 - an optional library
        from torchvision.transforms import functional as first  # noqa: PLC0415 - optional
        from torchvision.transforms.v2 import functional as second  # noqa: PLC0415 - optional

        functional = first if self.first_version else second
        picture = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)))
        resize = self.sides.resize
        if resize is None and self.sides.crop is None:
            resize = (shape[0], shape[1])
        try:
            if resize is not None:
                self.sides.resized((pixels.shape[0], pixels.shape[1]), shape)  # within limits
                lengths = [resize] if isinstance(resize, int) else list(resize)
                mode = _mode(self.interpolation)
                picture = functional.resize(picture, lengths, mode, antialias=self.antialias)
            if self.sides.crop is not None:
                picture = functional.center_crop(picture, list(self.sides.crop))
        except (RuntimeError, ValueError) as error:
            raise PipelineError(
                f"torchvision cannot resize the picture: {first_line(error)}"
            ) from error
        return expect_shape(np.moveaxis(picture.numpy(), 0, 2), shape, self.text)

    def image_of_file(self, data: bytes, shape: ImageShape) -> np.ndarray:
        """Return the image of a picture file; see `Preprocessing.image_of_file`."""
        return self.image(by_pillow(data, shape[2]), shape)

    def geometry(self, size: Side, shape: ImageShape) -> Geometry:
        """Return the linear part for pictures of `size`; see `LinearConvention.geometry`."""
        rows = TensorRows(self.interpolation, self.antialias, fixed_point=self.clips_between)
        return linear_part(rows, self.sides.axes(size, shape), size, shape)


def _mode(interpolation: str) -> Any:
    from torchvision.transforms import InterpolationMode  # noqa: PLC0415 - an optional library

    return InterpolationMode(interpolation)
