"""Files that old versions of Keras have written give the answers that those versions gave.

`scripts/write_old_models.py` has made the files, in an environment with each version: Keras 1.2.2, 2.0.5,
2.1.6, 2.2.4, 2.3.1; tf.keras of TensorFlow 1.15, 2.1, 2.4, 2.7, 2.9, 2.11, 2.12, 2.13, 2.15; tf_keras 2.21.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from robustness.errors import ModelError
from robustness.models import loading
from robustness.models.classifier import Classifier

# Tests of `limited_process` start new processes.
pytestmark = pytest.mark.usefixtures("forked_trials")
FILES = sorted(
    path for path in (Path(__file__).parent / "files").iterdir() if path.suffix != ".npz"
)
CASES = Path(__file__).parents[5] / "shared" / "cases" / "models"
CASES = Path(os.environ.get("ROBUSTNESS_TEST_CASES", CASES))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_old_file_answers_as_its_own_keras_did(path):
    report = loading.scan(path)
    version = path.name.split("_")[1]
    assert report.safe and not report.trial and not report.unconverted
    assert report.keras_version == version
    assert report.notes[0] == f"converted from Keras {version}"
    with np.load(f"{path}.npz") as stored:
        images, expected = stored["images"], stored["answers"]
    answers = loading.load_model(path)(images.astype("float32"), training=False).numpy()
    assert np.abs(answers - expected).max() < 1e-5
    assert expected.std() > 0.01, "answers that are all alike show nothing"


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_old_file_is_read_by_the_logits_before_its_softmax(path):
    classifier = Classifier.load(path, scaling="0..255")
    assert classifier.head.kind == "softmax" and classifier.head.rebuilt
    with np.load(f"{path}.npz") as stored:
        images, expected = stored["images"], stored["answers"]
    z = classifier.logits_of(images)
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    assert np.abs(powers / powers.sum(axis=1, keepdims=True) - expected).max() < 1e-5
    # These are the logits, not the logarithms of the probabilities.
    assert np.abs(np.exp(z).sum(axis=1) - 1).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_weights_of_an_old_file_go_into_its_architecture(path, tmp_path):
    (tmp_path / "m.json").write_text(loading.load_model(path).to_json(), "utf-8")
    model = loading.load_model(path, False, str(tmp_path / "m.json"))
    with np.load(f"{path}.npz") as stored:
        images, expected = stored["images"], stored["answers"]
    assert np.abs(model(images.astype("float32"), training=False).numpy() - expected).max() < 1e-5


def test_there_is_a_file_of_every_version():
    assert len({path.name.split("_")[1] for path in FILES}) == 15


OUTCOMES = {
    "dense_on_1000_features.h5": ((1000,), 2, "converted from Keras 2.1.2"),
    "flat_784.keras": ((784,), 10, ""),
    "keras_2_10_hdf5_named.keras": ((150, 150, 3), 2, "converted from Keras 2.10.0"),
    "keras_2_13.keras": ((784,), 10, "converted from Keras 2.13.1"),
    "keras_2_2_0_list_config.h5": ((128, 128, 3), 1, "converted from Keras 2.2.0"),
    "keras_2_2_4_tf.h5": ((128, 128, 3), 2, "converted from Keras 2.2.4-tf"),
    "mini_xception_2_0_5.hdf5": ((64, 64, 1), 2, "converted from Keras 2.0.5"),
    "nsigmoid.keras": ((32, 32, 3), 10, ""),
    "teachable_machine.h5": ((224, 224, 3), 2, "converted from Keras 2.4.0"),
    "traffic_signs.h5": ((30, 30, 3), 43, "converted from Keras 2.7.0"),
    "tut_dense1_logit.keras": ((32, 32, 3), 1, ""),
    "lfs_pointer.h5": "git lfs pull",
    "subclassed.keras": "CIFAR10Model",
}


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="needs the models of shared/cases")
@pytest.mark.parametrize("name", OUTCOMES)
def test_each_public_model_loads_or_says_why_not(name):
    outcome = OUTCOMES[name]
    if isinstance(outcome, str):
        with pytest.raises(ModelError, match=outcome):
            loading.load_model(CASES / name)
        return
    shape, outputs, note = outcome
    assert note in ("", *loading.scan(CASES / name).notes)
    model = loading.load_model(CASES / name)
    assert model.input_shape[1:] == shape
    assert model.output_shape[-1] == outputs


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="needs the models of shared/cases")
def test_a_model_without_an_image_input_is_refused():
    with pytest.raises(ModelError, match="1000"):
        Classifier.load(CASES / "dense_on_1000_features.h5", scaling="0..1")
