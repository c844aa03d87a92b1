"""Models of `keras.applications` that tf_keras has built and saved answer here as they did there.

With `preprocess_input` inside and outside. `pip install tf_keras` runs the smallest ones;
ROBUSTNESS_ALL_FAMILIES=1 runs a member of every family, which takes some ten minutes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from robustness.models import loading
from robustness.models.inner_scaling import inner_scaling

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("tf_keras"), reason="needs tf_keras"),
]
SMALL = {
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3",
    "EfficientNetB0": "efficientnet",
    "RegNetX002": "regnet",
}
LARGE = {
    "EfficientNetV2B0": "efficientnet_v2",
    "ConvNeXtTiny": "convnext",
    "DenseNet121": "densenet",
    "InceptionV3": "inception_v3",
    "ResNet50": "resnet50",
    "ResNet50V2": "resnet_v2",
    "ResNetRS50": "resnet_rs",
    "VGG16": "vgg16",
    "Xception": "xception",
}
FAMILIES = SMALL | (LARGE if os.environ.get("ROBUSTNESS_ALL_FAMILIES") else {})
PROGRAM = """
import sys, numpy as np, tf_keras
folder, *families = sys.argv[1:]
for family in families:
    name, module = family.split(":")
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    side = 75 if name in ("InceptionV3", "Xception") else 32
    make = getattr(tf_keras.applications, name)
    model = make(weights=None, classes=4, input_shape=(side, side, 3))
    numbers = np.random.default_rng(0)
    model.set_weights([
        numbers.uniform(0.8, 1.2, w.shape).astype(w.dtype)
        if w.ndim == 1 and weight.name.split(":")[0].endswith(("gamma", "variance")) else w
        for weight, w in zip(model.weights, model.get_weights())
    ])
    entry = tf_keras.Input((side, side, 3))
    scaled = getattr(tf_keras.applications, module).preprocess_input(entry)
    whole = tf_keras.Model(entry, model(scaled))
    images = numbers.uniform(0, 255, (2, side, side, 3)).astype("float32")
    np.savez(f"{folder}/{name}.npz", images=images, bare=model(images / 255.0, training=False),
             whole=whole(images, training=False))
    model.save(f"{folder}/{name}.bare.keras")
    model.save(f"{folder}/{name}.bare.h5")
    whole.save(f"{folder}/{name}.whole.h5")
"""


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request, tmp_path_factory):
    """The name of a model, and the folder with its files."""
    folder = tmp_path_factory.mktemp("applications")
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), f"{request.param}:{FAMILIES[request.param]}"],
        env=os.environ | {"TF_USE_LEGACY_KERAS": "1"}, check=True, capture_output=True,
    )  # fmt: skip
    return request.param, folder


@pytest.mark.parametrize("kind", ["bare.h5", "bare.keras", "whole.h5"])
def test_the_answers_are_those_of_tf_keras(saved, kind):
    name, folder = saved
    stored = np.load(folder / f"{name}.npz")
    whole = kind.startswith("whole")
    images = tf.constant(stored["images"] / (1.0 if whole else 255.0))
    report = loading.scan(folder / f"{name}.{kind}")
    assert report.safe and not report.unconverted
    model = loading.load_model(folder / f"{name}.{kind}")
    with tf.GradientTape() as tape:
        tape.watch(images)
        answers = model(images, training=False)
        loss = tf.reduce_sum(answers[:, 0])
    expected = stored["whole" if whole else "bare"]
    assert np.abs(answers - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    assert np.abs(tape.gradient(loss, images)).max() > 0
    if whole:
        assert inner_scaling(model).counts
