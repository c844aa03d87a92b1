"""A file of weights is loaded into the model that is named: of Keras, of a JSON or YAML file, of own code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import robustness
from robustness.errors import ModelError, SettingError, UnsafeModelError
from robustness.models import architecture, loading

IMAGES = np.random.default_rng(0).integers(0, 256, size=(8, 6, 6, 3)).astype("uint8")


def small_model() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(),
         layers.Dense(2, activation="softmax")]
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(1)
    model = small_model()
    model.save_weights(made / "m.weights.h5")
    model.save(made / "m.h5")
    model.save(made / "m.keras")
    (made / "m.json").write_text(model.to_json())
    np.save(made / "answers.npy", model(IMAGES))
    (made / "own_model.py").write_text(
        "import keras\nfrom pathlib import Path\n\n\ndef make():\n"
        "    return keras.models.model_from_json(Path(__file__).with_name('m.json').read_text())\n\n\n"
        "def nothing():\n    return 3\n"
    )
    return made


@pytest.mark.parametrize("weights", ["m.weights.h5", "m.h5", "m.keras"])
@pytest.mark.parametrize("named", ["m.json", "own_model.py:make"])
def test_weights_of_every_layout_go_into_what_is_named(folder, weights, named):
    trust = named.endswith("make")
    model = loading.load_model(folder / weights, trust, str(folder / named))
    assert np.allclose(model(IMAGES), np.load(folder / "answers.npy"), atol=1e-6)


def test_a_module_of_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = list(sys.path)
    model = loading.load_model("m.weights.h5", True, "own_model:make")
    assert np.allclose(model(IMAGES), np.load("answers.npy"), atol=1e-6)
    assert sys.path == before


def test_code_runs_only_when_trusted(folder, tmp_path):
    witness = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(witness)!r}, 'w')\n")
    with pytest.raises(UnsafeModelError, match="--trust-model"):
        loading.load_model(folder / "m.weights.h5", False, f"{tmp_path / 'code.py'}:make")
    assert not witness.exists()


def test_a_file_of_keras_2_and_yaml(folder, tmp_path):
    yaml = pytest.importorskip("yaml")
    dense = {"name": "d", "units": 2, "batch_input_shape": [None, 3], "activation": "hard_sigmoid"}
    config = {"class_name": "Sequential", "keras_version": "2.1.6", "backend": "tensorflow",
              "config": [{"class_name": "Dense", "config": dense}]}  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(config))
    tuples = yaml.safe_dump(config).replace("- null\n", "- null # a tuple\n")
    (tmp_path / "m.yaml").write_text(
        tuples.replace("batch_input_shape:", "batch_input_shape: !!python/tuple")
    )
    x = np.full((1, 3), 1.0, "float32")
    for name in ("m.json", "m.yaml"):
        model = architecture.build(str(tmp_path / name))
        kernel, bias = np.full((3, 2), 0.4, "float32"), np.zeros(2, "float32")
        model.set_weights([kernel, bias])
        assert np.allclose(model(x), 0.2 * 1.2 + 0.5)


def test_yaml_that_stands_for_too_much_is_refused(tmp_path):
    pytest.importorskip("yaml")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    (tmp_path / "loop.yaml").write_text("a: &a [*a]\n")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system ['touch ran']\n")
    for name, words in (
        ("bomb", "stands for more"),
        ("loop", "stands for more"),
        ("code", "no plain YAML"),
    ):
        with pytest.raises(ModelError, match=words):
            architecture.build(str(tmp_path / f"{name}.yaml"))


def test_a_file_that_could_run_code_is_refused(folder, tmp_path):
    config = json.loads((folder / "m.json").read_text())
    config["config"]["layers"][1] |= {"module": "os", "class_name": "system"}
    (tmp_path / "m.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeModelError, match=r"os\.system"):
        architecture.build(str(tmp_path / "m.json"))


@pytest.mark.parametrize(
    ("named", "error", "words"),
    [
        ("nothing", SettingError, "expected keras.applications:NAME"),
        ("keras.applications:MobileNetV4", SettingError, "Did you mean MobileNetV2"),
        ("keras.applications:MobileNetV2:weights=imagenet", SettingError, "expected classes"),
        ("keras.applications:VGG16:alpha=2", SettingError, "has no parameter 'alpha'"),
        ("keras.applications:MobileNetV2:size=big", SettingError, "expected a number"),
        ("missing.json", ModelError, "cannot be read"),
        ("own_model.py:nothing", ModelError, "returns int"),
        ("own_model.py:missing", ModelError, "AttributeError"),
    ],
)
def test_what_names_no_model_says_what_would(folder, named, error, words):
    path = folder / named if named.startswith("own") else named
    with pytest.raises(error, match=words):
        loading.load_model(folder / "m.weights.h5", True, str(path))


@pytest.mark.slow
def test_weights_of_another_model_are_refused(folder):
    named = "keras.applications:MobileNetV2:classes=2,size=32,alpha=0.35"
    for weights in ("m.weights.h5", "m.h5", "m.keras"):
        with pytest.raises(ModelError, match="belong together"):
            loading.load_model(folder / weights, False, named)


@pytest.mark.slow
def test_an_audit_records_the_architecture_and_the_source(folder, tmp_path):
    labels = np.load(folder / "answers.npy").argmax(1)
    options = {"scaling": "0..255", "attacks": "fgsm", "epsilons": 2, "out": tmp_path / "run"}
    named = str(folder / "m.json")
    robustness.audit(folder / "m.weights.h5", IMAGES, labels=labels, architecture=named, **options)
    model = json.loads((tmp_path / "run" / "run.json").read_text())["model"]
    assert model["architecture"] == named
    assert model["format"] == "weights"
