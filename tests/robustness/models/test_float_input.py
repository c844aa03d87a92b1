"""Tests of models with integer input: attacked through a float copy of their layers, or refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import robustness
from robustness.contract.registry import make
from robustness.diagnostics import preflight
from robustness.errors import SettingError
from robustness.models.classifier import Classifier
from robustness.models.float_input import float_twin, takes_whole
from robustness.models.scalings import Scaling

SHAPE = (4, 6, 3)
RNG = np.random.default_rng(3)
# The weight difference of the two classes for each component: flips are known in closed form.
NORMAL = RNG.normal(0, 1, SHAPE)
IMAGES = RNG.integers(60, 190, (16, *SHAPE), dtype=np.uint8)
CENTRE = float(np.median((IMAGES / 255 * NORMAL).sum(axis=(1, 2, 3))))
LABELS = ((IMAGES / 255 * NORMAL).sum(axis=(1, 2, 3)) > CENTRE).astype(int)


def last() -> layers.Dense:
    dense = layers.Dense(2, activation="softmax")
    dense.build((None, int(np.prod(SHAPE))))
    weights = np.stack([-NORMAL.ravel(), NORMAL.ravel()], axis=1) / 2
    dense.set_weights([weights, np.array([CENTRE, -CENTRE]) / 2])
    return dense


def flips(epsilon: float) -> np.ndarray:
    """Which images flip: the optimal change of the linear model, clipped to the box."""
    signs = np.where(LABELS == 1, -1, 1)[:, None, None, None] * np.sign(NORMAL)
    best = np.clip(IMAGES + epsilon * signs, 0, 255) / 255
    return ((best * NORMAL).sum(axis=(1, 2, 3)) > CENTRE) != LABELS


def sequential(dtype: str, *first) -> keras.Model:
    first = first or (layers.Rescaling(1 / 255),)
    return keras.Sequential([keras.Input(SHAPE, dtype=dtype), *first, layers.Flatten(), last()])


def functional(begin) -> keras.Model:
    entry = keras.Input(SHAPE, dtype="uint8")
    return keras.Model(entry, last()(layers.Flatten()(begin(entry))))


def nested() -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE, dtype="uint8"), sequential("uint8")])


def within_a_float_model() -> keras.Model:
    entry = keras.Input(SHAPE)
    return keras.Model(entry, sequential("uint8")(entry))


WITH_TWIN = {
    "uint8": lambda: sequential("uint8"),
    "uint16": lambda: sequential("uint16"),
    "int32": lambda: sequential("int32"),
    "int64": lambda: sequential("int64"),
    "a lambda casts": lambda: sequential(
        "uint8", layers.Lambda(lambda x: ops.cast(x, "float32") / 255)
    ),
    "operations cast": lambda: functional(lambda x: ops.cast(x, "float32") / 255),
    "no cast at all": lambda: functional(layers.Rescaling(1 / 255)),
    "nested": nested,
    "within a float model": within_a_float_model,
}
FLOATS = {name: (lambda name=name: sequential(name)) for name in ("float16", "bfloat16", "float64")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [*WITH_TWIN.values(), *FLOATS.values()], ids=[*WITH_TWIN, *FLOATS]
)
def test_flips_are_found_through_the_float_copy(build):
    expected = flips(6)
    assert 4 <= expected.sum() < len(IMAGES)
    found = robustness.audit(
        build(), IMAGES, labels=LABELS, attacks=["pgd"], epsilons=[6], scaling="0..255"
    )
    rows = found.outcomes.sort_values("image", key=lambda c: c.str.extract(r"(\d+)")[0].astype(int))
    assert (rows.status == "flipped").tolist() == expected.tolist()


@pytest.mark.parametrize("build", WITH_TWIN.values(), ids=WITH_TWIN)
def test_the_float_copy_shares_layers_and_gives_the_same_answers(build):
    model = build()
    counts = IMAGES.astype("float32")
    twin = float_twin(model, counts)
    assert twin.reason == ""
    assert twin.model is not model
    assert not takes_whole(twin.model)
    assert twin.model.weights
    assert {id(w) for w in twin.model.weights} == {id(w) for w in model.weights}
    np.testing.assert_allclose(twin.model(counts), model(IMAGES), rtol=1e-5)
    between = counts + 0.4
    assert not np.allclose(twin.model(between), twin.model(counts), rtol=1e-6)


def test_a_float_model_is_not_copied():
    model = sequential("float32")
    assert float_twin(model, IMAGES.astype("float32")).model is model


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_judge_uses_the_original_input(seed):
    images = np.random.default_rng(seed).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    np.testing.assert_array_equal(JUDGED.probabilities(images), OWN.predict_on_batch(images))


OWN = sequential("uint8")
JUDGED = Classifier(OWN)


def table() -> keras.Model:
    values = keras.initializers.Constant(np.arange(256)[:, None] / 255)
    return functional(layers.Embedding(256, 1, embeddings_initializer=values))


def shifts(x):
    return ops.cast(ops.left_shift(ops.right_shift(x, 1), 1), "float32") / 255


def wraps(x):
    # Within uint8: 1 less than 0 is 255.
    return ops.cast(ops.subtract(x, ops.cast(1, "uint8")), "float32") / 255


WITHOUT = {
    "a table": (table, "Embedding 'embedding"),
    "bits are moved": (lambda: functional(shifts), "do not take float numbers"),
    "numbers wrap around": (lambda: functional(wraps), "answer otherwise to float numbers"),
    "a cast within": (
        lambda: functional(lambda x: ops.cast(ops.cast(x, "int32"), "float32") / 255),
        "Cast 'cast",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("build", "cause"), WITHOUT.values(), ids=WITHOUT)
def test_the_cause_of_a_missing_gradient_is_reported(build, cause):
    found = robustness.audit(
        build(), IMAGES, attacks=["fgsm", make("square", steps=30)], epsilons=[30], seed=1
    )
    failed = found.outcomes[found.outcomes.attack.str.startswith("fgsm")]
    assert set(failed.status) == {"failed"}
    assert all(cause in reason for reason in failed.reason)
    told = {d["id"]: d for d in found.manifest["diagnostics"]}
    assert told["D03"]["status"] == "fail"
    assert cause in told["D03"]["sentence"]
    others = found.outcomes[~found.outcomes.attack.str.startswith("fgsm")]
    assert "flipped" in set(others.status)


def test_without_a_float_copy_points_are_rounded_to_files():
    classifier = Classifier(functional(shifts))
    between = IMAGES.astype("float32") + RNG.uniform(-0.45, 0.45, IMAGES.shape).astype("float32")
    np.testing.assert_array_equal(classifier.logits_of(between), classifier.logits_of(IMAGES))


@pytest.mark.parametrize(
    ("dtype", "scaling", "said"),
    [
        ("uint8", "0..1", "do not hold what scaling 0..1 makes"),
        ("int32", "-1..1", "scaling -1..1"),
        ("int64", "caffe", "scaling caffe"),
        ("int8", None, r"whole numbers \(int8\)"),
        ("bool", None, r"whole numbers \(bool\)"),
    ],
)
def test_a_scaling_that_the_input_cannot_hold_is_refused(dtype, scaling, said):
    with pytest.raises(SettingError, match=said):
        Classifier(sequential(dtype), scaling=scaling)


def test_a_scaling_to_whole_numbers_is_accepted():
    shifted = Scaling("shifted", (1.0,), (-128.0,))
    model = sequential("int8", layers.Rescaling(1 / 255, offset=128 / 255))
    classifier = Classifier(model, scaling=shifted)
    expected = Classifier(sequential("float32")).probabilities(IMAGES)
    np.testing.assert_allclose(classifier.probabilities(IMAGES), expected, atol=1e-5)


def test_no_other_scaling_is_tried_on_integer_inputs():
    draft = Classifier.decide(sequential("uint8", layers.Identity()), IMAGES, None)
    assert draft.scaling.name == "0..255"
    assert set(draft.choose_scaling(IMAGES, LABELS).accuracies) == {"0..255"}
    finding = {f.id: f for f in preflight.run(draft, IMAGES, LABELS)}["P02-scaling"]
    assert finding.severity == "ok"
    assert "whole numbers" in finding.sentence


@pytest.mark.slow
def test_surrogates_and_other_precisions_use_the_float_copy():
    settings = {"labels": LABELS, "attacks": ["fgsm"], "epsilons": [6]}
    surrogate = robustness.audit(
        sequential("uint8"), IMAGES, surrogate=sequential("int32"), **settings
    )
    eye = np.eye(3)[None, None]
    exact = layers.Conv2D(3, 1, use_bias=False, kernel_initializer=keras.initializers.Constant(eye))
    looser = robustness.audit(
        sequential("uint8", layers.Rescaling(1 / 255), exact, layers.ReLU()),
        IMAGES,
        precision="bfloat16",
        **settings,
    )
    expected = int(flips(6).sum())
    for found in (surrogate, looser):
        assert (found.outcomes.status == "flipped").sum() == expected


def test_points_between_two_counts_do_not_flip_an_integer_model():
    from robustness.engine.judge import Judge
    from robustness.threat.threat import Threat

    judge = Judge(JUDGED, Threat((6.0,)))
    between = (IMAGES[:3] // 2).astype("float32") + 0.5
    assert judge.flips_in_float(between, [0, 0, 0]) == [False] * 3
