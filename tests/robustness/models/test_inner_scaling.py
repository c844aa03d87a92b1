"""A model that scales its inputs itself is recognised by what it computes, however it does so."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from robustness.models.classifier import Classifier
from robustness.models.inner_scaling import inner_scaling

SHAPE = (16, 16, 3)
ZEROS = np.zeros((1, *SHAPE), "float32")


def sequential(*first) -> keras.Model:
    return keras.Sequential(
        [keras.Input(SHAPE), *first, layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)]
    )


def graph(function) -> keras.Model:
    entry = keras.Input(SHAPE)
    return keras.Model(entry, layers.Dense(2)(layers.Flatten()(function(entry))))


class Subclass(keras.Model):
    def __init__(self, function):
        super().__init__()
        self.function, self.conv, self.dense = function, layers.Conv2D(3, 3), layers.Dense(2)
        self(ZEROS)

    def call(self, x, training=False):
        return self.dense(ops.mean(self.conv(self.function(x)), axis=(1, 2)))


def trained_norm(mean: float, variance: float) -> keras.Model:
    norm = layers.BatchNormalization()
    model = sequential(norm)
    norm.moving_mean.assign([mean] * 3)
    norm.moving_variance.assign([variance] * 3)
    return model


def inside(x):
    part = keras.Sequential(
        [keras.Input(SHAPE), layers.Lambda(lambda z: z / 255.0), layers.Conv2D(2, 3)]
    )
    return part(x)


COUNTS = {
    "a division": lambda: graph(lambda x: x / 255.0),
    "operations": lambda: graph(lambda x: ops.subtract(ops.divide(x, 127.5), 1.0)),
    "a Lambda": lambda: sequential(layers.Lambda(lambda x: x / 255.0)),
    "a Lambda behind others": lambda: sequential(layers.RandomFlip(), layers.Lambda(lambda x: x / 255.0)),
    "a nested model": lambda: graph(inside),
    "a subclass": lambda: Subclass(lambda x: x / 255.0),
    "padding before": lambda: graph(lambda x: layers.ZeroPadding2D(2)(x) / 255.0),
    "flattened before": lambda: graph(lambda x: layers.Flatten()(x) / 255.0),
    "caffe": lambda: graph(keras.applications.vgg16.preprocess_input),
    "tf": lambda: graph(keras.applications.mobilenet_v2.preprocess_input),
    "torch": lambda: graph(keras.applications.densenet.preprocess_input),
    "Rescaling, then Normalization": lambda: sequential(
        layers.Rescaling(1.0), layers.Normalization(mean=[120.0] * 3, variance=[4000.0] * 3)
    ),
    "Normalization in a nested model": lambda: graph(
        keras.Sequential(
            [keras.Input(SHAPE), layers.Normalization(mean=[120.0] * 3, variance=[4000.0] * 3)]
        )
    ),
    "statistics of BatchNormalization": lambda: trained_norm(120.0, 4000.0),
}  # fmt: skip
OPEN = {
    "nothing": sequential,
    "a Rescaling of 0..1": lambda: sequential(layers.Rescaling(2.0, -1.0)),
    "operations on 0..1": lambda: graph(lambda x: x * 2.0 - 1.0),
    "Normalization of 0..1": lambda: sequential(layers.Normalization(mean=[0.5] * 3, variance=[0.05] * 3)),
    "a fresh BatchNormalization": lambda: trained_norm(0.0, 1.0),
    "a Rescaling behind weights": lambda: sequential(layers.Conv2D(3, 1), layers.Rescaling(1 / 255)),
    "each image standardised": lambda: graph(lambda x: x - ops.mean(x, axis=(1, 2, 3), keepdims=True)),
    "a subclass without": lambda: Subclass(lambda x: x),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_recognised(name):
    model = COUNTS[name]()
    before = model(ZEROS + 9.0)
    found = inner_scaling(model)
    assert found.counts, found.sentence
    assert found.sentence.endswith(".")
    assert Classifier(model).scaling.name == "0..255"
    assert all("call" not in vars(one) for one in model.layers), "the model is left as it was"
    assert np.array_equal(model(ZEROS + 9.0), before)


@pytest.mark.parametrize("name", OPEN)
def test_nothing_else_is_guessed(name):
    assert not inner_scaling(OPEN[name]()).counts


def test_what_was_found_is_told():
    assert "as -1 to 509, which is for inputs of another range" in (
        inner_scaling(sequential(layers.Rescaling(2.0, -1.0))).sentence
    )
    reason = Classifier(graph(lambda x: x / 255.0)).scaling_reason
    assert "arrive at its first layer with weights" in reason and "as 0 to 1" in reason


def test_a_model_that_cannot_run_eagerly_is_left_to_the_labels():
    def fails(x):
        if hasattr(x, "numpy"):
            raise RuntimeError("not now")
        return x

    model = sequential(layers.Lambda(fails))
    assert inner_scaling(model).sentence == ""
