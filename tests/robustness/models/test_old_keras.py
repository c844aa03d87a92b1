"""Files that only tf_keras can load: its process answers as tf_keras itself does."""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import robustness
from robustness.errors import ModelError, UnsafeModelError
from robustness.models import loading, old_keras, user_code
from robustness.models.classifier import Classifier
from robustness.models.legacy.conversion import Conversion
from robustness.models.old_keras import protocol, worker

SHAPE = (10, 8, 3)
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def tf_keras() -> Any:
    if importlib.util.find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf_keras

        yield tf_keras


def with_operation(tf_keras: Any, ending: str = "softmax") -> Any:
    """A network with an operation that Keras 3 lacks: erfc."""
    import tensorflow as tf

    tf_keras.utils.set_random_seed(2)
    layers = tf_keras.layers
    entry = tf_keras.Input(SHAPE)
    x = layers.Conv2D(4, 3)(tf.math.erfc(entry - 0.5))
    x = layers.Flatten()(x)
    if ending == "softmax layer":
        return tf_keras.Model(entry, layers.Softmax()(layers.Dense(3)(x)))
    if ending == "nested":
        inner = tf_keras.Sequential([layers.InputLayer(x.shape[1:]), layers.Dense(3, "softmax")])
        return tf_keras.Model(entry, inner(x))
    return tf_keras.Model(entry, layers.Dense(1 if ending == "sigmoid" else 3, ending)(x))


def saved(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.compile()
        model.save(path, include_optimizer=False)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "softmax layer", "nested"])
def test_answers_and_gradients_are_those_of_tf_keras(tf_keras, tmp_path, ending):
    import tensorflow as tf

    own = with_operation(tf_keras, ending)
    path = saved(own, tmp_path / "m.h5")
    classifier = Classifier.load(path, scaling="0..1")
    assert isinstance(classifier.model, old_keras.OldKerasModel)
    assert any("tf_keras" in note for note in classifier.notes)
    x = RNG.integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    expected = own(x / np.float32(255), training=False).numpy()
    if ending == "sigmoid":
        expected = np.concatenate([1 - expected, expected], axis=1)
    np.testing.assert_allclose(classifier.probabilities(x), expected, atol=1e-6)
    # Logits are what the activation is applied to.
    z = classifier.logits_of(x)
    assert classifier.head.rebuilt and np.abs(np.exp(z).sum(axis=1) - 1).max() > 1e-3
    points = tf.constant(x.astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(points)
        value = tf.reduce_sum(classifier.logits(points)[:, -1] - classifier.logits(points)[:, 0])
    slopes = tape.gradient(value, points).numpy()
    with tf.GradientTape() as tape:
        tape.watch(points)
        outputs = own(points / 255, training=False)
        first = 1 - outputs[:, 0] if ending == "sigmoid" else outputs[:, 0]
        value = tf.reduce_sum(tf.math.log(outputs[:, -1]) - tf.math.log(first))
    np.testing.assert_allclose(slopes, tape.gradient(value, points).numpy(), atol=1e-5)
    weights = own.count_params()
    assert classifier.card()["parameters"] == weights


@pytest.mark.slow
def test_an_audit_of_such_a_file(tf_keras, tmp_path):
    own = with_operation(tf_keras)
    path = saved(own, tmp_path / "m.h5")
    x = RNG.integers(0, 256, (12, *SHAPE), dtype=np.uint8)
    labels = own(x / np.float32(255), training=False).numpy().argmax(axis=1)
    result = robustness.audit(
        path, x, labels=labels, attacks=["pgd"], epsilons=[16], scaling="0..1", classes="a,b,c"
    )
    frame = result.to_frame()
    assert len(frame) == 12 and (frame.status == "flipped").any()
    assert not (frame.status == "failed").any()
    other = with_operation(tf_keras)
    other.set_weights([w + 0.01 for w in other.get_weights()])
    digests = {
        Classifier.load(saved(m, tmp_path / f"{n}.h5"), scaling="0..1").digest
        for n, m in enumerate((own, own, other))
    }
    assert len(digests) == 2


@pytest.mark.slow
def test_tf_keras_reads_files_of_keras_2_and_not_of_keras_1(tf_keras):
    files = Path(__file__).parent / "legacy" / "files"
    path = files / "keras_2.0.5_graph.h5"
    classifier = Classifier(old_keras.opened(path, False), scaling="0..255")
    with np.load(f"{path}.npz") as stored:
        images, expected = stored["images"], stored["answers"]
    assert np.abs(classifier.probabilities(images) - expected).max() < 1e-5
    with pytest.raises(ModelError, match="tf_keras could not load"):
        old_keras.opened(files / "keras_1.2.2_graph.h5", False)


def test_operations_that_are_no_arithmetic_are_refused(tf_keras, tmp_path):
    path = saved(with_operation(tf_keras), tmp_path / "m.h5")
    assert worker.unsafe_operations(str(path)) == []
    with h5py.File(path, "r+") as file:
        text = str(file.attrs["model_config"])
        assert "math.erfc" in text
        file.attrs["model_config"] = text.replace("math.erfc", "io.read_file")
    assert worker.unsafe_operations(str(path)) == ["io.read_file"]
    with pytest.raises((ModelError, UnsafeModelError), match=r"io\.read_file"):
        old_keras.opened(path)


@pytest.mark.parametrize(
    "function",
    [
        "io.write_file",
        "py_function",
        "numpy_function",
        "raw_ops.ReadFile",
        "math.add.x",
        "load_library",
    ],
)
def test_no_other_function_of_tensorflow_is_pure(function):
    assert not worker._PURE.fullmatch(function)


def test_without_tf_keras_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"robustness-toolkit\[old-keras\]"):
        old_keras.opened(tmp_path / "m.h5")
    assert "old-keras" in user_code.advice(["TFOpLambda"])


