"""Encodes 8-bit pictures as PNG and decodes them: lossless, with the same bytes for the same pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from robustness.errors import SettingError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
"""Pillow reads more formats; the others have had vulnerabilities, and nobody trains on them."""
MAX_BYTES = 64 << 20
"""The largest size of a picture file in bytes."""
MAX_PIXELS = 50_000_000
MAX_SIDE = 65_535
"""The longest side in pixels, as in JPEG. A picture one pixel wide costs a line per pixel of its side."""
_COLOURS = {1: 0, 3: 2, 4: 6}
"""PNG's colour types by number of channels: grey, RGB, RGBA."""
_UP = 2


def to_png(pixels: np.ndarray) -> bytes:
    """Encode a picture as PNG.

    Parameters
    ----------
    pixels : ndarray
        uint8 (height, width, channels) with 1, 3 or 4 channels.

    Raises
    ------
    SettingError
        PNG does not support this number of channels.

    Notes
    -----
    An audit writes two pictures for each flip, and a library spends most of its time on choosing one of five
    filters for each line. This encoder stores every line as its difference from the one above (filter Up) and
    compresses runs only: a third of the time, and files 5 to 9 % larger.

    References
    ----------
    ISO/IEC 15948, Portable Network Graphics (PNG).
    """
    height, width, channels = pixels.shape
    if channels not in _COLOURS:
        raise SettingError(
            f"Pictures with {channels} channels cannot be saved as PNG; expected a model that takes "
            "1, 3 or 4 channels."
        )
    flat = pixels.reshape(height, width * channels)
    lines = np.empty((height, 1 + width * channels), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=lines[1:, 1:])
    squeeze = zlib.compressobj(1, strategy=zlib.Z_RLE)
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    parts = [
        _chunk(b"IHDR", head),
        _chunk(b"IDAT", squeeze.compress(lines.data) + squeeze.flush()),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Encode one chunk of a PNG file: length, type, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def from_png(data: bytes) -> np.ndarray:
    """Decode PNG bytes into a uint8 picture (height, width, channels).

    Raises
    ------
    OSError, SyntaxError
        The data is not a PNG.
    ValueError
        The picture is damaged, exceeds the limits on its size, or is not an 8-bit picture.
    """
    with open_png(data) as picture:
        if picture.mode not in ("L", "LA", "RGB", "RGBA"):
            raise ValueError(f"it is of the kind {picture.mode}, no 8-bit picture")
        try:
            pixels = np.asarray(picture)
        # For a damaged file a decoder raises many types: struct.error, zlib.error, EOFError, ...
        except Exception as error:
            raise ValueError(f"it cannot be decoded ({error})") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def open_png(data: bytes) -> Image.Image:
    """Read the header of PNG bytes without decoding the pixels.

    Raises
    ------
    OSError, SyntaxError
        The data is not a PNG.
    ValueError
        The picture exceeds the limits on its size.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG",))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from error
    if wrong := oversized(picture.size):
        picture.close()
        raise ValueError(wrong)
    return picture


def oversized(size: tuple[int, int]) -> str:
    """Return why a picture of `size` (width, height) is not decoded, one sentence; "" if it may be."""
    width, height = size
    if width * height > MAX_PIXELS:
        return f"It has {width:,} × {height:,} pixels; at most {MAX_PIXELS:,} are read."
    if max(size) > MAX_SIDE:
        return f"It has {width:,} × {height:,} pixels; at most {MAX_SIDE:,} to a side are read."
    return ""
