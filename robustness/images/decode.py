"""Decodes the bytes of a picture file into pixels of the model's input shape, with a note of conversions."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from robustness.errors import SettingError
from robustness.images.entries import Shape, Unreadable
from robustness.images.png import FORMATS, MAX_PIXELS, oversized

SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".png": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WORDS = {"L": "grey", "RGB": "RGB", "RGBA": "RGBA"}
_ORIENTATION = 0x0112  # the EXIF tag
_BITS = 258  # the TIFF tag BitsPerSample
_PLAIN = {"P": "palette", "CMYK": "CMYK", "YCbCr": "YCbCr", "HSV": "HSV"}
_READ = {"1", "L", "RGB", "LA", "PA", "RGBA", "RGBX", *_PLAIN}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition by EXIF orientation. ImageOps.exif_transpose fails if other parts of the EXIF are bad."""


def decode(data: bytes, name: str, shape: Shape, *, turned: bool = True) -> tuple[np.ndarray, str]:
    """Decode a picture file.

    Parameters
    ----------
    data : bytes
        The content of the file.
    name : str
        Its name, whose suffix is compared with the format of the data.
    shape : tuple
        The wanted (height, width, channels); (None, None, channels) to keep the size.
    turned : bool
        Whether the picture is turned as its EXIF orientation says; a TIFF always is.

    Returns
    -------
    tuple
        The pixels, uint8 of `shape`, and a note of all conversions, "" if there were none.

    Raises
    ------
    Unreadable
        The file is not a sound picture; the message is the reason.
    SettingError
        Picture files cannot have as many channels as `shape`.
    """
    notes: list[str] = []
    image = decoded_image(data, name, mode_for(shape), notes, turned=turned)
    return fit(image, shape, notes), "; ".join(notes)


def decoded_image(
    data: bytes, name: str, mode: str, notes: list[str], *, turned: bool = True
) -> Image.Image:
    """Decode a picture file at its own size, as `decode` does.

    Parameters
    ----------
    data, name, turned : as in `decode`.
    mode : the mode of the result: L, RGB or RGBA.
    notes : what was converted is added.

    Raises
    ------
    Unreadable
        The file is not a sound picture; the message is the reason.
    """
    if not data:
        raise Unreadable("The file is empty.")
    image = _open(data)
    with image:
        try:
            _say_format(image, name, notes)
            bits = _bits(image, data)
            # Pillow turns a TIFF as it loads and drops the tag; a PNG may have it after the pixels.
            early = _orientation(image) if image.format == "TIFF" else None
            image.load()
        # Decoders raise many types: OSError, SyntaxError, ValueError, struct.error, ...
        except Exception as error:
            raise Unreadable(_damage(image, error)) from error
        turn = _TURNS.get(_orientation(image) or 1)
        if turn is not None and not turned:
            notes.append("not turned as its EXIF orientation says, as the pipeline does")
            turn = None
        if turn is not None:
            image = image.transpose(turn)
        if turn is not None or early in _TURNS:
            notes.append("turned as its EXIF orientation says")
        return _to_mode(image, bits, mode, notes)


def mode_for(shape: Shape) -> str:
    """Return the Pillow mode with as many channels as `shape`; SettingError if there is none."""
    if shape[-1] not in _MODES:
        raise SettingError(
            f"The model takes images with {shape[-1]} channels; picture files have 1, 3 or 4. "
            "Give the images as an array or `.npz` of that many channels."
        )
    return _MODES[shape[-1]]


def fit(image: Image.Image, shape: Shape, notes: list[str]) -> np.ndarray:
    """Resize `image` to `shape` (bilinear, antialiased, aspect ratio not kept) and return uint8 pixels."""
    height, width, channels = shape
    if height is None or width is None:
        return np.array(image, np.uint8).reshape(image.height, image.width, channels)
    if image.size != (width, height):
        squashed = "" if image.width * height == image.height * width else ", aspect not kept"
        notes.append(f"resized from {image.width}x{image.height}{squashed}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image, np.uint8).reshape(height, width, channels)


def to_channels(image: Image.Image, mode: str, notes: list[str]) -> Image.Image:
    """Convert `image` between the modes L, RGB and RGBA; transparent parts are composited onto white."""
    if image.mode == mode:
        return image
    if image.mode == "RGBA":
        if image.getchannel("A").getextrema()[0] == 255:
            notes.append("opaque alpha channel dropped")
        else:
            notes.append("transparency put on white")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    if image.mode != mode:
        notes.append(f"{_WORDS[image.mode]} converted to {_WORDS[mode]}")
        image = image.convert(mode)
    return image


def _open(data: bytes) -> Image.Image:
    """Read the header of a picture without decoding it."""
    too_large = f"It has more than {MAX_PIXELS:,} pixels, the most that is read."
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(too_large) from error
    except UnidentifiedImageError as error:
        raise Unreadable(
            "It is not a picture in a format that is read (PNG, JPEG, BMP, WebP, GIF, TIFF), "
            "or its header is damaged."
        ) from error
    except Exception as error:
        raise Unreadable("The header of the picture is damaged.") from error
    if wrong := oversized(image.size):
        image.close()
        raise Unreadable(wrong)
    return image


def _say_format(image: Image.Image, name: str, notes: list[str]) -> None:
    kind = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: several JPEGs in one file
    suffix = PurePosixPath(name).suffix.lower()
    if suffix and SUFFIXES.get(suffix) != kind:  # a row of a table has no name
        notes.append(f"{kind} data in a file named {suffix}")
    if getattr(image, "is_animated", False):
        notes.append("the first of several frames")


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel in the file; not known from the mode, since Pillow reduces 16-bit RGB to 8 bits."""
    if image.format == "PNG":
        return 16 if data[24] == 16 else 8  # in IHDR, always the first chunk
    if image.format == "TIFF":
        declared = getattr(image, "tag_v2", {}).get(_BITS, (8,))
        return max(8, *(declared if isinstance(declared, tuple) else (declared,)))
    return 8


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF data says nothing about the pixels
        return None


def _damage(image: Image.Image, error: Exception) -> str:
    if "truncated" in str(error):
        return f"The {image.format} file is truncated: it ends before the picture does."
    return f"The {image.format} data is damaged and cannot be decoded."


def _to_mode(image: Image.Image, bits: int, mode: str, notes: list[str]) -> Image.Image:
    """Convert the loaded `image` from any supported mode to `mode`."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16) >> (min(bits, 16) - 8 if bits > 8 else 8)
        image = Image.fromarray(values.astype(np.uint8))
    elif image.mode not in _READ:
        raise Unreadable(
            f"Its pixels are of the kind {image.mode}, whose range is not known; expected 8 or 16 "
            "bits a channel in grey, RGB, CMYK or a palette."
        )
    if bits > 8:
        notes.append(f"{bits} bits a channel cut to 8")
    try:
        return to_channels(_plain(image, notes), mode, notes)
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise Unreadable("Its colours are damaged and cannot be converted.") from error


def _plain(image: Image.Image, notes: list[str]) -> Image.Image:
    """Convert `image` to that one of L, RGB and RGBA which is nearest to its mode."""
    if word := _PLAIN.get(image.mode):
        notes.append(f"{word} converted to RGB")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")
