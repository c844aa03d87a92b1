"""Tests of D28: dead models fail, healthy ones pass at any confidence and with few predicted classes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import robustness
from robustness.diagnostics import preflight
from robustness.diagnostics.liveness import EPS, ROUNDINGS, TELLING, Answers, blanks
from robustness.models.classifier import Classifier
from robustness.runs.store import Run
from tests.robustness.helpers import small_cnn

SHAPE = (12, 12, 3)
RNG = np.random.default_rng(5)
PHOTOS = RNG.integers(0, 256, (20, *SHAPE), dtype=np.uint8)


class Own(keras.Model):
    """A subclassed model, whose last activation cannot be removed."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x, training=False):
        return self.function(x)


def own(function) -> Classifier:
    model = Own(function)
    model(np.zeros((1, *SHAPE), "float32"))
    return Classifier(model, scaling="0..255")


def d28(classifier: Classifier, images=PHOTOS) -> preflight.Finding:
    return {f.id: f for f in preflight.run(classifier, images, None)}["D28-dead-model"]


def times(factor: float) -> Classifier:
    """The small network with its last layer times `factor`: the same decisions."""
    classifier = small_cnn(3)
    last = classifier.model.layers[-1]
    last.set_weights([factor * w for w in last.get_weights()])
    return classifier


def of_one_class(classifier: Classifier) -> np.ndarray:
    many = RNG.integers(0, 256, (200, *SHAPE), dtype=np.uint8)
    classes = classifier.probabilities(many).argmax(axis=1)
    return many[classes == np.bincount(classes).argmax()][:15]


def sequential(*inside, shape=SHAPE) -> Classifier:
    return Classifier(keras.Sequential([keras.Input(shape), *inside]), scaling="0..1")


def lost_in_rounding() -> Classifier:
    """The contribution of the picture is below the rounding of the logits."""
    last = layers.Dense(3, bias_initializer=keras.initializers.Constant([1e4, 9e3, 8e3]))
    return sequential(layers.Flatten(), layers.Rescaling(1e-6), last)


