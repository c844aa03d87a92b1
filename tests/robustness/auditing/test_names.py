"""Tests that Python takes the names of models, images and attacks that the command line takes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import robustness
from robustness.auditing import named_model
from robustness.errors import ImagesError, ModelError, SettingError
from robustness.images.named import open_named
from robustness.images.png import to_png
from robustness.model_zoo import registry
from robustness.models.classifier import Classifier


def small() -> Classifier:
    """A linear model of two classes, which are its brightness."""
    weights = np.zeros((4 * 4 * 3, 2), np.float32)
    weights[:, 1] = 1 / 48
    bias = np.array([0.0, -0.5], np.float32)
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.layers[-1].set_weights([weights, bias])
    return Classifier(model, scaling="0..1", class_names=["cat", "dog"])


@pytest.fixture
def zoo(monkeypatch):
    """The registry, with the weights of its models replaced by a small model; returns the names loaded."""
    loaded: list[str] = []

    def made(name: str) -> Classifier:
        loaded.append(name)
        return small()

    monkeypatch.setattr(registry, "_made", made)
    return loaded


@pytest.mark.slow
def test_names_of_models_images_and_attacks_are_those_of_the_command_line(zoo, tmp_path):
    result = robustness.audit(
        "dogs-vs-cats", "pets:8", attacks="pgd:steps=3,restarts=2", out=tmp_path / "run"
    )
    manifest = result.manifest
    assert zoo == ["dogs-vs-cats"]
    assert (
        manifest["data"]["description"] == "one photograph (Chelsea) and 7 rendered cats and dogs"
    )
    assert manifest["config"]["attacks"][0]["parameters"]["steps"] == 3
    assert manifest["config"]["attacks"][0]["parameters"]["restarts"] == 2


def test_other_class_names_may_be_given_for_a_model_of_the_zoo(zoo, tmp_path):
    """The message about folders that fit no class suggests it."""
    grey = np.full((128, 128, 3), 90, np.uint8)
    for name in ("Katze", "Hund"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(to_png(grey))
    model, photos = "dogs-vs-cats", str(tmp_path / "photos")
    with pytest.raises(ImagesError, match=r"names of the model's 2 outputs.*--classes"):
        robustness.audit(model, photos, attacks="fgsm")
    settings = {"attacks": "fgsm", "classes": ["Katze", "Hund"], "out": tmp_path / "run"}
    manifest = robustness.audit(model, photos, **settings).manifest
    assert manifest["class_names"] == ["Katze", "Hund"]
    assert manifest["model"]["scaling"]["name"] == "0..1"
    with pytest.raises(ModelError, match="3 class names"):
        robustness.audit(model, photos, attacks="fgsm", classes=["Katze", "Hund", "Maus"])


def test_a_surrogate_may_be_a_name(zoo, tmp_path):
    result = robustness.audit(
        small(), "pets:4", attacks="fgsm", surrogate="dogs-vs-cats", out=tmp_path / "run"
    )
    assert zoo == ["dogs-vs-cats"]
    assert result.manifest["surrogate"]["class_names"] == ["cat", "dog"]


def test_held_out_selects_as_on_the_command_line_and_further_filters_apply():
    with pytest.raises(ImagesError, match="no image is left"):
        robustness.audit(small(), "pets:8", held_out=True, only=lambda entry: entry.label == 7)
    names = [e.name for e in open_named("pets:200").entries()]
    held_out = robustness.plugins.load(robustness.plugins.INPUTS, "held-out")
    assert 0 < sum(map(held_out, names)) < len(names)


def test_sources_of_kaggle_go_to_the_zoo(monkeypatch):
    from robustness.model_zoo.kaggle import source

    with pytest.raises(SettingError, match="is data, not a model"):
        named_model.named_model("kaggle-competition:dogs-vs-cats", trust=False, class_names=None)
    assert "kaggle" in source.FORMS


def test_an_unknown_name_says_the_nearest_one_before_any_model_is_loaded(zoo):
    with pytest.raises(SettingError, match=r"Did you mean dogs-vs-cats\?$"):
        robustness.audit("dogs-vs-cat", "pets:4")
    assert zoo == []


def test_a_name_that_is_also_a_folder_is_refused_and_a_path_is_never_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    with pytest.raises(SettingError, match=r"Write \./pets"):
        open_named("pets")
    for path in ("./pets", tmp_path / "pets"):
        with pytest.raises(ImagesError, match="holds no pictures"):
            open_named(path)
