"""Finds how images (height, width, channels) become the input of a model, by its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from robustness.configuration.model_inputs import parse_size
from robustness.errors import ModelError

Shape = tuple[int, int, int]
CHANNELS = (1, 3, 4)
"""Numbers of channels of images: grey, colour, colour with alpha."""


@dataclass(frozen=True)
class Layout:
    """How an image (height, width, channels) becomes the input of a model.

    Attributes
    ----------
    size : of the input as an image, (height, width, channels), channels last.
    target : the shape that the image is reshaped to; None if it keeps its own.
    first : whether the model takes channels first.
    opaque : whether the image lacks the fourth channel, alpha.
    stated : the size that must be stated to get the same layout again; "" if none need be.
    sentences : what was found or assumed.
    """

    size: Shape
    target: tuple[int, ...] | None = None
    first: bool = False
    opaque: bool = False
    stated: str = ""
    sentences: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """The shape of the images."""
        height, width, channels = self.size
        return (height, width, 3) if self.opaque else (height, width, channels)

    def apply(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Return the input of the model, (n, *sizes), for images (n, *size)."""
        if self.first:
            return keras.layers.Permute((3, 1, 2))(images)
        return images if self.target is None else keras.layers.Reshape(self.target)(images)


def layout_of(sizes: tuple[int | None, ...], size: str = "") -> Layout:
    """Find how images become an input.

    Parameters
    ----------
    sizes : shape of one input without the batch; None where any size is taken.
    size : the size of the images, if the user states it.

    Raises
    ------
    ModelError
        The input is no image of a known size, or `size` does not fit it.
    """
    wanted = parse_size(size) if size else ()
    if not 1 <= len(sizes) <= 3:
        raise ModelError(
            f"The model takes inputs of shape {(None, *sizes)}; expected images "
            "(n, height, width, channels)."
        )
    if len(sizes) == 3 and (sizes[2] in CHANNELS or sizes[0] in CHANNELS):
        return _of_image(sizes, wanted)
    if len(sizes) == 3:
        raise ModelError(
            f"The model takes inputs of shape {sizes}; expected (height, width, channels) with 1, 3 or 4 "
            "channels. Audit the model that takes the image itself, or put layers in front that make "
            "this input of an image."
        )
    return _of_numbers(sizes, wanted)


def _of_image(sizes: tuple[int | None, ...], wanted: tuple[int, ...]) -> Layout:
    """The layout of an input of three axes with 1, 3 or 4 channels, last or else first."""
    first = sizes[2] not in CHANNELS
    sides, channels = (sizes[1:], sizes[0]) if first else (sizes[:2], sizes[2])
    any_size = None in sides
    if any_size and not wanted:
        raise ModelError(
            f"The model takes images of any size {sizes}; expected a fixed one: --input-size "
            "HEIGHTxWIDTH, such as 224x224 (in Python input_size). Give the size that it was trained with."
        )
    given = (*wanted, channels)[:3] if wanted else (*sides, channels)
    own = tuple(
        int((a if b is None else b) or 0) for a, b in zip(given, (*sides, channels), strict=True)
    )
    if given != own:
        raise ModelError(
            f"The input size {'x'.join(map(str, wanted))} was given; the model takes "
            f"{'x'.join(map(str, own))}. Leave it out, or state that one."
        )
    height, width, depth = own
    opaque = depth == 4 and len(wanted) < 3
    sentences = {
        f"The model takes images of any size; they are {height}x{width} as given": any_size,
        f"The model takes channels first, {depth}x{height}x{width}; the axes of each image are moved": first,
        "The model takes four channels; the fourth, alpha, is 255 everywhere (each picture's own with "
        f"--input-size {height}x{width}x4)": opaque,
        "The model takes four channels; attacks change the fourth, alpha, like a colour": depth == 4
        and not opaque,
    }
    stated = f"{height}x{width}" if any_size else ""
    return Layout(
        (height, width, depth),
        first=first,
        opaque=opaque,
        stated=f"{height}x{width}x4" if depth == 4 and not opaque else stated,
        sentences=tuple(sentence for sentence, holds in sentences.items() if holds),
    )


def _of_numbers(sizes: tuple[int | None, ...], wanted: tuple[int, ...]) -> Layout:
    """The layout of an input that is not (height, width, channels): rows of numbers, or no channels."""
    if None in sizes:
        raise ModelError(
            f"The model takes inputs of shape {sizes}, of any size; expected images of a fixed size."
        )
    fixed = tuple(int(n) for n in sizes if n is not None)
    count = math.prod(fixed)
    if wanted:
        size = wanted if len(wanted) == 3 else (*wanted, count // math.prod(wanted))
        # Alpha must be stated.
        if math.prod(size) != count or size[2] not in (CHANNELS if len(wanted) == 3 else (1, 3)):
            raise ModelError(
                f"The input size {'x'.join(map(str, wanted))} was given; the model takes {count:,} numbers "
                f"{fixed}. Expected a size with that product, and 1, 3 or 4 channels."
            )
        assumed = "as given"
    else:
        size, assumed = _inferred(fixed), "which is assumed from their number"
        if len(fixed) == 2 and size[:2] == fixed:
            assumed = "grey, without channels"
    height, width, channels = size
    said = f"The model takes inputs of shape {fixed}, read as {height}x{width}x{channels} images, {assumed}"
    stated = f"{height}x{width}x{channels}"
    return Layout((height, width, channels), fixed, stated=stated, sentences=(said,))


def _inferred(fixed: tuple[int, ...]) -> Shape:
    """The size of images that an input without a stated size holds: square, grey or colour."""
    if len(fixed) == 2 and min(fixed) > 4:
        return (*fixed, 1)
    count = math.prod(fixed)
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if side * side * channels == count and side > 1:
            return side, side, channels
    raise ModelError(
        f"The model takes {count:,} numbers per image {fixed}, which are no square image, grey or in colour. "
        "If they are pixels, state their order: --input-size HEIGHTxWIDTHxCHANNELS (in Python input_size). "
        "If they are features that another model computes from the image, audit both as one model: "
        "keras.Sequential([features, classifier])."
    )
