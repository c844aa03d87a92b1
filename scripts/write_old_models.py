"""Writes small models with an old Keras, and their answers, for the tests of `robustness.models.legacy`.

Run it once in an environment with each version (Python 3.7 or newer; Keras 1.2 to 2.3 under TensorFlow 1)::

    python scripts/write_old_models.py keras    FOLDER
    python scripts/write_old_models.py tf       FOLDER
    python scripts/write_old_models.py tf_keras FOLDER

The weights are random, so that no layer can be left out or confused unnoticed.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES, IMAGES = 12, 3, 3


def sequential(k: Any) -> Any:
    """A Sequential model whose layers differ between the versions of Keras."""
    layers = k.layers
    return k.models.Sequential(
        [
            layers.Conv2D(4, 3, padding="same", activation="relu", input_shape=(SIDE, SIDE, 3)),
            layers.MaxPooling2D((2, 2)),
            layers.BatchNormalization(),
            layers.SeparableConv2D(3, 3),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.5),
            layers.ZeroPadding2D(((1, 0), (2, 1))),
            layers.Conv2DTranspose(2, 3, strides=2),
            layers.PReLU(shared_axes=[1, 2]),
            layers.ThresholdedReLU(0.1),
            layers.Flatten(),
            layers.Dense(5, activation="hard_sigmoid"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def graph(k: Any) -> Any:
    """A model with branches."""
    layers = k.layers
    entry = layers.Input((SIDE, SIDE, 3))
    first = layers.Conv2D(
        4, 3, strides=2, use_bias=False, kernel_regularizer=k.regularizers.l2(0.01)
    )(entry)
    first = layers.BatchNormalization(axis=3)(first)
    second = layers.Conv2D(4, 3, padding="same", activation="elu")(first)
    joined = layers.concatenate([layers.add([first, second]), first])
    if hasattr(layers, "ReLU"):
        joined = layers.ReLU(6.0)(joined)
    if hasattr(layers, "DepthwiseConv2D"):
        joined = layers.DepthwiseConv2D(3, depth_multiplier=2)(joined)
    pooled = layers.GlobalAveragePooling2D()(joined)
    return k.models.Model(entry, layers.Dense(CLASSES, activation="softmax")(pooled))


def nested(k: Any) -> Any:
    """A model within a model, part of it frozen: its arrays are stored in another order then."""
    layers = k.layers
    entry = layers.Input((SIDE, SIDE, 3))
    inner = layers.Conv2D(4, 3, name="c1")(entry)
    inner = layers.Activation("relu")(layers.BatchNormalization(name="b1")(inner))
    inner = layers.BatchNormalization(name="b2")(layers.Conv2D(4, 3, name="c2")(inner))
    base = k.models.Model(entry, layers.GlobalAveragePooling2D()(inner))
    base.get_layer("b1").trainable = base.get_layer("c1").trainable = False
    outer = layers.Input((SIDE, SIDE, 3))
    head = k.models.Sequential(
        [
            layers.Dense(5, activation="tanh", input_shape=(4,)),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    return k.models.Model(outer, head(base(outer)))


def operations(k: Any) -> Any:
    """A model that calculates with TensorFlow."""
    import tensorflow as tf

    layers = k.layers
    entry = layers.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(4, 3)(entry / 127.5 - 1.0)
    x = tf.nn.relu(1.0 - x * 2.0)
    pooled = layers.GlobalAveragePooling2D()(x + x * x)
    return k.models.Model(entry, layers.Dense(CLASSES, activation=tf.nn.softmax)(pooled))


def sequential_of_keras1(k: Any) -> Any:
    """A Sequential model in the words of Keras 1."""
    layers, tf = k.layers, {"dim_ordering": "tf"}
    return k.models.Sequential(
        [
            layers.Convolution2D(
                4, 3, 3, border_mode="same", activation="relu", input_shape=(SIDE, SIDE, 3), **tf
            ),
            layers.MaxPooling2D((2, 2), **tf),
            layers.BatchNormalization(axis=-1),
            layers.AtrousConvolution2D(3, 2, 2, atrous_rate=(2, 2), **tf),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.5),
            layers.ZeroPadding2D((1, 2), **tf),
            layers.Flatten(),
            layers.Dense(5, activation="hard_sigmoid"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def graph_of_keras1(k: Any) -> Any:
    """A model with branches in the words of Keras 1."""
    layers, tf = k.layers, {"dim_ordering": "tf"}
    entry = layers.Input((SIDE, SIDE, 3))
    first = layers.Convolution2D(4, 3, 3, subsample=(2, 2), bias=False, **tf)(entry)
    first = layers.BatchNormalization(axis=3)(first)
    second = layers.Convolution2D(
        4, 3, 3, border_mode="same", init="he_normal", W_regularizer=k.regularizers.l2(0.01), **tf
    )(first)
    joined = layers.merge(
        [layers.merge([first, second], mode="sum"), first], mode="concat", concat_axis=3
    )
    last = layers.SeparableConvolution2D(5, 3, 3, depth_multiplier=2, **tf)(joined)
    pooled = layers.GlobalAveragePooling2D(**tf)(layers.AveragePooling2D((2, 2), **tf)(last))
    return k.models.Model(input=entry, output=layers.Dense(CLASSES, activation="softmax")(pooled))


def main(which: str, folder: Path) -> None:
    """Write every model that this version of Keras can build and save."""
    names = {"keras": "keras", "tf": "tensorflow.keras", "tf_keras": "tf_keras"}
    k = importlib.import_module(names[which])
    version = getattr(k, "__version__", None) or importlib.import_module("keras").__version__
    makers = {"sequential": sequential, "graph": graph, "nested": nested}
    if which != "keras":
        makers["operations"] = operations
    if version.startswith("1."):
        makers = {"sequential": sequential_of_keras1, "graph": graph_of_keras1}
    numbers = np.random.RandomState(0)
    # Keras 2.5 to 2.11 write HDF5 files of that name.
    both = int(version.split(".")[1]) >= 5
    suffixes = [".h5", ".keras"] if both else [".h5"]
    for name, make in makers.items():
        for suffix in suffixes:
            model = make(k)
            arrays = [
                numbers.rand(*w.shape) * 0.5 + 0.5
                if w.ndim == 1
                else numbers.randn(*w.shape) * 0.15
                for w in model.get_weights()
            ]
            model.set_weights([one.astype("float32") for one in arrays])
            images = (numbers.rand(IMAGES, SIDE, SIDE, 3) * 255).astype("uint8")
            path = folder / f"keras_{version}_{name}{suffix}"
            if path.exists():
                path.unlink()
            model.save(str(path))
            answers = model.predict(images.astype("float32"))
            np.savez_compressed(str(path) + ".npz", images=images, answers=answers)
            print(path, answers.std())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
