"""Sets the precision in which attacks compute gradients: float32, or bfloat16 where that takes less time.

An attack needs a direction only. Verdicts must use the model itself, in float32.
"""

from __future__ import annotations

import keras

from robustness.configuration.choices import PRECISIONS
from robustness.errors import SettingError
from robustness.models.layers import leaves, shared_copy


def parse_precision(name: str) -> str:
    """Return `name` if it is one of `PRECISIONS`.

    Raises
    ------
    SettingError
        Any other name.
    """
    if name not in PRECISIONS:
        raise SettingError(
            f"Precision {name!r} is not known; expected one of {', '.join(PRECISIONS)}."
        )
    return name


def computing_in(model: keras.Model, precision: str) -> keras.Model:
    """Return a model with the variables of `model` whose inner layers compute in `precision`.

    `model` itself is not changed, so that it can be used at the same time.

    Parameters
    ----------
    model : a built Keras model.
    precision : one of `PRECISIONS`.

    Notes
    -----
    The layers up to the first one with weights, and those from the last one with weights on, stay in float32:
    a bfloat16 has eight significant bits, which cannot distinguish two pictures that differ by one count, nor
    two classes with close logits. Layers that have another precision than float32 keep it.
    """
    inner = [] if precision == "float32" else inner_layers(model)
    if not inner:
        return model
    changed = {id(layer) for layer in inner}

    def change(layer: keras.Layer, copy: keras.Layer) -> None:
        if id(layer) in changed:
            copy.dtype_policy = f"mixed_{precision}"

    return shared_copy(model, change)


def inner_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the float32 layers between the first and the last layer with weights, in the model's order."""
    layers = leaves(model)
    weighty = [n for n, layer in enumerate(layers) if layer.weights]
    if not weighty:
        return []
    between = layers[weighty[0] + 1 : weighty[-1]]
    return [layer for layer in between if layer.dtype_policy.name == "float32"]
