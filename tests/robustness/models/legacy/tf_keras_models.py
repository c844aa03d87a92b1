"""Builds models of many layers with tf_keras, and saves them with their answers into a folder.

``python tf_keras_models.py FOLDER``, with TF_USE_LEGACY_KERAS=1. For `test_layers.py`.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import tensorflow as tf

k: Any = importlib.import_module("tf_keras")
layers, numbers = k.layers, np.random.default_rng(0)


def transformer() -> Any:
    """Attention, layer normalisation and sums outside of layers."""
    entry = layers.Input((16, 16, 3))
    x = layers.Conv2D(8, 4, strides=4)(layers.Rescaling(1 / 255.0)(entry))
    x = layers.Reshape((16, 8))(x)
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    x = x + layers.MultiHeadAttention(2, 4)(query=x, value=x, key=x)
    y = layers.Dense(16, activation=tf.nn.gelu)(layers.LayerNormalization(axis=[2])(x))
    x = layers.GlobalAveragePooling1D()(layers.Concatenate()([x, y]))
    return k.Model(entry, layers.Dense(3, "softmax")(x))


def recurrent() -> Any:
    """Wrapped and recurrent layers."""
    entry = layers.Input((12, 10, 3))
    x = layers.TimeDistributed(layers.Dense(4, activation="relu"))(entry)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(layers.Reshape((12, 40))(x))
    return k.Model(entry, layers.Softmax()(layers.Dense(3)(layers.GRU(6)(x))))


def normalised() -> Any:
    """Normalisation by stored numbers, resizing, and layers of augmentation."""
    adapted = layers.Normalization()
    adapted.adapt(numbers.uniform(0, 9, (20, 12, 12, 4)))
    entry = layers.Input((12, 12, 3))
    x = layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[50.0, 60.0, 70.0])(entry)
    x = layers.GroupNormalization(2)(adapted(layers.Conv2D(4, 1)(x)))
    x = layers.Resizing(10, 10)(layers.UpSampling2D(2, interpolation="bilinear")(x))
    x = layers.RandomRotation(0.1)(layers.RandomFlip()(layers.CenterCrop(8, 8)(x)))
    x = layers.GaussianNoise(0.1)(layers.RandomContrast(0.1)(layers.RandomZoom(0.1)(x)))
    x = layers.UnitNormalization()(layers.Flatten()(layers.Permute((3, 1, 2))(x)))
    return k.Model(entry, layers.Dense(3, "softmax")(layers.ELU(0.5)(x)))


def shared() -> Any:
    """Layers and a model that are called twice."""
    twice = layers.Conv2D(3, 3, padding="same")
    entry = layers.Input((8, 8, 3))
    x = twice(twice(entry))
    inner = k.Sequential([layers.Conv2D(2, 3, input_shape=(8, 8, 3)), layers.GlobalMaxPooling2D()])
    y = layers.Subtract()([inner(x), inner(entry)])
    z = layers.Multiply()([y, inner(x)])
    last = layers.Concatenate()([z, layers.Maximum()([y, z])])
    return k.Model(entry, layers.Dense(3, "softmax")(last))


def inference() -> Any:
    """A nested model that is called with training=False."""
    base = k.Sequential(
        [layers.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.BatchNormalization(), layers.Dropout(0.3)]
    )  # fmt: skip
    entry = layers.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(2)(layers.SeparableConv2D(3, 3)(base(entry, training=False)))
    return k.Model(entry, layers.Dense(3, "sigmoid")(layers.Flatten()(x)))


def half() -> Any:
    """A policy of dtypes."""
    k.mixed_precision.set_global_policy("mixed_float16")
    try:
        return k.Sequential(
            [layers.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(),
             layers.Dense(3), layers.Activation("softmax", dtype="float32")]
        )  # fmt: skip
    finally:
        k.mixed_precision.set_global_policy("float32")


def deferred() -> Any:
    """A model without an input, built later."""
    model = k.Sequential(
        [layers.Conv2D(4, 3, activation="swish"), layers.BatchNormalization(synchronized=True),
         layers.Flatten(), layers.Dense(3, "softmax")]
    )  # fmt: skip
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


def activations() -> Any:
    """Activations that are layers or functions of TensorFlow."""
    return k.Sequential(
        [layers.InputLayer((8, 8, 3)), layers.Conv2D(4, 3, activation=layers.LeakyReLU(0.1)),
         layers.Conv2D(4, 3, activation=tf.nn.relu6), layers.Conv2D(4, 1, activation="gelu"),
         layers.Activation("softsign"), layers.ReLU(2.0, 0.1, 0.05), layers.Flatten(),
         layers.Dense(3, activation=tf.nn.log_softmax)]
    )  # fmt: skip


MODELS = (transformer, recurrent, normalised, shared, inference, half, deferred, activations)


def main(folder: str) -> None:
    """Save each model in both formats, with its answers to three images."""
    for make in MODELS:
        k.backend.clear_session()
        model = make()
        largest = 255 if make in (transformer, normalised) else 1
        shape = (3, *(model.input_shape or (None, 8, 8, 3))[1:])
        images = numbers.uniform(0, largest, shape).astype("float32")
        answers = np.asarray(model(images, training=False), "float32")
        np.savez(f"{folder}/{make.__name__}.npz", images=images, answers=answers)
        for suffix in ("h5", "keras"):
            model.save(f"{folder}/{make.__name__}.{suffix}")


if __name__ == "__main__":
    main(sys.argv[1])
