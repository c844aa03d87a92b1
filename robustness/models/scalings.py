"""Converts images in counts to the input of a model.

Every image in this toolkit is RGB in counts 0..255. A `Scaling` converts counts to the numbers that a model
was trained on. The wrong one lowers accuracy and invalidates every verdict, so it must not be guessed
silently: it is given, found in the model (`inner_scaling`), or chosen by labelled images (`scaling_choice`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from robustness.configuration.scaling_text import parse_numbers, plain_text
from robustness.configuration.scaling_text import text_of as numbers_text
from robustness.errors import SettingError
from robustness.models.layers import is_whole


@dataclass(frozen=True)
class Scaling:
    """The conversion ``counts[..., order] * multiply + offset``.

    Attributes
    ----------
    name : its name in `SCALINGS`.
    multiply, offset : one number per channel, in the order `order`, or one for all channels.
    order : "RGB" or "BGR".
    sentence : a description for reports.
    """

    name: str
    multiply: tuple[float, ...]
    offset: tuple[float, ...]
    order: str = "RGB"
    sentence: str = ""

    def __post_init__(self) -> None:
        if self.order not in ("RGB", "BGR"):
            raise SettingError(f"Channel order {self.order!r} is not known; expected RGB or BGR.")
        for numbers in (self.multiply, self.offset):
            if len(numbers) not in (1, 3) or not all(math.isfinite(n) for n in numbers):
                raise SettingError(
                    f"A scaling takes one finite number or three (red, green, blue); got {numbers}."
                )

    @property
    def per_channel(self) -> bool:
        """Whether the scaling needs three channels."""
        return self.order == "BGR" or len(self.multiply) == 3 or len(self.offset) == 3

    def apply(self, images: Any) -> Any:
        """Convert counts (n, height, width, channels) to the input of the model, float32."""
        images = ops.cast(images, "float32")
        if self.order == "BGR":
            images = ops.flip(images, axis=-1)
        if any(m != 1.0 for m in self.multiply):
            images = images * ops.convert_to_tensor(self.multiply, "float32")
        if any(o != 0.0 for o in self.offset):
            images = images + ops.convert_to_tensor(self.offset, "float32")
        return images

    def fits(self, dtype: str) -> bool:
        """Return whether `dtype` holds scaled whole counts exactly: in range and without fractions."""
        if not is_whole(dtype):
            return True
        if dtype == "bool" or any(n % 1 for n in (*self.multiply, *self.offset)):
            return False
        limits = np.iinfo(dtype)
        pairs = np.broadcast(np.array(self.multiply), np.array(self.offset))
        ends = [m * count + o for m, o in pairs for count in (0, 255)]
        return bool(limits.min <= min(ends) and max(ends) <= limits.max)

    def card(self) -> dict[str, Any]:
        """Return the scaling as JSON values."""
        return {
            "name": self.name,
            "multiply": list(self.multiply),
            "offset": list(self.offset),
            "order": self.order,
            "sentence": self.sentence,
        }


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALINGS: dict[str, Scaling] = {
    scaling.name: scaling
    for scaling in (
        Scaling("0..255", (1.0,), (0.0,), sentence="The model takes counts 0..255 as they are."),
        Scaling("0..1", (1 / 255,), (0.0,), sentence="Counts are divided by 255 (0..1)."),
        Scaling(
            "-1..1", (1 / 127.5,), (-1.0,), sentence="Counts are divided by 127.5, minus 1 (-1..1)."
        ),
        Scaling(
            "caffe",
            (1.0,),
            (-103.939, -116.779, -123.68),
            order="BGR",
            sentence="Channels are swapped to BGR and the ImageNet mean is subtracted (caffe).",
        ),
        Scaling(
            "torch",
            tuple(1 / (255 * s) for s in _STD),
            tuple(-m / s for m, s in zip(_MEAN, _STD, strict=True)),
            sentence="Counts are divided by 255 and standardised by ImageNet's mean and "
            "deviation (torch).",
        ),
    )
}


def parse_scaling(value: str | Path | Scaling | Mapping[str, Any]) -> Scaling:
    """Return the scaling that a name, a text of numbers, a table or a file of statistics means.

    Parameters
    ----------
    value : one of `SCALINGS`, a text or table as `robustness.configuration.scaling_text` reads it, a
        `pathlib.Path` of a .json or .npz file with mean and std, or a Scaling. A text is never a path.

    Raises
    ------
    SettingError
        It is not known, with the nearest name, or its numbers are not usable.
    """
    if isinstance(value, Scaling):
        return value
    text = plain_text(value) if isinstance(value, (Path, Mapping)) else str(value)
    if text in SCALINGS:
        return SCALINGS[text]
    found = parse_numbers(text)
    return Scaling(found.text, found.multiply, found.offset, found.order, found.sentence)


def text_of(scaling: Scaling) -> str:
    """Return the text that `parse_scaling` reads to the same numbers."""
    if SCALINGS.get(scaling.name) == scaling:
        return scaling.name
    return numbers_text(scaling.multiply, scaling.offset, scaling.order)


def candidates(channels: int, dtype: str = "float32") -> dict[str, Scaling]:
    """Return the scalings that fit a number of channels and the dtype of the model's input."""
    return {
        name: scaling
        for name, scaling in SCALINGS.items()
        if (channels == 3 or not scaling.per_channel) and scaling.fits(dtype)
    }
