"""Defines the file in which a picture is uploaded: PNG, JPEG or WebP, with its quality.

The encoded file is the evidence of a flip: it is decoded, and what is decoded is judged. This module needs no
TensorFlow, so that a bad `--upload` is refused before a model is loaded.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from robustness.errors import PipelineError, SettingError
from robustness.images.png import MAX_BYTES, from_png, oversized, to_png
from robustness.text import shorten

SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
"""The chroma subsamplings of JPEG, with Pillow's numbers for them."""
DEFAULT_SUBSAMPLING = "4:2:0"
"""Pillow's and libjpeg's default, at every quality."""
FORMS = (
    "png, jpeg:90, jpeg:90,subsampling=4:4:4, jpeg:90,seen=85-95, jpeg:90,seen=none, webp:90 "
    "or webp:lossless"
)
"""The spellings, for messages."""

Range = tuple[int, int]

_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
"""The longest sides in pixels that the encoders write."""
_MODES = {1: "L", 4: "RGBA"}
"""WebP stores grey pictures and opaque RGBA pictures as RGB."""
_CHANNELS = {"PNG": (1, 3, 4), "JPEG": (1, 3), "WEBP": (1, 3, 4)}
_NAMES = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP"}


@dataclass(frozen=True)
class Upload:
    """The encoding of uploaded pictures.

    Attributes
    ----------
    text : str
        The canonical text, which `parse_upload` reads again; recorded in the run.
    format : str
        Pillow's name of the format: ``"PNG"``, ``"JPEG"`` or ``"WEBP"``.
    suffix : str
        The suffix of the files: ``".png"``, ``".jpg"`` or ``".webp"``.
    lossless : bool
        Whether decoded pixels equal encoded ones.
    quality : int or None
        1 to 100; None for lossless formats.
    subsampling : str or None
        ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"`` for JPEG, else None.
    seen : tuple of int or None
        The lowest and the highest JPEG quality through which attacks look; None if they look at the
        pixels as they are.
    """

    text: str
    format: str
    suffix: str
    lossless: bool
    quality: int | None = None
    subsampling: str | None = None
    seen: Range | None = None

    def encode(self, pixels: np.ndarray) -> bytes:
        """Encode a picture; the same pixels give the same bytes with the same version of Pillow.

        Parameters
        ----------
        pixels : ndarray
            uint8 (height, width, channels) with 1 or 3 channels; PNG and WebP take 4 as well.

        Raises
        ------
        SettingError
            The format does not support this number of channels.
        PipelineError
            The picture is too large for the format.
        """
        height, width, channels = pixels.shape
        name = _NAMES[self.format]
        if channels not in _CHANNELS[self.format]:
            wanted = " or ".join(map(str, _CHANNELS[self.format]))
            raise SettingError(
                f"{name} takes pictures with {wanted} channels; these have {channels}. Use --upload png."
            )
        if self.format == "PNG":
            return to_png(pixels)
        most = _MAX_SIDE[self.format]
        if max(height, width) > most:
            raise PipelineError(
                f"A picture of {width:,} × {height:,} pixels cannot be uploaded as {name}: at most "
                f"{most:,} to a side. Use a smaller picture or --upload png."
            )
        flat = pixels[..., 0] if channels == 1 else pixels
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(flat)).save(buffer, self.format, **self._options())
        return buffer.getvalue()

    def _options(self) -> dict[str, Any]:
        """Pillow's options; all that change a file are written out, so that no new default changes it."""
        if self.format == "JPEG":
            return {
                "quality": self.quality,
                "subsampling": SUBSAMPLINGS[self.subsampling or DEFAULT_SUBSAMPLING],
                "optimize": False,
                "progressive": False,
            }
        # `exact` keeps the colours of transparent pixels; for lossless files quality is effort.
        return {
            "lossless": self.lossless,
            "quality": 75 if self.quality is None else self.quality,
            "method": 4,
            "exact": True,
        }

    def decode(self, data: bytes, channels: int | None = None) -> np.ndarray:
        """Decode a file of this format, whoever wrote it.

        Parameters
        ----------
        data : bytes
            The content of the file.
        channels : int, optional
            The number of channels of the picture that was encoded. WebP stores grey and opaque RGBA pictures
            as RGB; only this says what they were.

        Returns
        -------
        ndarray
            uint8 (height, width, channels).

        Raises
        ------
        ValueError
            The data is not a picture of this format, is damaged, exceeds the limits on its size, or does
            not have `channels` channels.
        """
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
        name = _NAMES[self.format]
        try:
            pixels = (
                from_png(data) if self.format == "PNG" else _decoded(data, self.format, channels)
            )
        except (OSError, SyntaxError) as error:
            raise ValueError(f"it is not a {name} file, or its header is damaged") from error
        if channels is not None and pixels.shape[-1] != channels:
            raise ValueError(f"it has {pixels.shape[-1]} channels; expected {channels}")
        return pixels


PNG = Upload("png", "PNG", ".png", lossless=True)
"""The default: lossless."""


