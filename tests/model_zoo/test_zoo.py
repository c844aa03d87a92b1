"""Tests of loading models by name, file and source, through the public functions."""

import io
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import cast

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from robustness import model_zoo, plugins
from robustness.errors import ImagesError, ModelError, SettingError, UnsafeModelError
from robustness.model_zoo import info, registry
from robustness.model_zoo.dogs_vs_cats import architecture, photos, renderings, weights_file, zoo
from robustness.models.classifier import Classifier
from robustness.models.suffixes import MODEL_SUFFIXES
from scripts import publish_weights
from tests.robustness.helpers import small_cnn

# Keras itself warns when it saves a model under TensorFlow and NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parents[2]
PLUG_IN_MODULE = '''
from robustness.model_zoo import ModelInfo, zoo_model

def plain():
    """A model of a plug-in.

    More about it.
    """
    from tests.robustness.helpers import small_cnn
    return small_cnn(9)

@zoo_model(ModelInfo("another name", "Described.", (8, 8, 1), ("a", "b"), "a third party"))
def described():
    from tests.robustness.helpers import small_cnn
    return small_cnn(10)

def keras_alone():
    return plain().model

def nothing():
    return None

NUMBER = 3
'''


def installed(folder, name, models):
    """Make `folder` hold an installed distribution with these entry points."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in models.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))


@pytest.fixture
def zoo_of_all(tmp_path, monkeypatch):
    """The entry points of the toolkit's pyproject.toml, and those of a third-party plug-in."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    folder.mkdir()
    installed(folder, project["name"], project["entry-points"][registry.GROUP])
    (folder / "plug_in_models.py").write_text(PLUG_IN_MODULE)
    named = {
        name: f"plug_in_models:{name}" for name in ("plain", "described", "keras_alone", "nothing")
    }
    broken = {"number": "plug_in_models:NUMBER", "gone": "no_such_module:load"}
    installed(folder, "third_party", named | broken)
    monkeypatch.syspath_prepend(folder)
    return folder


def small_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )


# Names


def test_the_list_describes_every_model_even_broken_ones(zoo_of_all):
    models = {info.name: info for info in model_zoo.list_models()}
    assert list(models) == sorted(models)
    assert models["dogs-vs-cats"] == zoo.INFO
    assert models["plain"].summary == "A model of a plug-in."
    assert models["described"] == info.ModelInfo(
        "described", "Described.", (8, 8, 1), ("a", "b"), "a third party"
    )
    assert "cannot be imported: ModuleNotFoundError" in models["gone"].summary
    assert "is int; expected a callable" in models["number"].summary


def test_the_description_agrees_with_the_network():
    assert zoo.INFO.input_shape == architecture.INPUT_SHAPE
    assert zoo.INFO.classes == architecture.CLASS_NAMES == renderings.KINDS


def test_listing_needs_no_tensorflow(zoo_of_all):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import model_zoo;"
        "print([m.name for m in model_zoo.list_models()]);"
        "print({'tensorflow', 'keras', 'kagglesdk'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(zoo_of_all)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names, modules = done.stdout.splitlines()
    assert "'dogs-vs-cats'" in names
    assert modules == "set()"


def test_a_model_of_a_plug_in_is_loaded_by_name(zoo_of_all):
    images = np.zeros((1, 12, 12, 3), np.uint8)
    for name, seed in (("plain", 9), ("described", 10)):
        answers = model_zoo.load(name).probabilities(images)
        assert np.array_equal(answers, small_cnn(seed).probabilities(images))
    named = model_zoo.load("plain", class_names=["x", "y", "z"])
    assert tuple(named.class_names) == ("x", "y", "z")


@pytest.mark.parametrize(
    ("name", "kind"), [("keras_alone", "Sequential|Functional"), ("nothing", "NoneType")]
)
def test_a_plug_in_that_returns_no_classifier_is_named(zoo_of_all, name, kind):
    for class_names in (None, ["x", "y", "z"]):
        with pytest.raises(
            ModelError, match=f"the model '{name}' returned ({kind}); expected a Classifier"
        ):
            model_zoo.load(name, class_names=class_names)


def test_an_unknown_name_suggests_the_nearest(zoo_of_all):
    with pytest.raises(SettingError, match=r"'dog-vs-cat'\..* Did you mean dogs-vs-cats\?"):
        model_zoo.load("dog-vs-cat")
    with pytest.raises(SettingError, match=r"The zoo has: .*described, dogs-vs-cats.*kaggle:owner"):
        model_zoo.load("xyzzy")


