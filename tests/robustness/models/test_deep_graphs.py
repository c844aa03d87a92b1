"""Tests of models of more layers in a row than Python's limit of recursion."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from keras import layers

from robustness.models import loading
from robustness.models.classifier import Classifier
from robustness.models.deep_graphs import deep_graphs

DEPTH = 1_100


@pytest.mark.slow
def test_a_model_deeper_than_the_limit_of_recursion_is_loaded(tmp_path):
    entry = keras.Input((2, 2, 1))
    hidden = layers.Flatten()(entry)
    for _ in range(DEPTH):
        hidden = layers.Identity()(hidden)
    with deep_graphs():
        model = keras.Model(entry, layers.Dense(2, activation="softmax")(hidden))
    model.save(tmp_path / "deep.keras")
    with pytest.raises(RecursionError):
        keras.Model(entry, hidden)
    before = sys.getrecursionlimit()
    classifier = Classifier(loading.load_model(tmp_path / "deep.keras"), scaling="0..1")
    assert sys.getrecursionlimit() == before
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 1)).astype("uint8")
    kernel, bias = model.layers[-1].get_weights()
    logits = images.reshape(3, 4).astype("float32") / 255 @ kernel + bias
    np.testing.assert_allclose(classifier.logits_of(images), logits, atol=1e-5)


def test_the_limit_is_restored_and_never_lowered():
    before = sys.getrecursionlimit()
    with pytest.raises(ZeroDivisionError), deep_graphs():
        assert sys.getrecursionlimit() >= 10_000
        raise ZeroDivisionError
    assert sys.getrecursionlimit() == before
    sys.setrecursionlimit(20_000)
    try:
        with deep_graphs():
            assert sys.getrecursionlimit() == 20_000
    finally:
        sys.setrecursionlimit(before)
