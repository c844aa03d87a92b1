"""The layers of a model that compute, and the type of number that it takes."""

from __future__ import annotations

from typing import Any


def leaves(model: Any) -> list[Any]:
    """The layers of a Keras model in its order, those of the models in it among them."""
    found = []
    for layer in getattr(model, "layers", ()):
        # A model within a model only hands on what its layers give it.
        found += leaves(layer) if hasattr(layer, "layers") else [layer]
    return found


def entry_dtype(model: Any) -> str:
    """The type of number that the input of a Keras model has; float32 where the model does not say."""
    inputs = getattr(model, "inputs", None)
    return str(inputs[0].dtype) if inputs else "float32"


def is_whole(dtype: str) -> bool:
    """Whether numbers of this type are whole: integers of any size, and truth values."""
    return dtype.startswith(("int", "uint", "bool"))
