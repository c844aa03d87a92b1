"""Tests of model identity: everything that affects answers changes it, and nothing else does."""

from __future__ import annotations

import copy
import json
import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import robustness
from robustness.attacks import PGD
from robustness.errors import RunUsageError
from robustness.models.classifier import Classifier
from robustness.models.identity import probes
from robustness.runs import model_differences
from robustness.runs.schema import ModelEntry
from robustness.runs.store import Run
from robustness.verification.verify import verify

SHAPE = (8, 8, 3)


def network(
    activation="relu",
    strides=1,
    epsilon=1e-3,
    padding="same",
    negative_slope=0.3,
    order=(0, 1),
    dtype=None,
    skip=True,
    momentum=0.9,
    seed=None,
    dense="linear",
    axis=-1,
    pool=layers.MaxPooling2D,
):
    inputs = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(
        4,
        3,
        strides=strides,
        padding=padding,
        activation=activation,
        kernel_initializer="he_normal",
    )(x)
    x = layers.BatchNormalization(axis=axis, epsilon=epsilon, momentum=momentum)(x)
    x = layers.LeakyReLU(negative_slope=negative_slope, dtype=dtype)(x)
    x = layers.Dropout(0.2, seed=seed)(x)
    a = layers.Conv2D(4, 1)(x)
    b = layers.Conv2D(4, 1)(x)
    branches = [a, b]
    x = layers.Subtract()([branches[i] for i in order])
    x = layers.Add()([x, a if skip else b])
    x = pool(2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, activation=dense)(x))


@pytest.fixture(scope="module")
def weights():
    keras.utils.set_random_seed(1)
    return [rng_like(w) for w in network().get_weights()]


def rng_like(weight):
    rng = np.random.default_rng(weight.size)
    return np.abs(rng.normal(0.5, 0.4, weight.shape)).astype("float32") * rng.choice(
        [-1, 1] if weight.ndim > 1 else [1], weight.shape
    )


def differences(before, now):
    """The differences between two cards as stored in runs."""
    return model_differences.differences(
        ModelEntry.model_validate(before), ModelEntry.model_validate(now)
    )


def card(model, weights=None, **settings):
    if weights is not None:
        model.set_weights(weights)
    settings = {"scaling": "0..255", "head": "logits"} | settings
    return json.loads(json.dumps(Classifier(model, **settings).card()))


@pytest.fixture(scope="module")
def known(weights):
    return card(network(), weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation": "tanh"}, "configuration of layer 3 of 13 .Conv2D"),
        ({"activation": "gelu"}, "Conv2D"),
        ({"strides": 2}, "Conv2D"),
        ({"padding": "valid"}, "Conv2D"),
        ({"epsilon": 1e-5}, "BatchNormalization"),
        ({"negative_slope": 0.1}, "LeakyReLU"),
        ({"dtype": "mixed_bfloat16"}, "LeakyReLU"),
        ({"order": (1, 0)}, "connections between its layers"),
        ({"skip": False}, "connections between its layers"),
        ({"dense": "tanh"}, "Dense"),
        ({"pool": layers.AveragePooling2D}, "was MaxPooling2D, is AveragePooling2D"),
    ],
)
def test_another_architecture_with_the_same_weights_is_another_model(weights, known, change, said):
    other = card(network(**change), weights)
    assert other["weights_sha256"] == known["weights_sha256"]
    (found,) = differences(known, other)
    assert re.search(said, found), found


@pytest.mark.parametrize("change", [{}, {"momentum": 0.5}, {"seed": 5}])
def test_a_model_built_again_has_the_same_identity(weights, known, change):
    # Built twice in a process, the layers have different names.
    assert differences(known, card(network(**change), weights)) == []


def test_a_loaded_model_has_the_same_identity(weights, known, tmp_path):
    model = network()
    model.set_weights(weights)
    for name in ("model.keras", "model.h5"):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("absl.logging.warning", lambda *_: None)
            model.save(tmp_path / name)
        loaded = keras.saving.load_model(tmp_path / name, compile=False)
        assert differences(known, card(loaded)) == []


def test_trained_and_frozen_models_have_the_same_identity(weights, known):
    model = network()
    model.trainable = False
    model.set_weights(weights)
    # For a frozen model Keras lists the weights in another order; the order in the model counts.
    assert "configuration" not in " ".join(differences(known, card(model)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scaling": "0..1"}, "scaling"),
        ({"class_names": ["b", "a", "c"]}, "class names"),
        ({"head": "softmax"}, "head"),
    ],
)
def test_preprocessing_names_and_head_are_part_of_the_identity(weights, change, said):
    usual = {"class_names": ["a", "b", "c"]}
    before = card(network(dense="softmax"), weights, **usual, head=None)
    if "head" in change:
        change = {"head": "logits"}
    now = card(network(dense="softmax"), weights, **({**usual, "head": None} | change))
    assert any(one.startswith(said) for one in differences(before, now))


