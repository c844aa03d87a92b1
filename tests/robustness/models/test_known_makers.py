"""A tool that feeds its models in one way decides what labels leave open, and nothing else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from robustness.errors import ModelError
from robustness.models.classifier import Classifier
from robustness.models.known_makers import TEACHABLE

SHAPE = (2, 2, 3)


def made(names: tuple[str, ...]) -> keras.Model:
    """Class 1 where the mean is above 0 under -1..1, with layers of these names."""
    pool, first, second = names
    features = keras.Sequential([keras.Input(SHAPE), layers.GlobalAveragePooling2D(name=pool)])
    head = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, name=first),
            layers.Dense(2, use_bias=False, activation="softmax", name=second),
        ]
    )
    head.layers[0].set_weights([np.eye(3), np.zeros(3)])
    head.layers[1].set_weights([np.array([[-1.0, 1.0]] * 3)])
    return keras.Sequential([keras.Input(SHAPE), features, head])


def greys(count: int) -> tuple[np.ndarray, np.ndarray]:
    levels = np.linspace(20, 235, count)
    images = np.broadcast_to(levels[:, None, None, None], (count, *SHAPE)).astype("uint8")
    return images, (levels > 127.5).astype(int)


def test_a_teachable_machine_takes_minus_one_to_one():
    for labels in (greys(4)[1], None):
        found = Classifier.decide(made(TEACHABLE), greys(4)[0], labels)
        assert found.scaling.name == "-1..1"
        assert "Teachable Machine" in found.scaling_reason


@pytest.mark.parametrize("names", [("pool", *TEACHABLE[1:]), ("a", "b", "c")])
def test_other_models_stay_open(names):
    with pytest.raises(ModelError, match="Without labelled images"):
        Classifier.decide(made(names), greys(4)[0], None)


def test_labels_that_speak_against_the_maker_leave_it_open():
    """Under 0..1 the mean of an image is above 0.5 for class 1; under -1..1 that is wrong for many."""
    model = made(TEACHABLE)
    model.layers[-1].layers[0].set_weights([np.eye(3), np.full(3, -0.5)])
    with pytest.raises(ModelError, match=r"it could be 0\.\.1 or caffe"):
        Classifier.decide(model, *greys(60))
