"""Builds linear classifiers, whose distances to the decision boundary are known in closed form."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from robustness.models.classifier import Classifier


def linear_classifier(
    weights: np.ndarray, bias: np.ndarray, shape: tuple[int, int, int], **settings: Any
) -> Classifier:
    """Build a classifier with the logits ``x @ weights + bias`` of the flattened image x in counts.

    The model computes in float32, whatever the global dtype policy of the process is.

    Parameters
    ----------
    weights : (height * width * channels, classes).
    bias : (classes,).
    shape : (height, width, channels) of the images.
    settings : as for `Classifier` (name, class_names).
    """
    layers = keras.layers
    # Zeros at first: for random weights Keras would draw a seed from Python's global `random`.
    dense = layers.Dense(weights.shape[1], kernel_initializer="zeros", dtype="float32")
    model = keras.Sequential([layers.Input(shape), layers.Flatten(dtype="float32"), dense])
    # New models take the global policy, and cast what they are given to it.
    model.dtype_policy = "float32"
    dense.set_weights([np.asarray(weights, "float32"), np.asarray(bias, "float32")])
    return Classifier(model, scaling="0..255", head="logits", **settings)
