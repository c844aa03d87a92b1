"""Placeholder until the branch `conv` is merged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from robustness.pipeline.geometry import Geometry

DEFAULT = "pillow:bilinear"


class PillowBilinear:
    text = "pillow:bilinear"
    oriented = True
    whole = True
    fill = 0.0
    clips_between = False
    clips = True

    def image(self, pixels, shape):
        return np.asarray(
            Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]).resize(
                (shape[1], shape[0]), Image.Resampling.BILINEAR
            )
        ).reshape(shape)

    def image_of_file(self, data, shape):
        import io

        return self.image(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), shape)

    def geometry(self, size, shape):
        def m(a, b):
            e = Image.fromarray(np.eye(a, dtype=np.float32)).resize(
                (a, b), Image.Resampling.BILINEAR
            )
            return np.asarray(e)

        return Geometry(m(size[0], shape[0]), m(size[1], shape[1]))


@dataclass(frozen=True)
class Parsed:
    convention: Any
    scaling: str | None = None


def parse_pipeline(text):
    return Parsed(PillowBilinear())