class Own(keras.Model):
    """A subclassed model whose `call` is not in its configuration."""

    scale = 1.0

    def __init__(self, activation="relu", factor=1.0):
        super().__init__()
        self.inner = layers.Dense(6, activation=activation)
        self.out = layers.Dense(3)
        self.factor = factor

    def call(self, inputs):
        x = ops.reshape(inputs, (-1, 192)) / 255.0
        return self.out(self.inner(x)) * self.factor * self.scale


class Squared(Own):
    def call(self, inputs):
        x = ops.square(ops.reshape(inputs, (-1, 192)) / 255.0)
        return self.out(self.inner(x))


def helped(x):
    return ops.maximum(x, 0.0)


class Helped(Own):
    def call(self, inputs):
        return self.out(helped(self.inner(ops.reshape(inputs, (-1, 192)) / 255.0 - 0.5)))


def own(kind=Own, **settings):
    model = kind(**settings)
    model(np.zeros((1, *SHAPE), "float32"))
    keras.utils.set_random_seed(3)
    model.set_weights([rng_like(w) for w in model.get_weights()])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: own(activation="tanh"), "configuration of layer"),
        (lambda: own(Squared), "configuration|code"),
        (lambda: own(factor=-1.0), "configuration|outputs"),
    ],
)
def test_subclassed_models_have_different_identities(other, said):
    found = differences(card(own()), card(other()))
    assert found and any(part in found[0] for part in said.split("|")), found
    assert differences(card(own()), card(own())) == []


def test_attributes_and_outer_functions_change_the_probe_answers(monkeypatch):
    before = card(own()), card(own(Helped, activation="linear"))
    monkeypatch.setattr(Own, "scale", 1.5)
    monkeypatch.setitem(globals(), "helped", lambda x: ops.maximum(-x, 0.0))
    for was, now in zip(before, (card(own()), card(own(Helped, activation="linear"))), strict=True):
        assert any("outputs for the same pictures" in one for one in differences(was, now))


def test_a_lambda_is_identified_by_its_code_not_its_location():
    def made(function):
        inputs = keras.Input(SHAPE)
        return keras.Model(inputs, layers.Flatten()(layers.Lambda(function)(inputs))[:, :3])

    first = card(made(lambda x: x * 2.0))
    second = card(made(
        lambda x: x * 2.0
    ))  # fmt: skip
    assert differences(first, second) == []
    (found,) = differences(first, card(made(lambda x: x * -2.0)))
    assert "code" in found


def test_other_keras_versions_are_compared_by_answers(weights, known):
    foreign = copy.deepcopy(known)
    foreign["identity"] |= {"keras": "3.0.0", "layers": ["Other 00"], "graph": "00"}
    assert differences(foreign, known) == []
    assert "outputs" in differences(foreign, card(network(activation="tanh"), weights))[0]
    foreign["identity"]["answers"] = [
        {k: v * (1 + 2e-3) for k, v in row.items()} for row in foreign["identity"]["answers"]
    ]
    assert differences(foreign, known) == []


def test_an_older_card_is_compared_by_its_fields(known):
    old = {k: v for k, v in known.items() if k != "identity"}
    assert differences(old, known) == []
    assert differences({**old, "weights_sha256": "0"}, known)


class Noisy(Own):
    def __init__(self):
        super().__init__()
        self.chance = keras.random.SeedGenerator(1)

    def call(self, inputs):
        noise = keras.random.normal((1, 6), seed=self.chance)
        return self.out(noise + self.inner(ops.reshape(inputs, (-1, 192)) / 255.0))


def test_a_randomised_model_has_a_stable_identity():
    model = own(Noisy)
    classifier = Classifier(model, scaling="0..255", head="logits")
    before = [np.array(v) for v in model.variables]
    told = classifier.card()
    assert told["identity"]["answers"] is None
    # Probing does not change the numbers that it draws afterwards.
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable)
    assert differences(told, card(model)) == []


def test_probes_are_reproducible_and_distinct():
    first, again = probes((5, 7, 1)), probes((5, 7, 1))
    np.testing.assert_array_equal(first, again)
    assert len({picture.tobytes() for picture in first}) == len(first)
    assert first.dtype == np.uint8 and first.shape[1:] == (5, 7, 1)


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", [False, True])
def test_resume_and_verify_name_the_differences(weights, tmp_path, surrogate):
    images = np.random.default_rng(0).integers(0, 256, (12, *SHAPE)).astype(np.uint8)

    def classifier(**change):
        model = network(**change)
        model.set_weights(weights)
        return Classifier(model, scaling="0..255", head="logits")

    def audit(model, eyes, **more):
        return robustness.audit(
            model,
            images,
            attacks=[PGD(steps=3)],
            epsilons=[8],
            out=tmp_path / "r",
            surrogate=eyes,
            **more,
        )

    target = classifier()
    audit(target, classifier() if surrogate else None)
    audit(classifier(), classifier() if surrogate else None, resume=True)
    other = classifier(activation="tanh")
    pair = (target, other) if surrogate else (other, None)
    with pytest.raises(RunUsageError, match="configuration of layer 3 of"):
        audit(*pair, resume=True)
    with Run.open(tmp_path / "r") as run:
        assert verify(run, target).exit_code == 0
        said = " ".join(f.sentence for f in verify(run, other).faults if f.what == "model")
    assert "configuration of layer 3 of" in said
