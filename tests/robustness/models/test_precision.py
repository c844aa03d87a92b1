"""Tests of the precision of attacks, and that verdicts do not depend on it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import robustness
from robustness.attacks import PGD
from robustness.errors import ModelError, RunError, SettingError
from robustness.images.png import from_png
from robustness.models.classifier import Classifier
from robustness.models.precision import computing_in, inner_layers
from robustness.runs.store import Run

SHAPE = (12, 12, 3)
RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (24, *SHAPE), dtype=np.uint8)


class Watcher(layers.Layer):
    """A layer that returns its input and records its data type."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.seen: list[str] = []

    def call(self, x):
        self.seen.append(keras.backend.standardize_dtype(x.dtype))
        return x


def network(*, nested: bool = False) -> tuple[keras.Model, list[Watcher]]:
    """A small network, and watchers before its first, inner and last layer with weights."""
    keras.utils.set_random_seed(3)
    watchers = [Watcher() for _ in range(3)]
    first = [watchers[0], layers.Rescaling(1 / 255), layers.Conv2D(6, 3, activation="relu")]
    inner = [layers.BatchNormalization(), layers.MaxPooling2D(2), watchers[1], layers.Flatten()]
    inner += [layers.Dense(16, activation="relu")]
    body = [keras.Sequential([*first, *inner])] if nested else [*first, *inner]
    model = keras.Sequential(
        [layers.Input(SHAPE), *body, watchers[2], layers.Dense(3, activation="softmax")]
    )
    for watcher in watchers:
        watcher.seen.clear()
    return model, watchers


def images_of(classifier: Classifier) -> tuple[np.ndarray, np.ndarray]:
    return IMAGES, classifier.probabilities(IMAGES).argmax(axis=1)


@pytest.mark.parametrize("nested", [False, True])
def test_only_inner_layers_use_the_precision(nested):
    model, (first, inner, _) = network(nested=nested)
    classifier = Classifier(model)
    exact = classifier.probabilities(IMAGES)
    rough = classifier.in_precision("bfloat16")
    for watcher in (first, inner):
        watcher.seen.clear()
    logits = rough.logits(IMAGES.astype("float32"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    # Pictures that differ by one count remain different; only inner layers use the precision.
    assert first.seen == ["float32"]
    assert inner.seen == ["bfloat16"]
    near = np.asarray(ops.convert_to_numpy(logits))
    far = np.asarray(ops.convert_to_numpy(classifier.logits(IMAGES.astype("float32"))))
    assert 0 < np.abs(near - far).max() < 0.05 * np.abs(far).max()
    # The judging model gives the same bits before and after.
    assert np.array_equal(rough.probabilities(IMAGES), exact)
    assert np.array_equal(classifier.probabilities(IMAGES), exact)
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}
    assert {keras.backend.standardize_dtype(w.dtype) for w in model.weights} == {"float32"}


def test_the_copy_shares_variables_and_keeps_the_model_unchanged():
    model, _ = network(nested=True)
    rough = computing_in(model, "bfloat16")
    assert [id(w) for w in rough.weights] == [id(w) for w in model.weights]
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}
    assert {layer.dtype_policy.name for layer in rough._flatten_layers()} == {
        "float32",
        "mixed_bfloat16",
    }


class Composed(keras.Model):
    """A subclassed model with layers as attributes and in a list."""

    def __init__(self) -> None:
        super().__init__()
        watcher = Watcher()
        # Keras counts layers in the order in which they become attributes.
        self.first = layers.Conv2D(4, 3)
        self.middle = [layers.BatchNormalization(), watcher, layers.Flatten()]
        self.last = layers.Dense(3)

    def call(self, x):
        x = self.first(x)
        for layer in self.middle:
            x = layer(x)
        return self.last(x)


def test_a_subclassed_model_is_copied():
    keras.utils.set_random_seed(3)
    model = Composed()
    model(np.zeros((1, *SHAPE), "float32"))
    rough = computing_in(model, "bfloat16")
    model.middle[1].seen.clear()
    rough(IMAGES.astype("float32"))
    assert model.middle[1].seen == ["bfloat16"]
    assert [id(w) for w in rough.weights] == [id(w) for w in model.weights]
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}
    model(IMAGES.astype("float32"))
    assert model.middle[1].seen == ["bfloat16", "float32"]


