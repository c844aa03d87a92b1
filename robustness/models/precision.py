"""The numbers that an attack looks at a model with: float32, or bfloat16 where that takes less time.

An attack only needs a direction; what it finds is judged in float32 all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from robustness.configuration.choices import PRECISIONS
from robustness.errors import SettingError
from robustness.models.layers import leaves


def parse_precision(name: str) -> str:
    """`name`, if it is one of `PRECISIONS`; else SettingError."""
    if name not in PRECISIONS:
        raise SettingError(
            f"Precision {name!r} is not known; expected one of {', '.join(PRECISIONS)}."
        )
    return name


@contextlib.contextmanager
def computing_in(model: Any, precision: str) -> Iterator[None]:
    """Meanwhile the inner layers of `model` compute in `precision`; its weights stay as they are.

    Up to the first layer with weights and from the last one on nothing changes: the eight bits of a
    bfloat16 cannot tell a picture from one a count away, nor two classes whose logits are close. Layers
    that were given another precision than float32 keep it.
    """
    changed = [] if precision == "float32" else inner_layers(model)
    try:
        for layer in changed:
            layer.dtype_policy = f"mixed_{precision}"
        yield
    finally:
        for layer in changed:
            layer.dtype_policy = "float32"


def inner_layers(model: Any) -> list[Any]:
    """The float32 layers between the first layer with weights and the last one, in the order of the model."""
    layers = leaves(model)
    weighty = [n for n, layer in enumerate(layers) if layer.weights]
    if not weighty:
        return []
    some = layers[weighty[0] + 1 : weighty[-1]]
    return [layer for layer in some if layer.dtype_policy.name == "float32"]
