"""Tests of the scaling that Keras Hub's preprocessor beside a model states."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from robustness.models.classifier import Classifier
from robustness.models.image_converter import converter_scaling
from robustness.models.scalings import SCALINGS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def written(folder: Path, settings: dict, name: str = "preprocessor.json") -> Path:
    """A model's file with a preprocessor as Keras Hub serializes it."""
    converter = {
        "module": "keras_hub.src.models.resnet.resnet_image_converter",
        "class_name": "ResNetImageConverter",
        "config": {"image_size": [224, 224], "interpolation": "bilinear"} | settings,
    }
    outer = {
        "module": "keras_hub.src.models.resnet.resnet_image_classifier_preprocessor",
        "class_name": "ResNetImageClassifierPreprocessor",
        "config": {"image_converter": converter, "config_file": "preprocessor.json"},
    }
    content = outer if name == "preprocessor.json" else converter
    (folder / name).write_text(json.dumps(content))
    return folder / "model.keras"


@pytest.mark.parametrize("name", ["preprocessor.json", "image_converter.json"])
@pytest.mark.parametrize(
    ("settings", "scaling"),
    [
        (
            {
                "scale": [1 / (255 * s) for s in STD],
                "offset": [-m / s for m, s in zip(MEAN, STD, strict=True)],
            },
            "torch",
        ),
        ({"scale": 1 / 127.5, "offset": -1.0}, "-1..1"),
        ({"scale": 0.003921569, "offset": None}, "0..1"),
        ({}, "0..255"),
    ],
)
def test_scale_and_offset_are_read(tmp_path, name, settings, scaling):
    found = converter_scaling(written(tmp_path, settings, name), 3)
    assert found is not None
    assert found[0] is SCALINGS[scaling] and name in found[1]


def test_numbers_without_a_name_are_kept(tmp_path):
    settings = {"scale": [0.01, 0.02, 0.03], "offset": [-1, -2, -3]}
    file = written(tmp_path, settings)
    found = converter_scaling(file, 3)
    assert found is not None
    assert found[0].multiply == (0.01, 0.02, 0.03) and found[0].offset == (-1, -2, -3)
    assert converter_scaling(file, 1) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 0.0},
        {"scale": "x"},
        {"scale": [1, 2]},
        {"scale": True},
        {"offset": [1, None, 2]},
        {"norm_mean": [0.5, 0.5, 0.5], "scale": 1.0},
    ],
)
def test_what_is_no_scaling_states_none(tmp_path, settings):
    assert converter_scaling(written(tmp_path, settings), 3) is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"config": 3}', '{"config": {"image_converter": 1}}', "[" * 9999]
)
def test_other_files_state_none(tmp_path, text):
    (tmp_path / "preprocessor.json").write_text(text)
    assert converter_scaling(tmp_path / "model.keras", 3) is None
    assert converter_scaling(None, 3) is None


def test_a_model_takes_the_scaling_beside_its_file_unless_another_is_given(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    file = written(tmp_path, {"scale": 1 / 127.5, "offset": -1.0})
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    found = Classifier.decide(model, images, None, head="logits", file=file)
    assert found.scaling is SCALINGS["-1..1"]
    assert "preprocessor.json beside the model" in found.scaling_reason
    np.testing.assert_allclose(
        found.logits_of(images), model.predict(images / 127.5 - 1, verbose=0), atol=1e-4
    )
    given = Classifier.decide(model, images, None, head="logits", file=file, scaling="0..1")
    assert given.scaling is SCALINGS["0..1"]
    # A model that scales counts itself takes counts.
    inside = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Rescaling(1 / 255), *model.layers]
    )
    own = Classifier.decide(inside, images, None, head="logits", file=file)
    assert own.scaling is SCALINGS["0..255"]