def test_an_empty_zoo_is_reported(monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda **_: [])
    with pytest.raises(SettingError, match="not installed"):
        model_zoo.load("dogs-vs-cats")


@pytest.mark.parametrize("name", ["gone", "number"])
def test_a_broken_plug_in_is_named_in_the_error(zoo_of_all, name):
    with pytest.raises(ModelError, match=f"plug-in of the model '{name}'"):
        model_zoo.load(name)


@pytest.mark.parametrize("setting", [{"head": "logits"}, {"scaling": "0..1"}])
def test_a_zoo_model_keeps_its_own_head_and_scaling(zoo_of_all, setting):
    with pytest.raises(SettingError, match="has its own"):
        model_zoo.load("plain", **setting)


# Files


def test_a_file_is_loaded_unchanged(tmp_path):
    path = tmp_path / "net.keras"
    model = small_model()
    model.save(path)
    for spelling in (path, str(path)):
        loaded = model_zoo.load(spelling, class_names=("x", "y"), scaling="0..1")
        assert (loaded.name, loaded.class_names) == ("net", ("x", "y"))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype("float32")
    expected = model.predict(images / 255, verbose=0)
    np.testing.assert_allclose(loaded.probabilities(images), expected, atol=1e-6)


def test_trust_is_passed_on(tmp_path):
    path = tmp_path / "code.keras"
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Flatten()(keras.layers.Lambda(lambda x: x)(inputs))
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(outputs)).save(path)
    with pytest.raises(UnsafeModelError, match="Lambda"):
        model_zoo.load(path, scaling="0..1")
    assert len(model_zoo.load(path, scaling="0..1", trust_model=True).class_names) == 2


