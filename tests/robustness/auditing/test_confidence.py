"""Tests that scaling the logits does not change which pictures flip."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from scipy import special

import robustness
from robustness import backend
from robustness.contract.registry import make
from robustness.model_zoo import load
from robustness.models.classifier import Classifier
from robustness.numerics import losses, powers_of_two
from robustness.runs.store import Run
from robustness.threat.goals import Untargeted

SHAPE, EPSILON = (8, 12, 3), 16
TIMES = [1e-6, 1.0, 10.0, 30.0, 100.0, 1e3, 1e6]


def pictures(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Two classes: the left or the right half is 25 counts brighter."""
    rng, labels = np.random.default_rng(3), np.arange(count) % 2
    images = rng.integers(60, 180, (count, *SHAPE))
    for image, label in zip(images, labels, strict=True):
        image[:, label * 6 : (label + 1) * 6] += 25
    return images.clip(0, 255).astype("uint8"), labels


def weights() -> np.ndarray:
    found = np.zeros((*SHAPE, 2))
    found[:, :6, :, 0] = found[:, 6:, :, 1] = 60 / np.prod(SHAPE)
    return found.reshape(-1, 2)


IMAGES, LABELS = pictures()


def flipped_by(epsilon: int) -> np.ndarray:
    """Which pictures can be flipped: the optimal change of the linear model, clipped to the box."""
    away = np.where(LABELS[:, None] == 0, 1, -1) * (weights()[:, 0] - weights()[:, 1])
    best = np.clip(IMAGES.reshape(len(IMAGES), -1) - epsilon * np.sign(away), 0, 255)
    return (best * away).sum(axis=1) < 0


class SubclassedWithHead(keras.Model):
    """A subclassed model: a dense layer, then any function."""

    def __init__(self, units, end):
        super().__init__()
        self.dense, self.end = layers.Dense(units), end

    def call(self, x):
        return self.end(self.dense(ops.reshape(x / 255, (-1, int(np.prod(SHAPE))))))


def subclassed(end, units=2):
    model = SubclassedWithHead(units, end)
    model(np.zeros((1, *SHAPE), "float32"))
    return model, model.dense


def functional(end, units=2):
    image, dense = keras.Input(SHAPE), layers.Dense(units)
    return keras.Model(image, end(dense(layers.Flatten()(layers.Rescaling(1 / 255)(image))))), dense


def made(build, end, times: float, units: int = 2) -> keras.Model:
    model, dense = build(end, units)
    both = times * weights()
    dense.set_weights([both if units == 2 else both[:, 1:] - both[:, :1], np.zeros(units)])
    return model


def written(z):
    e = ops.exp(z - ops.max(z, axis=-1, keepdims=True))
    return e / ops.sum(e, axis=-1, keepdims=True)


def voted(z):
    return layers.Average()([layers.Softmax()(z), layers.Activation("softmax")(z * 0.5)])


def two_of_one(z):
    p = ops.sigmoid(z[:, 1:] - z[:, :1])
    return ops.concatenate([1 - p, p], axis=-1)


def unknown(z):
    """A softmax that the toolkit does not recognise, saturated to exactly 0 and 1."""
    t = ops.tanh((z[:, 1:] - z[:, :1]) / 2)
    return ops.concatenate([(1 - t) / 2, (1 + t) / 2], axis=-1)


HEADS = {
    "softmax": (functional, layers.Softmax(), 2),
    "logits": (functional, layers.Activation("linear"), 2),
    "sigmoid": (functional, layers.Activation("sigmoid"), 1),
    "temperature": (functional, lambda z: layers.Softmax()(layers.Rescaling(0.5)(z)), 2),
    "operation": (functional, ops.softmax, 2),
    "lambda": (functional, layers.Lambda(written), 2),
    "votes": (functional, voted, 2),
    "subclassed": (subclassed, ops.softmax, 2),
    "subclassed sigmoid": (subclassed, ops.sigmoid, 1),
    "written": (subclassed, written, 2),
    "written sigmoid": (subclassed, lambda z: 1 / (1 + ops.exp(-z)), 1),
    "two of one": (subclassed, two_of_one, 2),
    "clipped": (subclassed, lambda z: ops.clip(ops.softmax(z), 1e-7, 1 - 1e-7), 2),
}


