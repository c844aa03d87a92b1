"""Tests that an audit leaves the user's model and process unchanged."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from keras import layers

import robustness
from robustness import environment
from robustness.attacks import PGD

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, *SHAPE), dtype=np.uint8)
PROGRAM = """
import gc, json, locale, logging, os, random, signal, sys, threading, warnings

# Libraries that set warning filters when they are imported.
import h5py, optree, pandas, PIL.Image, pydantic, scipy.stats, skimage
import keras, numpy as np
from keras import layers
import tensorflow as tf

images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
keras.utils.set_random_seed(1)
keras.config.set_dtype_policy("mixed_float16")
model = keras.Sequential([
    keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu", dtype="float32"), layers.Flatten(),
    layers.Dense(8, dtype="float32"), layers.Dense(3, activation="softmax", dtype="float32"),
])
labels = model.predict(images, verbose=0).argmax(1)
gc.collect()

def logger_state(name):
    logger = logging.getLogger(name)
    return [logger.level, len(logger.handlers), len(logger.filters), logger.disabled, logger.propagate]

def state():
    loggers = ["", "tensorflow", "keras", "absl", "PIL", "numpy"]
    return {
        "environment": dict(os.environ),
        "gc": [gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()],
        "warnings": [repr(f) for f in warnings.filters],
        "logging": [logging.root.manager.disable, {n: logger_state(n) for n in loggers}],
        "keras": [keras.config.floatx(), keras.config.epsilon(), keras.config.dtype_policy().name,
                  keras.config.image_data_format(), keras.config.is_traceback_filtering_enabled()],
        "numpy": [str(np.random.get_state()), str(np.geterr()), str(np.get_printoptions())],
        "python": hash(random.getstate()),
        "tensorflow": [str(tf.random.get_global_generator().state.numpy()),
                       tf.config.get_soft_device_placement(), tf.config.functions_run_eagerly(),
                       str(tf.config.threading.get_inter_op_parallelism_threads())],
        "signals": [str(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "directory": os.getcwd(),
        "threads": sorted(t.name.rpartition("_")[0] for t in threading.enumerate() if t.name != "MainThread"),
        "hooks": [str(sys.excepthook), str(threading.excepthook), sys.getrecursionlimit()],
        "locale": locale.setlocale(locale.LC_ALL),
    }

before, found = state(), {}
import robustness
from robustness import environment
from robustness.attacks import PGD
for precision in ("float32", "bfloat16"):
    result = robustness.audit(
        model, images, labels=labels, attacks=[PGD(steps=4), "square"], epsilons=[8], scaling="0..1",
        precision=precision, thorough=True,
    )
    after = state()
    assert len(result.to_frame()) == 24
    changed = [k for k in before if before[k] != after[k]]
    found[precision] = {k: [str(before[k])[-400:], str(after[k])[-400:]] for k in changed}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_process_is_unchanged():
    assert answer(PROGRAM) == {"float32": {}, "bfloat16": {}}


@pytest.mark.slow
def test_the_environment_is_restored_once_tensorflow_has_read_it():
    code = """
import os, json
before = dict(os.environ)
import robustness
from robustness import environment
between = {k: v for k, v in os.environ.items() if k not in before}
from robustness import backend
import keras
after = {k: v for k, v in os.environ.items() if before.get(k) != v}
print(json.dumps([between, after, backend.device()]))
"""
    between, after, device = answer(code)
    assert between == {"TF_ENABLE_ONEDNN_OPTS": "1"}
    assert "TF_ENABLE_ONEDNN_OPTS" not in after
    assert "oneDNN's kernels are off" not in device


@pytest.mark.slow
def test_tensorflow_imported_by_the_toolkit_logs_nothing_and_python_still_warns(tmp_path):
    (tmp_path / "talk.py").write_text("import warnings; warnings.warn('heard')\n")
    code = """
import os
import robustness
from robustness import environment
from robustness import environment
before = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
with environment.quiet_import():
    import talk
assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == before
robustness.audit
import tensorflow as tf
assert float(tf.reduce_sum(tf.ones((64, 64)) @ tf.ones((64, 64)))) == 64.0 ** 3
assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == before
assert "TF_ENABLE_ONEDNN_OPTS" not in os.environ
os.write(2, b"last")
"""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}

    def said(**given: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=False,
            env=plain | {"PYTHONPATH": str(tmp_path)} | given,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return [line for line in done.stderr.splitlines() if "Deprecat" not in line]

    shown = said()
    assert any("heard" in line for line in shown) and shown[-1].endswith("last"), shown
    assert not [line for line in shown if line.startswith(("I0", "W0", "E0", "WARNING: All"))]
    # Whoever sets the level sees the log.
    assert any("oneDNN" in line for line in said(TF_CPP_MIN_LOG_LEVEL="0"))


def answer(program: str):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_objects_frozen_for_the_collector_remain_frozen(monkeypatch):
    audited(network("sequential"))
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        audited(network("sequential"))
        # Unused objects are still freed.
        assert count / 2 < gc.get_freeze_count() <= count
    finally:
        gc.unfreeze()


class Composed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.parts = [
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
        ]
        self.hidden, self.last = layers.Dense(8), layers.Dense(3, activation="softmax")

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return self.last(self.hidden(x))


def network(kind: str) -> keras.Model:
    """A compiled model with frozen layers, a nested model, and pooling after an activation."""
    keras.utils.set_random_seed(5)
    if kind == "composed":
        model = Composed()
        model(np.zeros((1, *SHAPE), "float32"))
    else:
        dtype = "uint8" if kind == "whole" else "float32"
        trunk = [
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.1),
        ]
        body = [keras.Sequential(trunk)] if kind == "nested" else trunk
        model = keras.Sequential(
            [
                keras.Input(SHAPE, dtype=dtype),
                *body,
                layers.Flatten(),
                layers.Dense(8),
                layers.Dense(3, activation="softmax"),
            ]
        )
        if kind == "functional":
            model = keras.Model(model.inputs[0], model.outputs[0])
    model.layers[1].trainable = False
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", ["accuracy"])
    model.class_names = ["a", "b", "c"]
    # Keras records that a model was called.
    model(np.zeros((1, *SHAPE), "uint8" if kind == "whole" else "float32"), training=False)
    return model


def state(model: keras.Model) -> dict[str, object]:
    """The state of a model that its user can see, and the attributes of its layers."""
    every = model._flatten_layers()
    return {
        "config": json.dumps(model.get_config(), default=str)
        if type(model) is not Composed
        else "",
        "weights": hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest(),
        "variables": [(id(v), v.path, v.trainable, str(v.dtype)) for v in model.variables],
        "values": hashlib.sha256(
            b"".join(np.asarray(v.numpy()).tobytes() for v in model.variables)
        ).hexdigest(),
        "compiled": (model.compiled, id(model.optimizer), str(model.get_compile_config())),
        "iterations": int(model.optimizer.iterations.numpy()),
        "layers": [
            {name: attribute(value) for name, value in sorted(vars(layer).items())}
            | {
                "policy": layer.dtype_policy.name,
                "trainable": layer.trainable,
                "built": layer.built,
            }
            for layer in every
        ],
    }


def changes(before: dict, after: dict) -> list[object]:
    """The differences between two states of a model."""
    found: list[object] = [
        (key, before[key], after[key])
        for key in before
        if key != "layers" and before[key] != after[key]
    ]
    for n, (old, new) in enumerate(zip(before["layers"], after["layers"], strict=True)):
        found += [(n, k, old.get(k), new.get(k)) for k in old | new if old.get(k) != new.get(k)]
    return found


def attribute(value: object) -> object:
    if isinstance(value, list | tuple | dict | set):
        return (id(value), len(value))
    return value if isinstance(value, str | int | float | bool | None) else id(value)


def audited(model: keras.Model, **settings) -> robustness.AuditResult:
    inputs = (
        IMAGES
        if not isinstance(model, Composed) and "int" in str(model.inputs[0].dtype)
        else IMAGES.astype("float32")
    )
    labels = model(inputs, training=False).numpy().argmax(1)
    scaling = settings.pop("scaling", "0..255")
    return robustness.audit(
        model,
        IMAGES,
        labels=labels,
        attacks=[PGD(steps=4)],
        epsilons=[4],
        scaling=scaling,
        **settings,
    )


KINDS = ["sequential", "functional", "nested", "whole", "composed"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_unchanged_during_and_after_an_audit(kind, precision):
    model = network(kind)
    before, during = state(model), []
    audited(model, precision=precision, progress=lambda _: during.append(state(model)))
    assert during
    assert changes(before, state(model)) == []
    assert [changes(before, one) for one in during] == [[]] * len(during)


class StopError(Exception):
    pass


def test_the_model_is_unchanged_after_an_exception():
    model = network("nested")
    before = state(model)

    def stop(_) -> None:
        raise StopError

    with pytest.raises(StopError):
        audited(model, precision="bfloat16", progress=stop)
    assert changes(before, state(model)) == []
    assert gc.get_freeze_count() == 0


@pytest.mark.slow
def test_the_model_is_unchanged_after_audits_from_two_threads():
    model, failures = network("functional"), []
    before, seen, over = state(model), [], threading.Event()

    def work(precision: str) -> None:
        try:
            for _ in range(2):
                audited(model, precision=precision)
        except BaseException as error:
            failures.append(error)

    def watch() -> None:
        while not over.wait(0.01):
            seen.append({layer.dtype_policy.name for layer in model.layers})

    threads = [threading.Thread(target=work, args=(p,)) for p in ("bfloat16", "float32")]
    watcher = threading.Thread(target=watch)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    assert not failures
    assert seen and all(one == {"float32"} for one in seen)
    assert changes(before, state(model)) == []
    assert gc.get_freeze_count() == 0


def test_garbage_collection_is_paused_and_continues():
    """Also after an error, within another pause, and not where the user has turned it off."""
    assert gc.isenabled()
    with contextlib.suppress(ValueError), environment.without_garbage_collection():
        assert not gc.isenabled()
        with environment.without_garbage_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
        with environment.collecting_garbage():
            assert gc.isenabled()
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()
    gc.disable()
    try:
        with environment.without_garbage_collection(), environment.collecting_garbage():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
