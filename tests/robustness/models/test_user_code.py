"""Model files that only name their layers load with the user's code, and only when it is trusted."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import robustness
from robustness.errors import ModelError, SettingError
from robustness.models import loading, user_code
from robustness.models.classifier import Classifier

# Tests of `limited_process` start new processes.
pytestmark = pytest.mark.usefixtures("forked_trials")
CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "models"
CODE = """
import keras

class Halved{n}(keras.layers.Layer):
    def call(self, x):
        return x / 2

def twice{n}(x):
    return 2 * x
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a module `own_<n>`, which a saved model names; the module is unknown afterwards."""
    number = tmp_path.name.rpartition("_")[2]
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(CODE.format(n=number))
    monkeypatch.chdir(tmp_path)
    yield tmp_path, name, f"Halved{number}"
    for known in [m for m in sys.modules if m.startswith("own_")]:
        del sys.modules[known]


def saved(folder: Path, name: str, layer: str) -> tuple[Path, keras.Model]:
    kind = user_code.custom_objects([name], True)[layer]
    entry = keras.Input((4, 4, 3))
    flat = keras.layers.Flatten()(kind()(entry))
    model = keras.Model(entry, keras.layers.Dense(2, activation="softmax")(flat))
    model.save(folder / "m.keras")
    del sys.modules[name]
    return folder / "m.keras", model


SMALLER = """
import keras

@keras.saving.register_keras_serializable("own")
class Two(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.flat = keras.layers.Flatten()
        self.last = keras.layers.Dense(2, activation="softmax")
{extra}
    def call(self, x):
        return self.last({inner}self.flat(x){end})
"""


BLOCK = """
import keras

class Block{n}(keras.layers.Layer):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.inner = keras.layers.Dense(2, activation="softmax")

    def call(self, x):
        return self.inner(x)
"""


def test_an_own_layer_without_build_loads_without_a_warning(place):
    folder, name, _ = place
    (folder / f"{name}.py").write_text(BLOCK.format(n=1))
    block = user_code.custom_objects([name], True)["Block1"]
    entry = keras.Input((4, 4, 3))
    model = keras.Model(entry, block()(keras.layers.Flatten()(entry)))
    model.save(folder / "m.keras")
    del sys.modules[name]
    images = np.random.default_rng(0).random((3, 4, 4, 3)).astype("float32")
    loaded = loading.load_model(folder / "m.keras", True, imports=[name])
    np.testing.assert_array_equal(loaded(images), model(images))


def test_a_class_with_fewer_layers_than_the_file_is_refused(tmp_path, monkeypatch):
    """Keras loads it, and leaves the weights of the missing layer out."""
    monkeypatch.chdir(tmp_path)
    first = "        self.first = keras.layers.Dense(48)"
    (tmp_path / "whole.py").write_text(SMALLER.format(extra=first, inner="self.first(", end=")"))
    (tmp_path / "lesser.py").write_text(SMALLER.format(extra="", inner="", end=""))
    kind = user_code.custom_objects(["whole.py"], True)["Two"]
    model = kind()
    model(np.zeros((1, 4, 4, 3), "float32"))
    model.save(tmp_path / "m.keras")
    loaded = loading.load_model(tmp_path / "m.keras", True, imports=["whole.py"])
    assert len(loaded.weights) == 4
    with pytest.raises(ModelError, match="fewer or smaller layers"):
        loading.load_model(tmp_path / "m.keras", True, imports=["lesser.py"])


@pytest.mark.parametrize("as_file", [False, True])
def test_a_model_with_own_layers_loads_with_its_code(place, as_file):
    folder, name, layer = place
    path, model = saved(folder, name, layer)
    before = list(sys.path)
    loaded = loading.load_model(path, True, imports=[f"{name}.py" if as_file else name])
    x = np.random.default_rng(0).uniform(0, 1, (2, 4, 4, 3)).astype("float32")
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
    assert sys.path == before


def test_code_runs_only_when_trusted_in_the_same_call(place):
    folder, name, layer = place
    path, _ = saved(folder, name, layer)
    (folder / "evil.py").write_text("open('ran', 'w').close()")
    with pytest.raises(SettingError, match=r"--import evil\.py runs that code"):
        loading.load_model(path, imports=["evil.py"])
    with pytest.raises(SettingError, match="--trust-model"):
        robustness.audit(path, np.zeros((2, 4, 4, 3), np.uint8), imports=["evil"])
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import not_installed_anywhere", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 +", "SyntaxError"),
    ],
)
def test_code_that_fails_is_explained(place, code, error):
    (place[0] / "own_bad.py").write_text(code)
    for name in ("own_bad", "own_bad.py"):
        with pytest.raises(ModelError, match=f"--import {name} failed: {error}"):
            user_code.custom_objects([name], True)


@pytest.mark.parametrize("name", ["nothing.py", "a b", "sub/nothing.py", "-x", ""])
def test_what_is_no_module(place, name):
    with pytest.raises(SettingError, match="expected"):
        user_code.custom_objects([name], True)


def test_only_what_the_module_defines_is_registered(place):
    _, name, layer = place
    objects = user_code.custom_objects([name], True)
    assert set(objects) == {layer, layer.replace("Halved", "twice")}


OWN = """
import keras
L = keras.layers

class CIFAR10Model(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.conv1 = L.Conv2D(32, 3, activation="relu")
        self.conv2 = L.Conv2D(64, 3, activation="relu")
        self.pool1, self.pool2 = L.MaxPooling2D(), L.MaxPooling2D()
        self.flatten, self.dense1 = L.Flatten(), L.Dense(128, activation="relu")
        self.dropout, self.dense2 = L.Dropout(0.5), L.Dense(10)

    def call(self, x, training=False):
        x = self.pool2(self.conv2(self.pool1(self.conv1(x))))
        return self.dense2(self.dropout(self.dense1(self.flatten(x)), training=training))
"""


@pytest.mark.slow
def test_a_subclassed_model_of_others(place):
    path = CASES / "subclassed.keras"
    if not path.exists():
        pytest.skip("subclassed.keras is not here")
    with pytest.raises(ModelError, match=r"'CIFAR10Model'.*--import FILE\.py --trust-model"):
        loading.load_model(path)
    (place[0] / "own_cifar.py").write_text(OWN)
    classifier = Classifier.load(path, trust_model=True, imports=["own_cifar"], scaling="0..1")
    assert classifier.input_shape == (32, 32, 3) and len(classifier.class_names) == 10
