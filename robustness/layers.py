"""The layers of a model that compute."""

from __future__ import annotations

from typing import Any


def leaves(model: Any) -> list[Any]:
    """The layers of a Keras model in its order, those of the models in it among them."""
    found = []
    for layer in getattr(model, "layers", ()):
        # A model within a model only hands on what its layers give it.
        found += leaves(layer) if hasattr(layer, "layers") else [layer]
    return found