def statuses(result) -> dict[str, str]:
    return {d["id"]: d["status"] for d in result.manifest["diagnostics"]}


def audited(model, **settings: Any):
    classifier = Classifier(model, scaling="0..255")
    usual: dict[str, Any] = {"attacks": [make("pgd", steps=10)], "epsilons": [EPSILON]}
    return robustness.audit(classifier, IMAGES, labels=LABELS, **usual | settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("times", [30.0, 1e6])
def test_every_head_flips_as_the_closed_form(name, times):
    build, end, units = HEADS[name]
    result = audited(made(build, end, times, units), attacks=["pgd", "fgsm"])
    frame = result.to_frame()
    for _, rows in frame.groupby("attack"):
        assert (rows.status == "flipped").sum() == flipped_by(EPSILON).sum() == len(IMAGES)
    assert statuses(result)["D26"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("setting", ["plain", "bfloat16", "surrogate"])
def test_every_kind_of_attack_flips_the_same(times, setting):
    model = made(functional, layers.Softmax(), times)
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"attacks": ["pgd", make("apgd", steps=20)]},
        "bfloat16": {"precision": "bfloat16"},
        "surrogate": {"surrogate": Classifier(made(subclassed, written, times), scaling="0..255")},
    }
    result = audited(model, epsilons=[8, EPSILON], **kinds[setting])
    for (_, epsilon), rows in result.to_frame().groupby(["attack", "epsilon"]):
        assert (rows.status == "flipped").sum() == flipped_by(epsilon).sum()


@pytest.mark.slow
@pytest.mark.parametrize("times", [100.0, 1e6])
def test_half_precision_keeps_the_direction(times):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, dense = functional(layers.Softmax())
    finally:
        keras.config.set_dtype_policy("float32")
    # Scales that float16 logits can represent.
    dense.set_weights([min(times, 1000.0) * weights(), np.zeros(2)])
    assert audited(model).flip_rate == 1