def test_files_and_names_are_not_confused(zoo_of_all, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no model file 'dogs-vs-cats.keras'"):
        model_zoo.load("dogs-vs-cats.keras")
    with pytest.raises(ModelError, match=r"no model file 'plain'"):
        model_zoo.load(Path("plain"))
    Path("plain").write_text("a file")
    assert isinstance(model_zoo.load("plain"), Classifier)
    Path("net.onnx").write_text("a file")
    with pytest.raises(ModelError, match="Keras"):
        model_zoo.load("net.onnx")


def test_a_data_source_is_refused_as_model():
    with pytest.raises(SettingError, match=r"is data, not a model.*fetch") as caught:
        model_zoo.load("kaggle-competition:dogs-vs-cats")
    assert all(suffix in str(caught.value) for suffix in MODEL_SUFFIXES)


def test_a_kaggle_source_is_fetched_and_loaded(tmp_path, monkeypatch):
    path = tmp_path / "net.keras"
    small_model().save(path)
    asked = []
    monkeypatch.setattr(registry, "fetch", lambda source: asked.append(source) or path)
    source = "kaggle-model:owner/pets/keras/small/1#net.keras"
    assert model_zoo.load(source, scaling="0..1").name == "net"
    assert asked == [source]


# The notebook's weights


def keras2_weights(path, model, rng):
    """Fill an HDF5 file as Keras 2 does with `save_weights`; returns the arrays in order."""
    arrays, names = [], []
    with h5py.File(path, "w") as file:
        for position, layer in enumerate(model.layers):
            name = f"{type(layer).__name__.lower()}_{position + 1}"
            names.append(name.encode())
            group = file.create_group(name)
            weights = [w for w in layer.weights if "seed" not in w.path]
            group.attrs["weight_names"] = [f"{name}/{w.name}:0".encode() for w in weights]
            for weight in weights:
                low = 0.1 if "variance" in weight.name else -0.05
                value = rng.uniform(low, 0.2, weight.shape).astype("float32")
                group.create_dataset(f"{name}/{weight.name}:0", data=value)
                arrays.append(value)
        file.attrs["layer_names"] = names
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.2.4"
    return arrays


@pytest.mark.slow
def test_keras_2_weights_of_the_notebook_load(tmp_path):
    path = tmp_path / "model.h5"
    arrays = keras2_weights(path, architecture.build(), np.random.default_rng(0))
    loaded = model_zoo.load(path)
    assert (loaded.class_names, loaded.scaling.name) == (("cat", "dog"), "0..1")
    assert loaded.name == "model"
    weights = [w for layer in loaded.model.layers for w in layer.weights if "seed" not in w.path]
    assert len(weights) == len(arrays) == 5 * 2 + 4 * 4
    for weight, value in zip(weights, arrays, strict=True):
        assert np.array_equal(weight.numpy(), value), weight.path


def test_weights_of_another_network_do_not_load(tmp_path):
    path = tmp_path / "other.weights.h5"
    small_model().save_weights(path)
    with pytest.raises(ModelError, match=r"'other.weights.h5' holds weights.*--architecture"):
        model_zoo.load(path)


# The built-in model


@pytest.fixture(scope="module")
def weights_with_card(tmp_path_factory):
    """Random weights with a card in the layout of the published ones, and the model."""
    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(1)
    model = architecture.build()
    path = folder / zoo.WEIGHTS.name
    facts = {"file": path.name, "sha256": weights_file.save(model, path)}
    (folder / weights_file.CARD).write_text(json.dumps({"weights": facts}))
    return model, path


@pytest.mark.slow
def test_the_built_in_model_is_loaded_by_name(zoo_of_all, weights_with_card, monkeypatch):
    model, path = weights_with_card
    monkeypatch.setattr(zoo, "WEIGHTS", path)
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")  # must not reach the model
    try:
        loaded = model_zoo.load("dogs-vs-cats")
        assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert isinstance(loaded, Classifier)
    assert (loaded.name, loaded.class_names) == ("dogs-vs-cats", ("cat", "dog"))
    assert (loaded.input_shape, loaded.scaling.name) == ((128, 128, 3), "0..1")
    assert {layer.compute_dtype for layer in loaded.model.layers} == {"float32"}
    pet = renderings.render("dog", 0)[None]
    expected = model(pet.astype("float32") / 255).numpy()
    np.testing.assert_allclose(loaded.probabilities(pet), expected, atol=2e-3)


def test_missing_weights_are_reported_with_alternatives(tmp_path):
    with pytest.raises(ModelError, match=r"not in this installation.*kaggle:uysimty"):
        zoo.from_weights(tmp_path / "none.npz")


# Publishing


class Judge:
    """A model that predicts class 1 where the first count is above 100."""

    def probabilities(self, images):
        above = images[:, 0, 0, 0] > 100
        return np.stack([~above, above], axis=1).astype("float32")


def test_the_tally_counts_every_picture_once():
    pictures = [(np.full((2, 2, 3), value, np.uint8), int(value > 90)) for value in range(200)]
    tally = publish_weights.tally(cast("Classifier", Judge()), iter(pictures))
    assert (tally.count, tally.total) == (190, 200)  # wrong from 91 to 100
    assert tally.share == 0.95
    with pytest.raises(ImagesError):
        publish_weights.tally(cast("Classifier", Judge()), iter([]))


def test_a_log_without_a_finished_stage_is_refused(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"stage": "small", "quarter": 1}\n')
    with pytest.raises(SettingError, match="no finished stage"):
        publish_weights.stages(log)
    log.write_text('{"stage": "small"}\n{"name": "small", "epochs": 2, "settled": 0.9}\n')
    assert publish_weights.stages(log) == [{"name": "small", "epochs": 2, "settled": 0.9}]


@pytest.mark.slow
def test_publishing_evaluates_the_published_file_on_held_out_images(weights_with_card, tmp_path):
    model, _ = weights_with_card
    model.save(tmp_path / "model.keras")
    names = [f"{kind}.{number}.jpg" for kind in ("cat", "dog") for number in range(30)]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number, name in enumerate(names):
            data = io.BytesIO()
            Image.new("RGB", (50, 40), (4 * number, 100, 30)).save(data, "JPEG")
            archive.writestr(f"train/{name}", data.getvalue())
    log = tmp_path / "log.jsonl"
    log.write_text('{"name": "full", "epochs": 1, "settled": 0.5}\n')
    folder = tmp_path / "out"
    path = publish_weights.publish(
        tmp_path / "model.keras", tmp_path / "photos.zip", log, folder, rendered=4, seed=7
    )
    card = json.loads(path.read_text())
    held = [name for name in names if photos.held_out(name)]
    assert card["training"]["photographs"] == len(names) - len(held)
    assert card["training"]["seed"] == 7
    assert card["held_out_photographs"]["of"] == len(held) > 0
    assert card["renderings"]["of"] == 4
    assert card["weights"]["parameters"] == 12_942_786
    published = zoo.from_weights(folder / card["weights"]["file"])
    pets = [(pixels, label) for _, label, pixels in renderings.renderings(4)]
    guesses = published.probabilities(np.stack([pixels for pixels, _ in pets])).argmax(1)
    assert card["renderings"]["right"] == int((guesses == [label for _, label in pets]).sum())
