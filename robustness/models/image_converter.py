"""Reads how Keras Hub's preprocessor beside a model scales images.

A preset of Keras Hub is a folder with `preprocessor.json`, whose image converter resizes pictures and
computes ``image * scale + offset`` of counts. Nothing of the file is imported or run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustness.configuration.scaling_text import text_of as numbers_text
from robustness.files.bounded import parse_json, read_bytes_bounded
from robustness.models.scalings import SCALINGS, Scaling, parse_scaling

FILES = ("preprocessor.json", "image_converter.json")
MAX_BYTES = 1 << 20
_OTHER = ("norm_mean", "norm_std", "mode")
"""Settings of converters that compute something else."""


def converter_scaling(file: str | Path | None, channels: int) -> tuple[Scaling, str] | None:
    """Return the scaling that a preprocessor beside a model states, and where it is; None if none does.

    Parameters
    ----------
    file : the file of the model.
    channels : of the model's images.
    """
    for name in FILES if file is not None else ():
        path = Path(str(file)).parent / name
        try:
            content = parse_json(read_bytes_bounded(path, MAX_BYTES), max_values=10_000)
        except (OSError, ValueError):
            continue
        settings = _converter(content)
        numbers = None if settings is None else _numbers(settings)
        if numbers is None or max(map(len, numbers)) not in (1, channels):
            continue
        return _named(*numbers), f"The image converter in {name} beside the model states it."
    return None


def _converter(content: Any) -> Mapping[str, Any] | None:
    """The settings of the image converter in a serialized preprocessor, or of one by itself."""
    if not isinstance(content, Mapping) or not isinstance(content.get("config"), Mapping):
        return None
    if str(content.get("class_name")).endswith("ImageConverter"):
        return content["config"]
    return _converter(content["config"].get("image_converter"))


def _numbers(settings: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Scale and offset of each channel, or of all; None for what is not read."""
    if any(settings.get(name) is not None for name in _OTHER):
        return None
    found = []
    for name, default in (("scale", 1.0), ("offset", 0.0)):
        value = settings.get(name)
        values = [default if value is None else value] if not isinstance(value, list) else value
        plain = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
        if len(values) not in (1, 3) or not plain or not all(map(math.isfinite, values)):
            return None
        found.append(tuple(map(float, values)))
    scale, offset = found
    return None if 0.0 in scale else (scale, offset)


def _named(scale: tuple[float, ...], offset: tuple[float, ...]) -> Scaling:
    """The scaling of these numbers; a known one where they are the same but for rounding."""
    wide = tuple(_wide(one) for one in (scale, offset))
    for known in SCALINGS.values():
        if known.order == "RGB" and all(
            math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6)
            for mine, theirs in zip(wide, (known.multiply, known.offset), strict=True)
            for a, b in zip(mine, _wide(theirs), strict=True)
        ):
            return known
    return parse_scaling(numbers_text(scale, offset, "RGB"))


def _wide(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return numbers * 3 if len(numbers) == 1 else numbers
