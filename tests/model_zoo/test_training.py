"""Tests of the training: resized weights, augmentation, statistics, resuming."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from robustness.model_zoo.dogs_vs_cats import photos, training
from robustness.model_zoo.dogs_vs_cats.architecture import build
from robustness.model_zoo.dogs_vs_cats.hardening import adversary


def test_a_resized_kernel_keeps_its_response_to_a_constant_map():
    """On a constant feature map only the sum of a filter matters."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6 * 6 * 128, 4)).astype("float32")
    kernel = np.repeat(kernel.reshape(36, 128, 4).mean(0, keepdims=True), 36, 0).reshape(-1, 4)
    large = training.resize_kernel(kernel, 6, 10)
    flat = rng.normal(size=128).astype("float32")
    before = np.tile(flat, 36) @ kernel
    after = np.tile(flat, 100) @ large
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_growing_keeps_every_other_weight():
    keras.utils.set_random_seed(0)
    small, large = build(32), build(48)
    training.grow(small, large)
    for a, b in zip(small.weights, large.weights, strict=True):
        if a.shape == b.shape:
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_augmented_pictures_are_valid_and_reproducible():
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3)).astype(np.uint8)
    first = training.augment(images, 32, np.random.default_rng(1)).numpy()
    again = training.augment(images, 32, np.random.default_rng(1)).numpy()
    other = training.augment(images, 32, np.random.default_rng(2)).numpy()
    assert first.shape == (6, 32, 32, 3)
    assert first.min() >= 0
    assert first.max() <= 1
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01


def test_the_adversary_keeps_its_budget_and_raises_the_loss():
    keras.utils.set_random_seed(0)
    model = build(32, dropout=0.0)
    images = np.random.default_rng(0).random((32, 32, 32, 3)).astype("float32")
    labels = np.arange(32) % 2
    moved = np.asarray(adversary(model, 3.0)(images, labels, np.random.default_rng(1)))
    assert np.abs(moved - images).max() <= 3 / 255 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    before, after = (
        model(x, training=True).numpy()[np.arange(32), labels] for x in (images, moved)
    )
    assert (after < before).mean() > 0.8


def test_recomputed_statistics_are_averages_without_dropout():
    keras.utils.set_random_seed(0)
    model = build(32)
    images = np.random.default_rng(0).integers(0, 256, (32, 40, 40, 3)).astype(np.uint8)
    batches = training.Batches(images, np.zeros(32, int), 32, batch=8, seed=0)
    training.settle_statistics(model, batches, 1)
    first = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    convolution = model.layers[0]
    seen = convolution(batches[0][0]).numpy()
    np.testing.assert_allclose(
        first.moving_mean.numpy(), seen.mean((0, 1, 2)), rtol=1e-3, atol=1e-4
    )
    assert first.momentum == 0.99
    assert [x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)] == [0.25] * 3 + [
        0.5
    ]


@pytest.fixture
def archive(tmp_path):
    """An archive in Kaggle's layout with a few dozen tiny photos."""
    inner = io.BytesIO()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(inner, "w") as train:
        for number in range(40):
            for kind in ("cat", "dog"):
                file = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(
                    file, "JPEG"
                )
                train.writestr(f"train/{kind}.{number}.jpg", file.getvalue())
    with zipfile.ZipFile(tmp_path / "dogs-vs-cats.zip", "w") as outer:
        outer.writestr("train.zip", inner.getvalue())
    return tmp_path / "dogs-vs-cats.zip"


def test_photos_are_split_by_name_and_kept(archive, tmp_path):
    train, labels = photos.arrays(archive, 16, held=False, cache=tmp_path)
    held, _ = photos.arrays(archive, 16, held=True, cache=tmp_path)
    names = [f"{kind}.{n}.jpg" for kind in ("cat", "dog") for n in range(40)]
    assert len(held) == sum(map(photos.held_out, names)) > 0
    assert len(train) + len(held) == 80
    again, same = photos.arrays(archive, 16, held=False, cache=tmp_path)
    np.testing.assert_array_equal(again, train)
    np.testing.assert_array_equal(same, labels)


@pytest.mark.slow
def test_training_runs_all_stages_and_resumes(archive, tmp_path, monkeypatch):
    small = replace(training.STAGES[0], side=32, epochs=1)
    settle = replace(training.STAGES[-1], side=40, epochs=0.5, renderings=2)
    stages = (small, settle)
    monkeypatch.setattr(
        training, "build", lambda side=40, *, dropout=1.0: build(side, dropout=dropout)
    )
    out = tmp_path / "out"
    done = training.train(archive, out, stages=stages, batch=8, seed=0, precision="float32")
    lines = [json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()]
    assert [x["stage"] for x in lines if "stage" in x] == ["small"] * 4 + ["last"] * 2
    assert sum("settled" in x for x in lines) == 2
    first = keras.saving.load_model(done).get_weights()
    done.unlink()
    again = training.train(archive, out, stages=stages, batch=8, seed=0, precision="float32")
    for a, b in zip(first, keras.saving.load_model(again).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len((out / "log.jsonl").read_text().splitlines()) == len(lines)
