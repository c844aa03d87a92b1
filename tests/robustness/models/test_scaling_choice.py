"""Which scaling is chosen, how surely, and what is said where none is."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

from robustness.auditing.inputs import resolve
from robustness.errors import ModelError
from robustness.images import from_arrays, select
from robustness.models.classifier import Classifier
from robustness.models.scaling_choice import Score, choose_scaling
from robustness.models.scalings import SCALINGS

SHAPE = (2, 2, 3)


def noisy(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grey images; the brighter half is class 1, but for noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    levels = rng.normal(np.where(labels == 1, 95, 45), 30).clip(0, 255)
    return np.broadcast_to(levels[:, None, None, None], (count, *SHAPE)).astype("uint8"), labels


def logistic(slope: float, threshold: float) -> keras.Model:
    """p(class 1) = sigmoid(slope * (mean - threshold)) of the inputs as they come."""
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid")]
    )
    model.layers[-1].set_weights([np.full((3, 1), slope / 3), np.array([-slope * threshold])])
    return model


def parts(count: int):
    yield from (noisy(60 * 2**n, seed=n + 1) for n in range(count))


def test_more_images_decide_what_few_do_not():
    # 0.275 is 70 counts under 0..1, and 162 under -1..1: most images are called dark there.
    model = logistic(8.0, 0.275)
    images, labels = noisy(12, seed=5)
    with pytest.raises(ModelError, match="12 labelled images"):
        Classifier.decide(model, images, labels)
    chosen = Classifier.decide(model, images, labels, more=parts(4))
    assert chosen.scaling.name == "0..1"
    count = int(re.search(r"on (\d+) labelled", chosen.scaling_reason)[1])  # type: ignore[index]
    assert count > 12
    assert re.search(
        r"0\.\.1 against .*: p = .* by accuracy, .* by log-likelihood", chosen.scaling_reason
    )


def test_images_beyond_the_limit_decide_too():
    source = from_arrays(*noisy(300, seed=5))
    few = select(source.entries(), limit=12)
    model = logistic(8.0, 0.275)
    found = resolve(model, source, lambda one: select(one.entries(), limit=12))
    assert found.classifier.scaling.name == "0..1"
    assert [entry.key for entry in found.entries] == [entry.key for entry in few]
    pixels = np.array([source.read(entry, SHAPE).pixels for entry in few])
    alone = from_arrays(pixels, np.array([entry.label for entry in few]))
    with pytest.raises(ModelError, match="12 labelled images"):
        resolve(model, alone, lambda one: select(one.entries()))


def test_images_that_are_not_needed_are_not_read():
    def unread():
        raise AssertionError("read")
        yield

    images, labels = noisy(60)
    chosen = Classifier.decide(logistic(8.0, 0.275), images, labels, more=unread())
    assert chosen.scaling.name == "0..1"


def test_confidence_decides_between_equal_accuracies():
    """Two candidates with the same classes; one is sure where it is right, the other is not."""
    images, labels = noisy(240)
    rng = np.random.default_rng(1)
    right = rng.random(240) < 0.8
    answer = np.where(right, labels, 1 - labels)

    def predict(scaling, some):
        if scaling.name == "0..1":  # doubtful where wrong
            top = np.where(right, 0.97, 0.55)[: len(some)]
        elif scaling.name == "-1..1":  # as sure where wrong
            top = np.full(len(some), 0.8)
        else:
            top = np.full(len(some), 0.5)
            return np.stack([top, 1 - top], axis=1)
        rows = np.stack([1 - top, 1 - top], axis=1)
        rows[np.arange(len(some)), answer[: len(some)]] = top
        return rows

    choice = choose_scaling(predict, images, labels, SCALINGS, 2)
    assert choice.accuracies["0..1"] == choice.accuracies["-1..1"]
    assert choice.scaling is not None and choice.scaling.name == "0..1"


@given(st.floats(0.5, 3.0), st.integers(0, 100))
def test_the_likelihood_does_not_depend_on_how_bold_a_model_is(boldness, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 200)
    logits = rng.normal(0, 1, (200, 3)) + 2.0 * np.eye(3)[labels]

    def found(z):
        p = np.exp(z - z.max(axis=1, keepdims=True))
        return Score(p / p.sum(axis=1, keepdims=True), labels).likelihoods().mean()

    assert abs(found(logits) - found(boldness * logits)) < 0.01


def test_to_labelled_images_nobody_says_to_label_images():
    images, _ = noisy(60)
    with pytest.raises(ModelError) as caught:
        Classifier.decide(
            logistic(8.0, 0.275), images, np.arange(60) // 30,
            command="robustness audit -m 'my model.h5' -i photos",
        )  # fmt: skip
    said = str(caught.value)
    assert "labelled images to decide" not in said and "Without labelled" not in said
    assert "60 labelled images, with 95 % intervals" in said and "chance (50.0 %)" in said
    commands = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    assert len(commands) == 2
    assert all(
        re.fullmatch(r"robustness audit -m 'my model.h5' -i photos --scaling=\S+", c)
        for c in commands
    )


def test_images_of_one_class_decide_nothing():
    images, labels = noisy(60)
    ones = images[labels == 1]
    with pytest.raises(ModelError, match="all of them are of bright, so a model that says bright"):
        Classifier.decide(
            logistic(8.0, 0.275), ones, np.ones(len(ones), int), class_names=["dark", "bright"]
        )


def standardising() -> keras.Model:
    def standardise(x):
        axes = (1, 2, 3)
        return (x - ops.mean(x, axes, keepdims=True)) / (ops.std(x, axes, keepdims=True) + 1e-7)

    dense = layers.Dense(2, activation="softmax")
    return keras.Sequential(
        [keras.Input(SHAPE), layers.Lambda(standardise), layers.Flatten(), dense]
    )


def test_a_model_that_does_not_depend_on_the_range_is_said_not_to():
    images = np.random.default_rng(0).integers(0, 256, (40, *SHAPE)).astype("uint8")
    model = standardising()
    without = Classifier.decide(model, images, None)
    assert without.scaling.name == "0..255"
    assert "0..255, 0..1, -1..1 give the same predictions on 40 images" in without.scaling_reason
    labels = without.probabilities(images).argmax(axis=1)
    chosen = Classifier.decide(model, images, labels)
    assert chosen.scaling.name == "0..255"
    assert "0..255 and 0..1 and -1..1 give the same predictions" in chosen.scaling_reason


def test_saturated_predictions_are_not_the_same_predictions():
    """Equal but for the small probabilities: a coin would choose, and gradients differ."""
    labels = np.arange(60) % 2
    sure = {"0..1": 1e-7, "-1..1": 1e-9}

    def predict(scaling, some):
        least = sure.get(scaling.name, 0.5)
        rows = np.full((len(some), 2), least)
        rows[np.arange(len(some)), labels[: len(some)]] = 1 - least
        return rows

    choice = choose_scaling(predict, np.zeros((60, *SHAPE), np.uint8), labels, SCALINGS, 2)
    assert choice.scaling is None or "same predictions" not in choice.sentence


def test_a_wrong_order_of_the_classes_is_told_with_the_scaling_and_the_option():
    """Under a wrong order a wrong scaling may be the most accurate one."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (rng.integers(0, 10, (90, *SHAPE)) + 40 + 80 * labels[:, None, None, None]).astype(
        "uint8"
    )
    centres = np.array([45.0, 125.0, 205.0]) / 255
    model = keras.Sequential([keras.Input(SHAPE), layers.GlobalAveragePooling2D(), layers.Dense(3)])
    order = [2, 0, 1]  # the output k is the class order[k]
    model.layers[-1].set_weights(
        [np.tile(200 * centres[order], (3, 1)) / 3, -100 * centres[order] ** 2]
    )
    names = ["ant", "bee", "cow"]
    with pytest.raises(ModelError, match="order of the classes seems to be wrong") as caught:
        Classifier.decide(model, images, labels, class_names=names)
    assert "under 0..1, 100 % of images" in str(caught.value)
    assert "--scaling=0..1 --classes cow,ant,bee" in str(caught.value)
    right = Classifier.decide(model, images, np.argsort(order)[labels], class_names=names)
    assert right.scaling.name == "0..1"


def test_the_choice_is_recorded():
    images, labels = noisy(60)
    chosen = Classifier.decide(logistic(8.0, 0.275), images, labels)
    assert chosen.card()["scaling"]["chosen"] == chosen.scaling_reason
    assert (
        Classifier(logistic(8.0, 0.275), scaling="0..1").card()["scaling"]["chosen"]
        == "It was given."
    )


def test_outputs_that_are_no_numbers_decide_nothing():
    images, labels = noisy(60)
    never = np.full((60, 2), np.nan)
    choice = choose_scaling(lambda scaling, some: never[: len(some)], images, labels, SCALINGS, 2)
    assert choice.scaling is None
    assert choose_scaling(lambda scaling, some: never, images, None, SCALINGS, 2).scaling is None
