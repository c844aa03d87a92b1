"""The CNN of the Kaggle notebook `uysimty/keras-cnn-dog-or-cat-classification`, layer by layer."""

from __future__ import annotations

import keras

from robustness.model_zoo.dogs_vs_cats import CLASS_NAMES, INPUT_SHAPE


def build(side: int = INPUT_SHAPE[0], *, dropout: float = 1.0) -> keras.Sequential:
    """Build the notebook's network: inputs are pixels / 255, outputs are softmax probabilities (cat, dog).

    Three blocks of 3x3 valid convolution, relu, batch normalisation, 2x2 max pooling and dropout of .25 (32,
    64, 128 filters), then 512 units with batch normalisation and dropout of .5, then two softmax units:
    12,942,786 parameters at 128 pixels a side.

    Parameters
    ----------
    side
        Height and width of the input in pixels: 128 in the notebook; the training starts smaller.
    dropout
        A factor of every dropout rate; 0 switches dropout off without changing the layers.
    """
    layers: list[keras.layers.Layer] = [keras.layers.Input((side, side, 3))]
    for filters in (32, 64, 128):
        layers += [
            keras.layers.Conv2D(filters, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(2),
            keras.layers.Dropout(0.25 * dropout),
        ]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5 * dropout),
        keras.layers.Dense(len(CLASS_NAMES), activation="softmax", dtype="float32"),
    ]
    return keras.Sequential(layers, name="dogs_vs_cats")
