"""Tests of the backends: every installed backend gives the same results, each in its own process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np, keras
from keras import ops
from robustness.attacks import BIM, PGD
from robustness import backend as gradients
from robustness.engine import jobs, search as engine
from robustness.numerics import prng as draws
from robustness.models.classifier import Classifier
from robustness.errors import GradientError
from robustness.numerics.losses import cross_entropy
from robustness.threat.threat import Threat

rng = np.random.default_rng(0)
weights = rng.normal(0, 0.01, (48, 3)).astype("float32")
model = keras.Sequential([keras.layers.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
model.layers[-1].set_weights([weights, np.zeros(3, "float32")])
classifier = Classifier(model, scaling="0..255", head="logits")
images = rng.integers(0, 256, (5, 4, 4, 3)).astype("float32")
labels = np.array([0, 1, 2, 0, 1], "int32")

def loss(x, y):
    z = classifier.logits(x)
    return cross_entropy(z, y), z

# The gradient of a linear model in closed form, of all rows and of each row alone.
(values, logits), gradient = gradients.compile(gradients.value_and_grad(loss))(
    ops.convert_to_tensor(images), ops.convert_to_tensor(labels)
)
z = images.reshape(5, -1).astype("float64") @ weights
p = np.exp(z - z.max(1, keepdims=True)); p /= p.sum(1, keepdims=True)
expected = ((p - np.eye(3)[labels]) @ weights.T).reshape(images.shape)
np.testing.assert_allclose(ops.convert_to_numpy(gradient), expected, rtol=1e-3, atol=1e-7)
np.testing.assert_allclose(ops.convert_to_numpy(logits), z, rtol=1e-4, atol=1e-4)
for i in range(5):
    _, alone = gradients.value_and_grad(loss)(
        ops.convert_to_tensor(images[i : i + 1]), ops.convert_to_tensor(labels[i : i + 1])
    )
    np.testing.assert_allclose(ops.convert_to_numpy(alone)[0], expected[i], rtol=1e-3, atol=1e-7)

# A loss that ignores the image says so, or has no slope at all where the backend cannot tell.
try:
    _, flat = gradients.value_and_grad(lambda x: (ops.ones(5), x))(ops.convert_to_tensor(images))
    assert not ops.convert_to_numpy(flat).any()
    assert keras.backend.backend() == "jax"
except GradientError:
    pass

# Whole rows are taken, also of numbers that are not finite, within a compiled function as outside it.
which = np.array([True, False, True, False, True])
odd = np.where(images > 200, np.nan, images)
for take in (gradients.select_rows, gradients.compile(gradients.select_rows)):
    taken = take(*(ops.convert_to_tensor(x) for x in (which, images, odd)))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(taken), np.where(which[:, None, None, None], images, odd)
    )

# The same random bits everywhere, and the whole engine.
bits = draws.threefry(np.array([[0, 0]], "int32"), (np.zeros((1, 1), "int32"), np.zeros((1, 1), "int32")))
words = [int(np.asarray(ops.convert_to_numpy(b)).astype("int64")[0, 0]) & 0xFFFFFFFF for b in bits]
assert words == [0x6B200159, 0x99BA4EFE], words
pairs = enumerate(zip(images.astype("uint8"), z.argmax(1)))
subjects = [jobs.Example(str(i), x, int(y)) for i, (x, y) in pairs]
results = engine.run_attack(classifier, PGD(steps=5), Threat((2, 30)), subjects, batch_size=2)
found = {s.key: [x.flip and x.flip.distances.l1 for x in r] for s, r in results}
print(keras.backend.backend(), gradients.device().split()[0], sorted(found.items()))
"""


def answer(backend: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1].partition(" ")[2]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_each_backend_computes_the_expected_values(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    said = answer(backend)
    assert said.startswith(("CPU", "GPU"))
    assert "None" not in said.partition("(")[0]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_each_attack_runs_on_each_backend(backend):
    """The bits of a row do not depend on its slot on any backend."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "tests/attacks/test_batch_invariance.py"],
        env=os.environ | {"KERAS_BACKEND": backend},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["0", "1"])
def test_disabled_kernels_are_reported(setting):
    """TensorFlow keeps the kernels chosen at its import, or set by the environment."""
    words = "from robustness import backend; print(backend.device())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", words],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": setting, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    if done.stdout.startswith("GPU"):
        pytest.skip("a GPU runs, not the processor")
    assert ("import robustness before" in done.stdout) == (setting == "0")