DEAD = {
    "every weight is zero": lambda: sequential(
        layers.Flatten(), layers.Dense(3, kernel_initializer="zeros", activation="softmax")
    ),
    "one answer, by its bias": lambda: sequential(
        layers.Flatten(),
        layers.Dense(2, kernel_initializer="zeros", bias_initializer="ones"),
        layers.Dense(2, bias_initializer=keras.initializers.Constant([3, 1]), activation="softmax"),
    ),
    "activations died out": lambda: sequential(
        layers.Flatten(),
        layers.Dense(8, bias_initializer=keras.initializers.Constant(-1e4), activation="relu"),
        layers.Dense(
            3, bias_initializer=keras.initializers.Constant([0, 2, 1]), activation="softmax"
        ),
    ),
    "signals die out": lambda: sequential(
        layers.Flatten(), layers.Rescaling(1e-12), layers.Dense(1000, activation="softmax")
    ),
    "a sigmoid of nothing": lambda: sequential(
        layers.Flatten(), layers.Dense(1, kernel_initializer="zeros", activation="sigmoid")
    ),
    "a sure sigmoid": lambda: sequential(
        layers.Flatten(),
        layers.Dense(
            1,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(30),
            activation="sigmoid",
        ),
    ),
    "the bias drowns the picture": lost_in_rounding,
    "a constant, saturated": lambda: own(lambda x: 0 * x[:, 0, 0, :2] + [[1.0, 0.0]]),
    "a constant": lambda: own(lambda x: 0 * x[:, 0, 0, :2] + [[0.7, 0.3]]),
    "one answer, and an excluded class": lambda: sequential(
        layers.Flatten(),
        layers.Dense(
            3,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant([3, 1, -1e9]),
        ),
    ),
    "whatever beyond 300 counts": lambda: own(
        lambda x: ops.add(ops.relu(ops.mean(x, axis=(1, 2)) - 300), [[1.0, 0.0, 0.0]])
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("build", DEAD.values(), ids=DEAD)
def test_dead_models_fail(build):
    for images in (PHOTOS, PHOTOS[:TELLING], PHOTOS[:1]):
        finding = d28(build(), images)
        assert finding.severity == "error", (len(images), finding.sentence)
        assert "no robustness" in finding.sentence


HEALTHY = {
    "as it is": lambda: times(1.0),
    "surer than float32 tells": lambda: times(1e6),
    "hardly sure": lambda: times(1e-5),
    "a binary sigmoid": lambda: sequential(layers.Flatten(), layers.Dense(1, activation="sigmoid")),
    "logits": lambda: sequential(layers.Flatten(), layers.Dense(5)),
    "an excluded class": lambda: sequential(
        layers.Flatten(),
        layers.Dense(4, bias_initializer=keras.initializers.Constant([0, 0, 0, -1e9])),
    ),
    "a softmax that stays on": lambda: own(lambda x: ops.softmax(ops.mean(x, axis=(1, 2)) / 50)),
    "saturated, and it stays on": lambda: own(lambda x: ops.softmax(ops.mean(x, axis=(1, 2)) * 50)),
    "the same for all that is empty": lambda: sequential(
        # Both classes depend on edges only: black, grey and white give equal logits.
        layers.Conv2D(4, 3, activation="relu", use_bias=False),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, activation="softmax"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("build", HEALTHY.values(), ids=HEALTHY)
def test_healthy_models_do_not_fail(build):
    keras.utils.set_random_seed(2)
    classifier = build()
    for images in (PHOTOS, PHOTOS[:2], PHOTOS[:1], of_one_class(classifier)):
        finding = d28(classifier, images)
        assert finding.severity == "ok", (len(images), finding.sentence)


def test_identical_pictures_are_not_a_constant_answer():
    assert d28(times(1.0), np.repeat(PHOTOS[:1], 12, axis=0)).severity == "ok"


def test_few_ties_are_reported_with_their_number():
    # Without a bias only black is a tie.
    keras.utils.set_random_seed(0)
    classifier = sequential(layers.Flatten(), layers.Dense(2, use_bias=False))
    finding = d28(classifier, np.concatenate([PHOTOS, np.zeros((1, *SHAPE), np.uint8)]))
    assert finding.severity == "warning"
    assert "1 of 21 different images" in finding.sentence
    assert d28(classifier, PHOTOS).severity == "ok"
    assert d28(classifier, np.zeros((1, *SHAPE), np.uint8)).severity == "warning"


def _near(logits: np.ndarray, roundings: float) -> int:
    """The largest number of rows that equal one of them up to a shift and roundings of their largest."""
    centred = logits - logits.max(axis=1, keepdims=True)
    size = np.abs(logits).max(axis=1)
    apart = np.abs(centred[:, None] - centred).max(axis=2)
    return int((apart <= roundings * EPS * np.maximum.outer(size, size)).sum(axis=1).max())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(-6, 6), st.floats(-100, 100, width=32)
)
@example(535, 2, 0.0, 59.0)  # the margins of two rows differ by 8 roundings of their logits
def test_scale_and_shift_of_logits_make_no_ties_or_constants(seed, classes, power, shift):
    rng = np.random.default_rng(seed)
    centred = rng.normal(0, 3, (30, classes))
    centred[:, 0] += np.where(centred.argmax(axis=1) == 0, 1, 0)
    ordered = np.sort(centred, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 0.3
    unrounded = 10.0**power * (centred + shift)
    logits = unrounded.astype("float32")
    exact = np.exp(logits - logits.max(axis=1, keepdims=True).astype("float64"))
    probabilities = (exact / exact.sum(axis=1, keepdims=True)).astype("float32")
    answers = Answers(probabilities, logits, sees=True)
    assert not answers.tied[clear].any()
    # Rounding moves the difference of two margins by at most four halves of a rounding.
    assert _near(unrounded, ROUNDINGS - 2.1) <= answers.alike <= _near(unrounded, ROUNDINGS + 2.1)
    assert not answers.constant
    same = answers.of(np.zeros(30, int))
    assert same.alike == 30
    assert same.constant


def test_blank_pictures_fill_one_model_batch():
    shown = blanks(PHOTOS)
    assert shown.dtype == np.uint8
    assert len(shown) == 12
    assert {0, 128, 255} <= {int(p.flat[0]) for p in shown if np.ptp(p) == 0}
    np.testing.assert_array_equal(shown[-1], 255 - PHOTOS[len(shown) - 9])


@pytest.mark.slow
def test_an_untrained_network_of_a_thousand_classes_is_inconclusive():
    from robustness.reports import summarise
    from robustness.reports.gate.verdict import verdict_of

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((64, 64, 3), weights=None, classes=1000)
    images = RNG.integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    labels = Classifier(model, scaling="-1..1").probabilities(images).argmax(axis=1)
    found = robustness.audit(
        model, images, labels=labels, attacks=["fgsm"], epsilons=[8], scaling="-1..1"
    )
    assert found.flip_rate == 0
    told = {d["id"]: d for d in found.manifest["diagnostics"]}
    assert told["D28"]["status"] == "fail"
    with Run.open(found.path) as run:
        verdict = verdict_of(summarise(run))
    assert (verdict.status, verdict.exit_code) == ("inconclusive", 4)
