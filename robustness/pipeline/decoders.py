"""Decodes picture files as the deployed code does: with Pillow, TensorFlow, OpenCV, or as an audit does."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from robustness.errors import PipelineError
from robustness.images.decode import decoded_image
from robustness.images.entries import Unreadable
from robustness.images.png import FORMATS, oversized

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's mode of pictures with so many channels."""


def expect_sound_header(data: bytes) -> None:
    """Raise PipelineError unless `data` begins as a picture of a known format, within the limits of size.

    A library's own decoder reads further formats, some by running other programs, and pictures of any size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                reason = oversized(image.size)
    except Exception as error:  # decoders raise many types
        raise PipelineError(
            f"The file is not a picture that is read ({', '.join(FORMATS)}), or its header is damaged."
        ) from error
    if reason:
        raise PipelineError(reason)


def expect_channels(channels: int) -> str:
    """Return Pillow's mode of pictures with so many channels; PipelineError if there is none."""
    if channels not in MODES:
        raise PipelineError(
            f"The model takes {channels} channels; a named pipeline reads pictures with 1, 3 or 4."
        )
    return MODES[channels]


def by_pillow(data: bytes, channels: int) -> np.ndarray:
    """Return ``Image.open(file).convert(mode)`` as uint8 (height, width, channels); nothing is turned."""
    expect_sound_header(data)
    mode = expect_channels(channels)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return pixels_of(image.convert(mode))
    except Exception as error:
        raise PipelineError(f"Pillow cannot decode the picture: {first_line(error)}") from error


def by_toolkit(data: bytes, channels: int) -> np.ndarray:
    """Return the pixels as an audit without a pipeline decodes them: turned, transparency put on white."""
    try:
        return pixels_of(decoded_image(data, "", expect_channels(channels), []))
    except Unreadable as error:
        raise PipelineError(str(error)) from error


def by_tensorflow(data: bytes, channels: int) -> np.ndarray:
    """Return ``tf.io.decode_image(data, channels, expand_animations=False)``; nothing is turned."""
    import tensorflow as tf  # noqa: PLC0415 - slow to import

    expect_sound_header(data)
    try:
        with tf.device("CPU"):
            return tf.io.decode_image(data, channels=channels, expand_animations=False).numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise PipelineError(f"TensorFlow cannot decode the picture: {first_line(error)}") from error


def by_opencv(data: bytes, channels: int, oriented: bool) -> np.ndarray:
    """Return ``cv2.imdecode`` with the colours in the order red, green, blue."""
    import cv2  # noqa: PLC0415 - an extra

    expect_sound_header(data)
    flag = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels)
    if flag is None:
        raise PipelineError(
            f"The model takes {channels} channels; the pipeline opencv reads pictures with 1 or 3."
        )
    if not oriented:
        flag |= cv2.IMREAD_IGNORE_ORIENTATION
    pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None:
        raise PipelineError("OpenCV cannot decode the picture: cv2.imdecode returned None.")
    if channels == 1:
        return pixels[..., None]
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def image_of(pixels: np.ndarray) -> Image.Image:
    """Return uint8 pixels (height, width, channels) as Pillow's image."""
    expect_channels(pixels.shape[2])
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return Pillow's image as uint8 (height, width, channels)."""
    return np.array(image, np.uint8).reshape(image.height, image.width, -1)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters, without TensorFlow's node name."""
    lines = re.sub(r"^\{\{.*?\}\}", "", str(error).strip()).strip().splitlines()
    return (lines or [type(error).__name__])[0][:200]


DECODERS: dict[str, Callable[[bytes, int], np.ndarray]] = {
    "tensorflow": by_tensorflow,
    "pillow": by_pillow,
}
"""Decoders of pipelines that state no decoder of their own: data and channels to uint8 pixels."""
