"""Tests of HDF5 files that Keras 3 writes and cannot read itself: they load with equal answers."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications.convnext import LayerScale
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from robustness.errors import ModelError, UnsafeModelError
from robustness.models import loading
from robustness.models.classifier import Classifier
from robustness.models.inner_scaling import inner_scaling
from robustness.models.legacy.keras3_hdf5 import MODULE_OF_OPERATION, completed

NOTES = (
    "layer CustomScaleLayer read as that of keras.applications.inception_resnet_v2; "
    "layer LayerScale read as that of keras.applications.convnext"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with `m.h5`: caffe's preprocessing, slices, both layers; and `nested.h5` with it inside."""
    folder = tmp_path_factory.mktemp("keras3")
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    body = keras.applications.resnet.preprocess_input(image)
    body = LayerScale(0.5, 3, name="own_scale")(body[:, 1:-1, ::2])
    body = CustomScaleLayer(0.2)([body, keras.ops.relu(body) / 6.0])
    body = body - keras.ops.average(body, axis=1)[:, None]
    body = keras.ops.arctan(body)  # an operation that the table lacks
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(body)))
    next(w for w in model.weights if "own_scale" in w.path).assign([0.01, 0.02, 0.03])
    model.save(folder / "m.h5")
    larger = keras.Input((16, 16, 3))
    nested = keras.Model(larger, keras.layers.Softmax()(model(larger[:, ::2, ::2])))
    nested.save(folder / "nested.h5")
    counts = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    np.save(folder / "m.npy", model(counts[:, :8, :8]))
    np.save(folder / "nested.npy", nested(counts))
    np.save(folder / "counts.npy", counts)
    return folder


def changed(source: Path, target: Path, change) -> Path:
    """A copy of an HDF5 file with its configuration edited by `change`."""
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "a") as file:
        config = json.loads(file.attrs["model_config"])
        change({entry["name"]: entry for entry in config["config"]["layers"]})
        file.attrs["model_config"] = json.dumps(config)
    return target


@pytest.mark.parametrize(("name", "side"), [("m", 8), ("nested", 16)])
def test_answers_are_those_of_the_saved_model(files, name, side):
    with pytest.raises((ValueError, TypeError)):
        keras.saving.load_model(files / f"{name}.h5")
    loaded = loading.opened(files / f"{name}.h5")
    counts = np.load(files / "counts.npy")[:, :side, :side]
    np.testing.assert_array_equal(np.asarray(loaded(counts)), np.load(files / f"{name}.npy"))


def test_kernels_of_depthwise_convolutions_are_found(tmp_path):
    """Keras 3 calls them otherwise than Keras 2 in HDF5; beside an operation, and for weights alone."""
    image = keras.Input((8, 8, 3))
    parts = keras.layers.DepthwiseConv2D(3, name="a")(image / 127.5)
    parts = keras.layers.SeparableConv2D(3, 3, name="b")(parts)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(parts)))
    model.save(tmp_path / "m.h5")
    twin = keras.models.clone_model(model)
    loading.load_weights(twin, tmp_path / "m.h5")
    for one in (twin, loading.opened(tmp_path / "m.h5")):
        for ours, theirs in zip(one.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_run_says_which_layers_it_took_for_those_of_keras(files):
    loaded = loading.opened(files / "nested.h5")
    assert Classifier(loaded, scaling="0..255").notes[0] == NOTES


def test_the_preprocessing_of_caffe_is_recognised(tmp_path):
    image = keras.Input((8, 8, 3))
    body = keras.layers.Flatten()(keras.applications.vgg16.preprocess_input(image))
    keras.Model(image, keras.layers.Dense(2)(body)).save(tmp_path / "m.h5")
    assert inner_scaling(loading.opened(tmp_path / "m.h5")).counts


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda config: config.update(gated=True), id="another setting"),
        pytest.param(lambda config: config.pop("init_values"), id="a missing setting"),
        pytest.param(lambda config: config.update(projection_dim=4), id="another shape"),
        pytest.param(lambda config: config.update(name="other"), id="another name"),
    ],
)
def test_a_layer_of_the_same_name_needs_its_code(files, tmp_path, change):
    path = changed(
        files / "m.h5", tmp_path / "m.h5", lambda layers: change(layers["own_scale"]["config"])
    )
    with pytest.raises(ModelError, match=r"only names: 'LayerScale'.*--import"):
        loading.opened(path)


def test_other_weights_need_the_code_of_the_layer(files, tmp_path):
    path = changed(files / "m.h5", tmp_path / "m.h5", lambda layers: None)
    with h5py.File(path, "a") as file:
        file["model_weights/own_scale/own_scale"].create_dataset("bias", data=np.zeros(3))
        file["model_weights/custom_scale_layer/custom_scale_layer/v"] = np.zeros(3)
    with pytest.raises(ModelError, match=r"only names: '(LayerScale|CustomScaleLayer)'"):
        loading.opened(path)
    assert "LayerScale" not in str(loading.scan(path).conversion.config["module"])


class Doubled(keras.layers.Layer):
    """A layer of a user with the settings of `CustomScaleLayer` that computes something else."""

    def __init__(self, scale, **settings):
        super().__init__(**settings)
        self.scale = scale

    def call(self, inputs):
        return inputs[0] * 2.0


def test_a_class_of_the_user_comes_first(files):
    loaded = loading.opened(files / "m.h5", objects={"CustomScaleLayer": Doubled})
    assert type(loaded.get_layer("custom_scale_layer")) is Doubled
    assert loaded.reading == "layer LayerScale read as that of keras.applications.convnext"


@pytest.mark.parametrize(
    "planted",
    [
        {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
        {"class_name": "function", "module": "os", "config": "system", "registered_name": "system"},
        {"class_name": "Popen", "module": "subprocess", "config": {}, "registered_name": "Popen"},
        {"class_name": "__typespec__", "module": "os", "spec_name": "system", "config": ["true"]},
    ],
)
def test_an_index_that_holds_code_is_refused(files, tmp_path, planted):
    def plant(layers):
        # Keras numbers the names of a process: "get_item_1" if another test made one before.
        index = next(layer for name, layer in layers.items() if name.startswith("get_item"))
        node = index["inbound_nodes"][0]
        node["args"][1] = [copy.deepcopy(planted), 2]

    path = changed(files / "m.h5", tmp_path / "m.h5", plant)
    assert not loading.scan(path).safe
    with pytest.raises(UnsafeModelError):
        loading.load_model(path)


def test_a_stated_module_is_not_replaced():
    """What the file itself names is judged by the scan, not completed."""
    entry = {"class_name": "GetItem", "module": "os", "name": "a", "config": {"name": "a"}}
    config = {"class_name": "Functional", "config": {"layers": [entry]}}
    assert completed(config, "3.15.1", {}) is None


@pytest.mark.parametrize("value", [None, 3, "x", [], [None], [[]], {}, [{}], [{"class_name": []}]])
def test_odd_configurations_are_left_to_keras(value):
    for config in (value, {"layers": value}, {"layers": [{"class_name": "LayerScale"}]}):
        assert completed({"class_name": "Functional", "config": config}, "3.15.1", {}) is None
    assert completed({"class_name": value, "config": {"layers": []}}, "3.15.1", {}) is None


def test_keras_has_the_operations():
    assert "Arctan" not in MODULE_OF_OPERATION
    for name, module in MODULE_OF_OPERATION.items():
        assert issubclass(getattr(importlib.import_module(module), name), keras.Operation), name
