"""Placeholder until the branch `upload` is merged."""

from dataclasses import dataclass

import numpy as np

from robustness.images.png import from_png, to_png


@dataclass(frozen=True)
class Upload:
    """The format of uploaded files."""

    text: str = "png"
    suffix: str = ".png"
    lossless: bool = True
    seen: tuple[int, int] | None = None

    def encode(self, pixels: np.ndarray) -> bytes:
        return to_png(pixels)

    def decode(self, data: bytes) -> np.ndarray:
        return from_png(data)


PNG = Upload()
