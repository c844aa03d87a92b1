"""8-bit pictures as PNG bytes and back. Lossless, the same bytes for the same pixels."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image

from robustness.errors import SettingError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of a uint8 picture (height, width, channels), channels 1, 3 or 4.

    SettingError for another number of channels, which PNG cannot hold.
    """
    channels = pixels.shape[-1]
    if channels not in _MODES:
        raise SettingError(
            f"Pictures with {channels} channels cannot be saved as PNG; expected a model that takes "
            "1, 3 or 4 channels."
        )
    flat = pixels[..., 0] if channels == 1 else pixels
    buffer = io.BytesIO()
    # Of a photo with a perturbation only runs compress: nearly twice as fast as level 1, and smaller.
    Image.fromarray(np.ascontiguousarray(flat), _MODES[channels]).save(
        buffer, format="PNG", compress_level=1, compress_type=zlib.Z_RLE
    )
    return buffer.getvalue()


def from_png(data: bytes) -> np.ndarray:
    """The uint8 picture (height, width, channels) in PNG bytes."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels
