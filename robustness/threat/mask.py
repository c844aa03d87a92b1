"""The mask: the pixels that an attacker may change, the same in every image."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustness.errors import SettingError
from robustness.files.bounded import read_bytes_bounded
from robustness.files.disk_errors import expect_named
from robustness.images.png import FORMATS, MAX_BYTES, oversized, to_png


@dataclass(frozen=True)
class Mask:
    """Which pixels may change.

    Parameters
    ----------
    rows
        The rows of the mask from the top, each a tuple of bool: True where a pixel may change.
    """

    rows: tuple[tuple[bool, ...], ...]

    @classmethod
    def of(cls, given: np.ndarray | str | Path, shape: tuple[int, ...]) -> Mask:
        """Return the mask from an array or from the file of a picture.

        Parameters
        ----------
        given
            An array (height, width), true or above 0 where a pixel may change; or the path of a picture,
            which is scaled to the size of the images, and whose bright pixels (above 127) may change.
        shape
            The shape of the images, (height, width, channels).

        Raises
        ------
        SettingError
            The mask cannot be read, has another shape, or lets no pixel change.
        """
        size = tuple(shape[:2])
        filed = isinstance(given, (str, Path))
        expect_named(given, "The path of the mask")
        free = _bright(Path(str(given)), size) if filed else np.asarray(given) > 0
        if free.shape != size:
            raise SettingError(
                f"The mask has shape {free.shape}; expected {size}, one number per pixel of the model's "
                "input."
            )
        if not free.any():
            raise SettingError(
                "The mask lets no pixel change; expected a value above 127 in a file, above 0 in an array, "
                "where a pixel may change."
            )
        return cls(tuple(tuple(row) for row in free.tolist()))

    @cached_property
    def free(self) -> np.ndarray:
        """True where a pixel may change, (height, width) bool."""
        return np.array(self.rows, bool)

    @property
    def share(self) -> float:
        """The share of pixels that may change, 0..1."""
        return float(self.free.mean())

    def png(self, channels: int) -> bytes:
        """Return the mask as a PNG of `channels`, white where pixels may change."""
        white = np.where(self.free, 255, 0).astype(np.uint8)
        return to_png(np.repeat(white[..., None], channels, axis=-1))

    def card(self, channels: int) -> dict[str, Any]:
        """Return the entry of the mask in `run.json`: the SHA-256 of its PNG and the share of free pixels."""
        digest = hashlib.sha256(self.png(channels)).hexdigest()
        return {"sha256": digest, "share": round(self.share, 6)}


def _bright(path: Path, size: tuple[int, ...]) -> np.ndarray:
    try:
        data = read_bytes_bounded(path, MAX_BYTES)
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if wrong := oversized(picture.size):
                raise ValueError(wrong)
            grey = picture.convert("L").resize((size[1], size[0]), Image.Resampling.NEAREST)
    # Decoders may raise any exception: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise SettingError(
            f"The mask {path} cannot be read ({error}); expected a picture that is bright where pixels "
            "may change."
        ) from None
    return np.asarray(grey) > 127