@pytest.mark.slow
@given(
    st.lists(st.integers(-900, 900).map(lambda n: n / 100), min_size=2, max_size=6),
    st.sampled_from(TIMES),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_cross_entropy_keeps_its_direction_and_its_order(row, times, which):
    z = np.float32(times) * np.array([row], "float32")
    label = np.array([which % len(row)], "int32")
    call = backend.value_and_grad(lambda x: (losses.cross_entropy(x, label), ()))
    slope = ops.convert_to_numpy(call(ops.convert_to_tensor(z))[1])[0]
    others = np.arange(len(row)) != label[0]
    exact = np.zeros(len(row))
    exact[others] = special.softmax(z[0, others].astype("float64"))
    exact[label[0]] = -1
    assert np.isfinite(slope).all() and slope[label[0]] < 0
    np.testing.assert_allclose(slope / -slope[label[0]], exact, rtol=1e-3, atol=1e-6)
    # A slightly lower logit gives a slightly higher loss, down to the resolution of float32.
    less = z.copy()
    less[0, label[0]] -= np.float32(times) * 1e-3
    before, after = (float(losses.cross_entropy(x, label)[0]) for x in (z, less))
    assert after >= before and (after > before or times < 1)
    before, after = (float(losses.log_odds(x, label)[0]) for x in (z, less))
    assert after > before


@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_powers_of_two_change_no_digit(row):
    values = np.array([row, [0.0] * len(row)], "float32")
    power = ops.convert_to_numpy(powers_of_two.binade(values))
    top = np.abs(values[0]).max()
    expected = (
        2.0 ** np.clip(np.floor(np.log2(top)), -100, 100) if top >= powers_of_two.TINY else 1.0
    )
    np.testing.assert_array_equal(power, [expected, 1.0])
    if top == 0 or top > 2.0**-60:
        matrix = np.random.default_rng(0).normal(size=(len(row), 3)).astype("float32")
        found = powers_of_two.scaled(lambda w: ops.matmul(w, matrix), ops.convert_to_tensor(values))
        np.testing.assert_allclose(found, values @ matrix, rtol=1e-5, atol=1e-5 * max(top, 1e-30))


def test_the_loss_is_the_logarithm_where_it_would_be_zero():
    z = np.array([[0.0, 59.0], [0.0, 61.0], [0.0, 500.0], [0.0, 1e7]], "float32")
    got = ops.convert_to_numpy(Untargeted().loss(losses.cross_entropy, z, np.array([1] * 4)))
    exact = np.log1p(np.exp(-59.0))
    np.testing.assert_allclose(got, [-exact, 1.0, 440.0, 1e7 - 60], rtol=1e-6)


@pytest.mark.slow
def test_a_missing_gradient_is_distinguished_from_robustness(tmp_path):
    fine = audited(made(subclassed, unknown, 1.0))
    assert fine.flip_rate == 1 and statuses(fine)["D26"] == "ok"
    result = audited(made(subclassed, unknown, 1e3), out=tmp_path / "run")
    assert result.flip_rate == 0
    found = {d["id"]: d for d in result.manifest["diagnostics"]}["D26"]
    assert found["status"] == "fail"
    assert found["evidence"]["deciding_share"] == 1
    assert found["evidence"]["steps_without"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        make("fgsm"),
        make("apgd", steps=4),
        make("fab", steps=4),
        make("vmi-fgsm", steps=2),
        make("eot", of="pgd", steps=3, samples=2),
    ],
    ids=lambda attack: attack.name,
)
def test_missing_gradients_are_recorded_for_every_kind_of_attack(attack, tmp_path):
    audited(made(subclassed, unknown, 1e3), attacks=[attack], out=tmp_path / "run")
    with Run.open(tmp_path / "run") as run:
        seen = run.gradients()
    assert len(seen) == len(IMAGES)
    assert set(seen.watched) == set(seen.blind) == {attack.steps}


@pytest.mark.slow
def test_recorded_missing_gradients_survive_resuming_and_old_runs_open(tmp_path):
    folder, model = tmp_path / "run", made(subclassed, unknown, 1e3)
    whole = statuses(audited(model, out=folder))
    _execute(
        folder, "DELETE FROM outcomes WHERE rowid % 2", "DELETE FROM gradients WHERE rowid % 2"
    )
    resumed = audited(model, out=folder, resume=True)
    assert statuses(resumed)["D26"] == whole["D26"] == "fail"
    with Run.open(folder) as run:
        assert len(run.gradients()) == len(IMAGES)
    _execute(folder, "DROP TABLE gradients")
    with Run.open(folder) as run:
        assert run.gradients().empty and len(run.outcomes()) == len(IMAGES)
    assert statuses(audited(model, out=folder, resume=True))["D26"] == "skipped"


def _execute(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "run.sqlite") as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.slow
def test_the_scaled_bundled_network_flips_on_the_same_photographs(photos_archive):
    classifier = load("dogs-vs-cats")
    last = [layer for layer in classifier.model.layers if layer.weights][-1]
    before, found = last.get_weights(), {}
    try:
        for times in (1.0, 1e3, 1e6):
            last.set_weights([np.float32(times) * w for w in before])
            same = classifier.with_scaling(classifier.scaling)
            result = robustness.audit(same, photos_archive, attacks=["pgd"], epsilons=[2], limit=15)
            found[times] = result.to_frame().sort_values("image").status.tolist()
    finally:
        last.set_weights(before)
    assert all(seen == found[1.0] for seen in found.values())
    assert set(found[1.0]) <= {"flipped", "misclassified"}
