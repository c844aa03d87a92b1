"""Builds the graph of a model again on another input, from copies of its layers with the same variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from robustness.backend._private import detached

Call = Callable[..., Any]


def is_graph(model: keras.Layer) -> bool:
    """Return whether `model` is a graph of layers with one input and one output."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    own = str(type(model).call.__module__).partition(".")[0] == "keras"
    return own and len(inputs or ()) == len(outputs or ()) == 1


def rebuilt(
    model: keras.Model,
    given: keras.KerasTensor,
    source: keras.KerasTensor,
    change: Callable[[keras.Operation], Call] | None = None,
) -> keras.Model:
    """Return the graph of `model` on `given`, a tensor computed from the input `source`.

    Parameters
    ----------
    model : a graph of layers with one input and one output.
    given : what takes the place of the input of `model`.
    source : the input of the result.
    change : from a copy of a layer to what is called in its place; the copy itself if not given. Nested
        graphs are built again in the same way.
    """
    return keras.Model(source, _applied(model, given, change), name=model.name)


def _applied(
    model: keras.Model, given: keras.KerasTensor, change: Callable[[keras.Operation], Call] | None
) -> Any:
    """The output of the graph of `model` for the tensor `given`, its layers copied."""
    entry = keras.Input(batch_shape=given.shape, dtype=given.dtype)

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if hasattr(layer, "layers") and is_graph(layer) and len(args) == 1:
            return _applied(layer, args[0], change)
        return (change(layer) if change else layer)(*args, **kwargs)

    copy = keras.models.clone_model(
        keras.Model(model.inputs[0], model.outputs[0], name=model.name),
        input_tensors=entry,
        clone_function=detached,
        call_function=call,
    )
    return copy(given)
