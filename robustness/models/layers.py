"""Lists the layers of a model, copies models with shared variables, and tells the dtype of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from robustness.backend._private import detached

MAX_NESTING = 8
"""How deeply containers of layers may be nested; deeper ones, and those that contain themselves, are kept."""


def leaves(model: keras.Layer) -> list[keras.Layer]:
    """Return the layers of `model` in its order; nested models are replaced by their own layers."""
    found: list[keras.Layer] = []
    for layer in getattr(model, "layers", ()):
        found += leaves(layer) if hasattr(layer, "layers") else [layer]
    return found


def entry_dtype(model: keras.Model) -> str:
    """Return the dtype of the input of `model`; float32 if the model does not state it."""
    inputs = getattr(model, "inputs", None)
    return str(inputs[0].dtype) if inputs else "float32"


def is_whole(dtype: str) -> bool:
    """Return whether `dtype` holds whole numbers only: integers of any size, and booleans."""
    return dtype.startswith(("int", "uint", "bool"))


def shared_copy(
    model: keras.Model, change: Callable[[keras.Layer, keras.Layer], None]
) -> keras.Model:
    """Return a model like `model` that shares its variables and can be changed without changing `model`.

    Parameters
    ----------
    model : a built Keras model of any kind.
    change : called once for each of `leaves(model)`, as ``change(layer, copy)`` with the layer of `model` and
        its shallow copy, before the copy is called. It may set attributes of the copy.

    Notes
    -----
    A Sequential or Functional model is rebuilt from copies of its layers. A model with a custom `call` is
    copied with the layers among its attributes, and in containers (of containers) among these; a layer
    that is reached in another way (a closure, say) stays the layer of `model`, unchanged.
    """
    return _Copies(change).of(model)


class _Copies:
    """The copies made so far: a layer that is used twice is copied once."""

    def __init__(self, change: Callable[[keras.Layer, keras.Layer], None]) -> None:
        self._change = change
        self._made: dict[int, tuple[keras.Operation, keras.Operation]] = {}

    def of(self, operation: keras.Operation) -> keras.Operation:
        if id(operation) not in self._made:
            # The original is kept, too, since the id of a freed object can be reused.
            self._made[id(operation)] = (operation, self._copied(operation))
        return self._made[id(operation)][1]

    def _copied(self, operation: keras.Operation) -> keras.Operation:
        if hasattr(operation, "layers"):
            graph = getattr(operation, "inputs", None) and _calls_its_graph(operation)
            return self._rebuilt(operation) if graph else self._with_copied_attributes(operation)
        copy = detached(operation)
        if isinstance(operation, keras.Layer):
            self._change(operation, copy)
        return copy

    def _rebuilt(self, model: keras.Model) -> keras.Model:
        if isinstance(model, keras.Sequential):
            entry = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
            rebuilt = keras.Sequential([entry, *map(self.of, model.layers)], name=model.name)
        else:
            # Clone a new model, since the clone of a compiled one would be compiled.
            rebuilt = keras.models.clone_model(
                keras.Model(model.input, model.output, name=model.name), clone_function=self.of
            )
        # New models take the global policy.
        rebuilt.dtype_policy = model.dtype_policy
        return rebuilt

    def _with_copied_attributes(self, layer: keras.Layer) -> keras.Layer:
        copy = detached(layer)
        # Not by setattr: Keras would track new attributes in lists that the original shares.
        copy.__dict__.update({name: self._within(value) for name, value in vars(layer).items()})
        return copy

    def _within(self, value: Any) -> Any:
        """`value` with its layers replaced by copies."""
        if isinstance(value, keras.Layer):
            return self.of(value)
        if isinstance(value, dict) and _holds_layers(value):
            return {key: self._within(x) for key, x in value.items()}
        if isinstance(value, list | tuple) and _holds_layers(value):
            parts = [self._within(x) for x in value]
            if isinstance(value, tuple):
                return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
            return parts
        return value


def _holds_layers(value: Any, depth: int = MAX_NESTING) -> bool:
    """Whether a value is a layer, or a container of containers with one in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) and depth:
        return any(_holds_layers(x, depth - 1) for x in value)
    return isinstance(value, keras.Layer)


def _calls_its_graph(model: keras.Model) -> bool:
    """Whether the `call` of `model` is that of Keras, which follows the graph of layers."""
    return str(type(model).call.__module__).partition(".")[0] == "keras"
