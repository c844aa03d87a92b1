"""Moves max pooling before monotone layers, which makes the gradients of attacks cheaper.

A monotone function maps the largest of some numbers to the largest result, before and after rounding: ReLU is
monotone, and so is batch normalisation whose factors are not negative. Applied after max pooling instead of
before it, it is applied to a quarter of the numbers, with outputs that are the same to the bit. So are
gradients, unless rounding makes two numbers of a window equal: the gradient may go to the other one then.
The judge must not use the reordered model.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from robustness.backend import _private


def pool_before_activation(model: keras.Model) -> keras.Model:
    """Return a model with the outputs of `model` that pools before monotone layers where it can.

    Parameters
    ----------
    model : a functional Keras model.

    Returns
    -------
    `model` itself if no max pooling follows a monotone layer; else a model of copies of its layers, which
    share their variables.
    """
    if not any(_gains(layer, model) for layer in model.layers):
        return model
    # For each tensor: the input of the monotone layers that computed it, and these layers.
    before: dict[int, tuple[Any, list[keras.Layer]]] = {}
    results = []

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        plain = len(args) == 1 and all(x is None or x is False for x in kwargs.values())
        source, monotone = before.get(id(args[0]), (args[0], [])) if plain else (None, [])
        if monotone and _pools(layer):
            result = layer(source)
            for postponed in monotone:
                result = postponed(result)
        else:
            result = layer(*args, **kwargs)
        if plain and is_monotone(layer):
            before[id(result)] = (source, [*monotone, layer])
        # Kept, since the id of a freed tensor can be reused.
        results.append(result)
        return result

    return keras.models.clone_model(model, clone_function=_private.detached, call_function=call)


def is_monotone(layer: keras.Operation) -> bool:
    """Return whether each output of `layer` in inference never falls when the matching input rises."""
    kind = type(layer)
    if kind is keras.layers.BatchNormalization:
        factors = ops.convert_to_numpy(layer.gamma) if layer.scale else np.ones(1)
        return layer.axis in (-1, 3) and bool(np.all(factors >= 0))
    if kind is keras.layers.Activation:
        return layer.activation is keras.activations.relu
    return kind in (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.Dropout)


def _gains(layer: keras.Layer, model: keras.Model) -> bool:
    """Whether `layer` pools the output of a monotone layer."""
    if not _pools(layer):
        return False
    calls = (_private.call_behind(inputs[0], model) for inputs in _private.inputs_of_calls(layer))
    return any(call is not None and is_monotone(call.operation) for call in calls)


def _pools(layer: keras.Operation) -> bool:
    return type(layer) is keras.layers.MaxPooling2D
