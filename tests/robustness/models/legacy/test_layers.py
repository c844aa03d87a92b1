"""Models of many layers that tf_keras has saved answer here as they did there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustness.models import loading

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("tf_keras"), reason="needs tf_keras"),
]
NAMES = (
    *("transformer", "recurrent", "normalised", "shared", "inference", "half", "deferred"),
    "activations",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("layers")
    program = Path(__file__).with_name("tf_keras_models.py")
    subprocess.run(
        [sys.executable, str(program), str(made)],
        env=os.environ | {"TF_USE_LEGACY_KERAS": "1"}, check=True, capture_output=True,
    )  # fmt: skip
    return made


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", NAMES)
def test_the_answers_are_those_of_tf_keras(folder, name, suffix):
    stored = np.load(folder / f"{name}.npz")
    # Opened without a trial in another process: the sizes of recurrent layers are not computed.
    model = loading.opened(folder / f"{name}.{suffix}")
    answers = np.asarray(model(stored["images"], training=False))
    assert np.abs(answers - stored["answers"]).max() < 1e-5
