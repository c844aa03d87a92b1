"""Finds what a conversion leaves out: what only training uses, and known lambdas of `keras.applications`."""

from __future__ import annotations

import base64
from typing import Any

from robustness.models.legacy.entries import Config

TRAINING_ENDS = ("_initializer", "_regularizer", "_constraint")
"""How the settings end that only training uses."""


def scaled_sum(entry: Config) -> Config | None:
    """Return the layer for a Lambda by which InceptionResNetV2 of Keras 2 adds branches; None for others.

    The bytecode is not read. It states its source file and the names of its arguments, and a scale is stored
    beside it; what is computed is the sum that `keras.applications` defines, whatever the bytecode says.
    """
    config = entry.get("config")
    if not isinstance(config, dict):
        return None
    function, extra = config.get("function"), config.get("arguments")
    if isinstance(function, dict):
        inner = function.get("config")
        function = [inner.get("code")] if isinstance(inner, dict) else None
    code = function[0] if isinstance(function, list) and function else None
    if not isinstance(code, str) or not isinstance(extra, dict) or list(extra) != ["scale"]:
        return None
    try:
        text = base64.b64decode(code)
    except ValueError:
        return None
    words = (b"inception_resnet_v2.py", b"inputs", b"scale")
    scale = extra["scale"]
    if type(scale) not in (int, float) or not all(word in text for word in words):
        return None
    kept = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
    return {**entry, "class_name": "CustomScaleLayer", "config": {**kept, "scale": scale}}


def judged_parts(config: Any) -> Any:
    """Return a configuration without what a conversion leaves out."""
    if isinstance(config, dict):
        if config.get("class_name") == "Lambda":
            config = scaled_sum(config) or config
        return {
            key: judged_parts(value)
            for key, value in config.items()
            if not (isinstance(key, str) and key.endswith(TRAINING_ENDS))
        }
    return [judged_parts(one) for one in config] if isinstance(config, list) else config