def test_messages_come_back_as_they_were():
    stream = io.BytesIO()
    arrays = [RNG.normal(size=(2, 3)).astype("float32"), np.zeros((0, 4), "uint8")]
    protocol.send(stream, {"do": "raw"}, *arrays)
    stream.seek(0)
    head, received = protocol.receive(stream)
    assert head == {"do": "raw"}
    for one, other in zip(arrays, received, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "arrays",
    [
        [["object", 2]],
        [["float32", -1]],
        [["float32", 10**10]],
        [["float32", 1, 1, 1, 1, 1, 1]],
        [["float32", 4]],
        "x",
        [3],
    ],
)
def test_messages_that_are_none(arrays):
    line = json.dumps({"arrays": arrays}).encode() + b"\n"
    with pytest.raises(protocol.BrokenMessageError):
        protocol.receive(io.BytesIO(line))
    for cut in (b"", b"{", b"[]\n"):
        with pytest.raises(protocol.BrokenMessageError):
            protocol.receive(io.BytesIO(cut))


@pytest.mark.slow
def test_a_real_file_that_both_load_answers_alike(tf_keras):
    path = Path(__file__).resolve().parents[4] / "shared" / "cases" / "models" / "traffic_signs.h5"
    if not path.exists():
        pytest.skip("traffic_signs.h5 is not here")
    ours, theirs = loading.load_model(path), old_keras.opened(path)
    x = RNG.uniform(0, 1, (6, 30, 30, 3)).astype("float32")
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)
    one, other = (Classifier(m, scaling="0..1") for m in (ours, theirs))
    assert one.digest != "" and one.card()["parameters"] == other.card()["parameters"]
    counts = (255 * x).astype("uint8")
    np.testing.assert_allclose(one.logits_of(counts), other.logits_of(counts), rtol=1e-3, atol=1e-3)


def test_both_causes_are_said_if_neither_loads_it(monkeypatch, tmp_path):
    def refuse(path: object, trust: bool) -> None:
        raise ModelError("tf_keras could not either.")

    monkeypatch.setattr(old_keras, "opened", refuse)
    with pytest.raises(ModelError, match=r"First\. tf_keras could not either\."):
        loading._opened_by_tf_keras(tmp_path / "m.h5", False, ModelError("First."))


def test_only_files_of_keras_2_are_given_to_it(monkeypatch):
    monkeypatch.setattr(old_keras, "installed", lambda: True)

    def given(version: str | None, conversion: Conversion | None = None) -> bool:
        report = loading.ScanReport("m.h5", "h5", "", 0, keras_version=version)
        return loading._by_tf_keras(replace(report, conversion=conversion))

    assert given("2.2.4-tf") and given("2.15.0") and given(None)
    assert not given("3.15.1") and not given("1.2.2") and not given("0.3.0")
    conversion = Conversion({}, "Keras 1", keras1=True, turned=False, notes=())
    assert not given(None, conversion=conversion)
