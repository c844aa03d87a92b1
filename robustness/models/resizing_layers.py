"""Finds the layer that resizes pictures at the start of a model that takes them at any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras

from robustness.models.graphs import is_graph

_POINTWISE = (keras.layers.InputLayer, keras.layers.Rescaling, keras.layers.Normalization)
_KEYS = ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias")


@dataclass(frozen=True)
class ResizingInside:
    """What a model does to pictures first.

    Attributes
    ----------
    layer : the class of the layer and its name.
    size : HEIGHTxWIDTH that it makes.
    pipeline : the same as a named pipeline; "" if there is none.
    """

    layer: str
    size: str
    pipeline: str = ""

    @property
    def sentence(self) -> str:
        """What the model does, for reports."""
        same = f"; --pipeline {self.pipeline} does the same before it" if self.pipeline else ""
        return f"The model makes images of {self.size} itself ({self.layer}){same}"

    @property
    def advice(self) -> str:
        """What to state, for a model whose pictures have no stated size."""
        if not self.pipeline:
            return (
                f"It makes images of {self.size} itself ({self.layer}), which no named pipeline does. State "
                "the size of your pictures: --input-size HEIGHTxWIDTH (in Python input_size)."
            )
        return (
            f"It makes images of {self.size} itself ({self.layer}). To attack the pictures that it is given: "
            f"--input-size {self.size} --pipeline {self.pipeline} (in Python input_size and pipeline)."
        )


def resizing_inside(model: keras.Model) -> ResizingInside | None:
    """Return the layer `Resizing` or `CenterCrop` that comes before all others but pointwise ones.

    Parameters
    ----------
    model : a graph of layers; of other models nothing is known.

    Returns
    -------
    None if there is none.
    """
    rescaled = False
    for layer in _first_layers(model):
        if isinstance(layer, keras.layers.Resizing):
            return _of_resizing(layer, rescaled)
        if isinstance(layer, keras.layers.CenterCrop):
            usual = layer.data_format == "channels_last" and layer.input.dtype == "float32"
            return ResizingInside(
                f"CenterCrop {layer.name}",
                f"{int(layer.height)}x{int(layer.width)}",
                "keras.layers.CenterCrop:bilinear" if usual else "",
            )
        if not isinstance(layer, _POINTWISE):
            return None
        rescaled = rescaled or not isinstance(layer, keras.layers.InputLayer)
    return None


def _first_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers from the input on, those of nested models in their place, up to the first branch."""
    if not is_graph(model):
        return
    for layer in model.layers:
        if is_graph(layer):
            yield from _first_layers(layer)
        else:
            yield layer
        if len(_users(model, layer)) != 1:
            return


def _users(model: keras.Model, layer: keras.Layer) -> list[str]:
    """The names of the layers of `model` that take the output of `layer`; none if it is called twice."""
    try:
        output = layer.output
        taken = {other.name: keras.tree.flatten(other.input) for other in model.layers[1:]}
    except (AttributeError, ValueError):
        return []
    return [name for name, inputs in taken.items() if any(one is output for one in inputs)]


def _of_resizing(layer: keras.layers.Resizing, rescaled: bool) -> ResizingInside:
    found = f"Resizing {layer.name}", f"{int(layer.height)}x{int(layer.width)}"
    padded_later = layer.pad_to_aspect_ratio and (rescaled or not 0 <= layer.fill_value <= 255)
    # Of whole numbers the layer gives rounded ones when it is called, and others in `predict`.
    unknown = layer.data_format != "channels_last" or layer.input.dtype != "float32"
    if unknown or padded_later:
        return ResizingInside(*found)
    keys = [f"{key}=true" for key in _KEYS if getattr(layer, key)]
    if layer.pad_to_aspect_ratio and layer.fill_value:
        keys.append(f"fill_value={layer.fill_value:g}")
    return ResizingInside(*found, ",".join([f"keras.layers.Resizing:{layer.interpolation}", *keys]))