def test_layers_with_an_explicit_precision_keep_it():
    keras.utils.set_random_seed(3)
    own = layers.Dense(8, dtype="mixed_float16")
    model = keras.Sequential(
        [layers.Input(SHAPE), layers.Flatten(), layers.Dense(8), own, layers.Dense(8)]
    )
    model.add(layers.Dense(3))
    assert inner_layers(model) == [model.layers[3]]
    policies = [layer.dtype_policy.name for layer in computing_in(model, "bfloat16").layers]
    assert policies == ["float32", "float32", "mixed_float16", "mixed_bfloat16", "float32"]


def test_float32_returns_the_classifier_itself():
    classifier = Classifier(network()[0])
    assert classifier.in_precision("float32") is classifier


def test_an_unknown_precision_is_refused():
    with pytest.raises(
        SettingError, match="'half' is not known; expected one of float32, bfloat16"
    ):
        Classifier(network()[0]).in_precision("half")


def test_a_layer_that_accepts_only_float32_is_reported(tmp_path):
    class Stubborn(layers.Layer):
        def call(self, x):
            if keras.backend.standardize_dtype(x.dtype) != "float32":
                raise TypeError("float32 and nothing else")
            return x

    model = keras.Sequential(
        [layers.Input(SHAPE), layers.Flatten(), layers.Dense(8), Stubborn(), layers.Dense(3)]
    )
    stubborn, folder = Classifier(model, scaling="0..255"), tmp_path / "run"
    with pytest.raises(ModelError, match=r"does not compute in bfloat16: .*nothing else"):
        audited(stubborn, precision="bfloat16", out=folder)
    # Refused before anything starts.
    assert not folder.exists()


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(network()[0])


def audited(classifier: Classifier, **settings) -> robustness.AuditResult:
    images, labels = images_of(classifier)
    return robustness.audit(
        classifier, images, labels=labels, attacks=[PGD(steps=6)], epsilons=[2, 8], **settings
    )


@pytest.mark.slow
def test_flips_found_in_bfloat16_are_flips_in_float32(classifier, tmp_path):
    frame = audited(classifier, precision="bfloat16", out=tmp_path / "run").to_frame()
    exact = audited(classifier).to_frame()
    assert (frame.status == "flipped").sum() > 0
    # An approximate gradient loses almost no flips.
    assert abs((frame.status == "flipped").mean() - (exact.status == "flipped").mean()) <= 0.1
    with Run.open(tmp_path / "run") as run:
        for row in run.outcomes().query("status == 'flipped'").to_dict("records"):
            picture = from_png(run.png(row["png"]))
            answer = classifier.probabilities(picture[None])[0]
            assert answer.argmax() == row["adversarial_class"]
            assert answer.max() == np.float32(row["confidence_after"])


@pytest.mark.slow
def test_outcomes_do_not_depend_on_the_batch(classifier):
    frames = [
        audited(classifier, precision="bfloat16", batch_size=size).to_frame()
        for size in (6, 12, 24)
    ]
    for frame in frames[1:]:
        assert frame.drop(columns="seconds", errors="ignore").equals(frames[0])


@pytest.mark.slow
def test_a_run_resumes_only_in_its_own_precision(classifier, tmp_path):
    audited(classifier, out=tmp_path / "run")
    with pytest.raises(RunError, match="setting precision"):
        audited(classifier, precision="bfloat16", out=tmp_path / "run", resume=True)


class Containers(keras.Model):
    """Layers in a list of tuples and a dictionary of lists."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self.first, self.last = layers.Conv2D(4, 3), layers.Dense(3)
        self.blocks = [(layers.Conv2D(4, 3), watcher), (layers.Flatten(), layers.Identity())]
        self.more = {"a": [layers.Dense(8), layers.ReLU()]}

    def call(self, x):
        x = self.first(x)
        for one, other in self.blocks:
            x = other(one(x))
        for layer in self.more["a"]:
            x = layer(x)
        return self.last(x)


def test_layers_in_containers_of_containers_are_copied():
    keras.utils.set_random_seed(3)
    watcher = Watcher()
    model = Containers(watcher)
    model(np.zeros((1, *SHAPE), "float32"))
    watcher.seen.clear()
    exact = Classifier(model, scaling="0..1")
    rough = exact.in_precision("bfloat16")
    watcher.seen.clear()
    rough.logits(IMAGES[:2].astype("float32"))
    assert set(watcher.seen) == {"bfloat16"}
    watcher.seen.clear()
    exact.logits(IMAGES[:2].astype("float32"))
    assert set(watcher.seen) == {"float32"}