def parse_upload(text: str) -> Upload:
    """Read the encoding of uploaded pictures from its text.

    Parameters
    ----------
    text : str
        ``png``; ``jpeg:QUALITY`` with the options ``subsampling=4:4:4|4:2:2|4:2:0`` and
        ``seen=QUALITY|LOW-HIGH|none``; ``webp:QUALITY`` with the option ``seen``; ``webp:lossless``.

    Raises
    ------
    SettingError
        The text has none of these forms, or a quality is not a whole number from 1 to 100.

    Notes
    -----
    `seen` is the range of JPEG qualities through which attacks look. By default it is the quality of a JPEG;
    attacks do not look through WebP, for which no differentiable form exists here, unless `seen` names JPEG
    qualities as its stand-in.
    """
    head, *options = "".join(str(text).split()).lower().split(",")
    kind, colon, value = head.partition(":")
    kind = {"jpg": "jpeg"}.get(kind, kind)
    if kind not in ("png", "jpeg", "webp"):
        raise SettingError(f"upload is {shorten(repr(text))}; expected {FORMS}.")
    known = {"png": (), "jpeg": ("subsampling", "seen"), "webp": ("seen",)}[kind]
    given = _options(text, options, known)
    if kind == "png":
        if colon:
            raise SettingError(f"upload is {shorten(repr(text))}: PNG has no quality. Write png.")
        return PNG
    if not value:
        raise SettingError(
            f"upload is {shorten(repr(text))}, without a quality; write {kind}:90, for instance."
        )
    if kind == "webp":
        return _webp(text, value, given)
    quality = _quality(text, value, kind)
    subsampling = given.get("subsampling", DEFAULT_SUBSAMPLING)
    if subsampling not in SUBSAMPLINGS:
        raise SettingError(
            f"subsampling is {shorten(repr(subsampling))} in the upload {shorten(repr(text))}; expected "
            f"{', '.join(SUBSAMPLINGS)}."
        )
    seen = _range(text, given["seen"]) if "seen" in given else (quality, quality)
    name = f"jpeg:{quality}"
    if subsampling != DEFAULT_SUBSAMPLING:
        name += f",subsampling={subsampling}"
    if seen != (quality, quality):
        name += f",seen={_range_text(seen)}"
    return Upload(name, "JPEG", ".jpg", False, quality, subsampling, seen)


def _webp(text: str, value: str, given: dict[str, str]) -> Upload:
    if not features.check("webp"):
        raise SettingError(
            f"upload is {shorten(repr(text))}; this Pillow is built without WebP. "
            "Install Pillow from PyPI, or use png or jpeg:90."
        )
    if value == "lossless":
        if given:
            raise SettingError(
                f"upload is {shorten(repr(text))}: attacks see the pixels of a lossless file as they "
                "are. Write webp:lossless."
            )
        return Upload("webp:lossless", "WEBP", ".webp", lossless=True)
    quality = _quality(text, value, "webp")
    seen = _range(text, given["seen"]) if "seen" in given else None
    name = f"webp:{quality}" + (f",seen={_range_text(seen)}" if seen else "")
    return Upload(name, "WEBP", ".webp", False, quality, None, seen)


def _options(text: str, options: list[str], known: tuple[str, ...]) -> dict[str, str]:
    """Read ``name=value`` options."""
    given: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (equals and value) or name not in known or name in given:
            wanted = " and ".join(f"{one}=" for one in known) or "none"
            again = " a second time" if name in given else ""
            raise SettingError(
                f"upload is {shorten(repr(text))} with the option {shorten(repr(option))}{again}; options "
                f"here: {wanted}. Write {FORMS}."
            )
        given[name] = value
    return given


def _quality(text: str, value: str, kind: str) -> int:
    """Read one quality; a range is refused with the spelling that names one file."""
    if (ends := _pair(value)) is not None:
        low, high = min(ends), max(ends)
        middle = min(max((low + high) // 2, 1), 100)
        raise SettingError(
            f"upload is {shorten(repr(text))}: a file has one quality, at which its flip counts. To attack "
            f"through the qualities {low} to {high}, write {kind}:{middle},seen={low}-{high} with the "
            f"quality of the file in place of {middle}."
        )
    if re.fullmatch(r"[0-9]{1,9}", value) is None or not 1 <= int(value) <= 100:
        more = " or webp:lossless" if kind == "webp" else ""
        raise SettingError(
            f"upload is {shorten(repr(text))} with the quality {shorten(repr(value))}; expected a whole "
            f"number from 1 to 100, such as {kind}:90{more}."
        )
    return int(value)


def _range(text: str, value: str) -> Range | None:
    """Read the qualities that an attack sees: ``90``, ``85-95`` or ``none``."""
    if value == "none":
        return None
    ends = _pair(value) or _pair(f"{value}-{value}")
    if ends is None or not 1 <= ends[0] <= ends[1] <= 100:
        raise SettingError(
            f"upload is {shorten(repr(text))} with seen={shorten(value)}; expected a quality from 1 to 100, "
            "a range from the lower to the higher such as 85-95, or none."
        )
    return ends


def _pair(value: str) -> Range | None:
    found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", value)
    return (int(found[1]), int(found[2])) if found else None


def _range_text(ends: Range | None) -> str:
    if ends is None:
        return "none"
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"


def _decoded(data: bytes, kind: str, channels: int | None) -> np.ndarray:
    """Decode JPEG or WebP data; OSError or SyntaxError if it is something else."""
    try:
        picture = Image.open(io.BytesIO(data), formats=(kind,))
    except (OSError, SyntaxError):
        raise
    except Exception as error:
        raise ValueError(f"its header cannot be read ({error})") from error
    with picture:
        if wrong := oversized(picture.size):
            raise ValueError(wrong)
        if getattr(picture, "is_animated", False):
            raise ValueError("it has several frames; a picture has one")
        if picture.mode not in ("L", "RGB", "RGBA"):
            raise ValueError(f"it is of the kind {picture.mode}, no 8-bit picture")
        try:
            picture.load()
        # For a damaged file a decoder raises many types: OSError, struct.error, EOFError, ...
        except Exception as error:
            raise ValueError(f"it cannot be decoded ({error})") from error
        if kind == "WEBP" and picture.mode == "RGB" and channels in _MODES:
            pixels = np.array(picture.convert(_MODES[channels]), np.uint8)
        else:
            pixels = np.array(picture, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels
