"""Runs models with channels first where the device has no such kernels: each layer between two Permutes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from robustness.errors import ModelError
from robustness.models.graphs import is_graph, rebuilt

CONVERTED = (
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
)
"""The layers of Keras whose kernels a processor may lack with channels first."""


def running_on_this_device(
    model: keras.Model, size: tuple[int, int, int]
) -> tuple[keras.Model, str]:
    """Return `model`, or the same with channels last where this device cannot run it, and a sentence.

    Parameters
    ----------
    model : takes (n, channels, height, width).
    size : (height, width, channels) of an image.

    Raises
    ------
    ModelError
        The device cannot run the model, nor is it a graph of layers that can be converted.
    """
    height, width, channels = size
    try:
        model(np.zeros((1, channels, height, width), "float32"), training=False)
    # Which exception a missing kernel raises depends on the framework.
    except Exception as error:
        if not is_graph(model):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"The model takes channels first, which this device cannot run ({reason[:200]}), and its "
                "graph of layers is not known, so that it cannot be converted. Audit it on a GPU, or build "
                "it with channels last."
            ) from error
        return with_channels_last(
            model
        ), "its convolutions run with channels last, with the same weights"
    return model, ""


def with_channels_last(model: keras.Model) -> keras.Model:
    """Return a model with the input, the outputs and the variables of `model` whose layers run channels last.

    Each convolution and pooling is put between two Permutes: weights have the same layout in both orders.
    """
    source = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
    return rebuilt(model, source, source, _moved)


def _moved(layer: keras.Operation) -> Any:
    """A function like `layer` (already a copy) that runs with channels last."""
    if type(layer) not in CONVERTED or layer.data_format != "channels_first":
        return layer
    layer.data_format = "channels_last"
    if layer.input_spec is not None and layer.input_spec.axes:
        (channels,) = layer.input_spec.axes.values()
        layer.input_spec = layers.InputSpec(ndim=4, axes={-1: channels})

    def call(inputs: keras.KerasTensor) -> keras.KerasTensor:
        last = layers.Permute((2, 3, 1))(inputs)
        return layers.Permute((3, 1, 2))(layer(last))

    return call
