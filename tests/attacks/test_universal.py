"""Tests of universal perturbations and patches: linear models, new images, the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from keras import ops

import robustness
from robustness.attacks.universal import Patch, Universal
from robustness.attacks.universal_fit import GAIN, Fitted, PatchRegion, fit
from robustness.errors import SettingError
from robustness.threat.goals import Targeted
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, small_cnn

SHAPE = (6, 6, 3)


def halfspace(seed=0, rows=24):
    """A linear model, images all of class 1, and its normal."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))
    normal = rng.normal(0, 0.01, size)
    images = rng.integers(90, 166, (rows, *SHAPE)).astype(np.uint8)
    scores = images.reshape(rows, -1) @ normal
    weights = np.stack([np.zeros(size), normal], axis=1)
    return linear(weights, np.array([0, 0.05 - scores.min()]), SHAPE), images, normal, scores


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_perturbation_of_a_linear_model_is_the_steepest_change(norm):
    """All margins fall equally, so the best change is that of the dual norm; nothing is clipped."""
    _, images, normal, scores = halfspace()
    epsilon = {"linf": 3.0, "l2": 25.0}[norm]
    # A goal that no image reaches, so that the loss stays linear.
    labels = np.ones(len(images), int)
    far = linear(np.stack([0 * normal, normal], 1), np.array([0, 50 - scores.min()]), SHAPE)
    found = fit(far, images, labels, Threat((epsilon,), NORMS[norm]), steps=60)
    best = (
        -np.sign(normal) * epsilon if norm == "linf" else -epsilon * normal / np.linalg.norm(normal)
    )
    assert found.values.ravel() @ normal < 0.99 * (best @ normal)
    assert ops.convert_to_numpy(NORMS[norm].size(found.values[None]))[0] <= epsilon * (1 + 1e-5)
    assert found.losses[-1] < found.losses[0]
    assert found.flipped == 0


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("count", [1, 33, 53])
def test_any_number_of_images_is_fitted_on(norm, count):
    """The first loss is the mean margin, however the images are divided into pieces."""
    _, images, normal, _ = halfspace(rows=count)
    scores = images.reshape(count, -1) @ normal
    far = linear(np.stack([0 * normal, normal], 1), np.array([0, 50 - scores.min()]), SHAPE)
    margins = scores + 50 - scores.min()
    found = fit(far, images, np.ones(count, int), Threat((3.0,), NORMS[norm]), steps=2)
    assert found.losses[0] == pytest.approx(np.mean(margins) * (1 + GAIN), rel=1e-5)
    assert found.losses[-1] < found.losses[0]


@pytest.mark.slow
def test_the_perturbation_flips_new_images(tmp_path):
    classifier, images, normal, _ = halfspace()
    epsilon = 8.0
    fitted = fit(classifier, images[:12], np.ones(12, int), Threat((epsilon,)), steps=40)
    assert fitted.images == 12
    fitted.save(tmp_path / "change.npz")
    attack = Universal(file=str(tmp_path / "change.npz"))
    result = robustness.audit(
        classifier, images[12:], labels=np.ones(12, int), attacks=[attack], epsilons=[epsilon],
        out=tmp_path / "run", batch_size=4,
    )  # fmt: skip
    # The change lowers every margin by the same amount.
    falls = -np.rint(fitted.values).ravel() @ normal
    scores = classifier.logits_of(images[12:])[:, 1] - classifier.logits_of(images[12:])[:, 0]
    assert result.flip_rate == pytest.approx(np.mean(scores < falls), abs=1e-9)
    assert result.flip_rate > 0.5
    attack_said = result.to_frame().attack.iloc[0]
    assert "universal" in attack_said


def test_a_smaller_budget_clips_the_perturbation():
    classifier, images, *_ = halfspace()
    fitted = fit(classifier, images, np.ones(24, int), Threat((8.0,)), steps=5)
    assert np.abs(fitted.values).max() <= 8


@pytest.mark.slow
def test_a_patch_changes_only_its_square(tmp_path):
    classifier, images, normal, _ = halfspace()
    place = PatchRegion(1, 2, 3)
    fitted = fit(
        classifier, images, np.ones(24, int), Threat((9.0,), NORMS["l0"]), place=place, steps=60
    )
    fitted.save(tmp_path / "patch.npz")
    result = robustness.audit(
        classifier, images, labels=np.ones(24, int),
        attacks=[Patch(file=str(tmp_path / "patch.npz"))], norm="l0", epsilons=[4, 9],
        out=tmp_path / "run", batch_size=4,
    )  # fmt: skip
    frame = result.to_frame()
    flips = frame[frame.status == "flipped"]
    assert len(flips)
    assert (flips.l0 <= 9).all()
    assert fitted.flipped > 0.9
    # Free in its square: opposite to the normal, black or white wherever the weight matters.
    inside = np.zeros(SHAPE, bool)
    inside[1:4, 2:5] = True
    slopes = normal.reshape(SHAPE)
    steep = inside & (np.abs(slopes) > 0.005)
    towards = np.where(slopes > 0, fitted.values < 127.5, fitted.values > 127.5)
    assert towards[steep].all()
    np.testing.assert_array_equal(
        fitted.onto(images.astype("float32"))[:, ~inside], images[:, ~inside]
    )


def test_a_saved_perturbation_is_loaded_unchanged(tmp_path):
    classifier = small_cnn(0, SHAPE)
    images = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    threat = Threat((8.0,), goal=Targeted(int((labels[0] + 1) % 3)))
    for place in (None, PatchRegion(0, 0, 2)):
        fitted = fit(classifier, images, labels, threat, place=place, steps=3)
        fitted.save(tmp_path / "one.npz")
        again = Fitted.load(tmp_path / "one.npz")
        np.testing.assert_array_equal(again.values, fitted.values)
        bare: Any = 0  # comparing arrays does not give a single bool
        assert replace(again, values=bare) == replace(fitted, values=bare)
        assert again.model == classifier.digest
        assert again.goal.startswith("targeted")


def test_invalid_fits_and_files_are_refused(tmp_path):
    classifier, images, *_ = halfspace()
    ones = np.ones(24, int)
    with pytest.raises(SettingError, match="None of the fitting images"):
        fit(classifier, images, 1 - ones, Threat((8.0,)))
    with pytest.raises(SettingError, match="not inside an image of 6 × 6"):
        fit(classifier, images, ones, Threat((8.0,)), place=PatchRegion(4, 0, 3))
    with pytest.raises(SettingError, match="no l0 version"):
        fit(classifier, images, ones, Threat((8.0,), NORMS["l0"]))
    with pytest.raises(SettingError, match="robustness fit"):
        Universal().expect_norm(NORMS["linf"])
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(SettingError, match="holds no fitted change"):
        Universal(file=str(tmp_path / "bad.npz")).expect_norm(NORMS["linf"])
    fitted = fit(classifier, images, ones, Threat((8.0,)), steps=1)
    fitted.save(tmp_path / "all.npz")
    with pytest.raises(SettingError, match="is for the attack universal"):
        Patch(file=str(tmp_path / "all.npz")).expect_norm(NORMS["l0"])


@pytest.mark.slow
def test_the_command_line_fits_a_perturbation(tmp_path):
    from typer.testing import CliRunner

    from robustness.cli import app

    file = tmp_path / "change.npz"
    done = CliRunner().invoke(
        app, ["fit", str(file), "-i", "pets:6", "-e", "12", "--steps", "2"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert "images it was fitted on" in done.output
    assert Fitted.load(file).values.shape == (128, 128, 3)
    wrong = CliRunner().invoke(app, ["fit", str(file), "--patch", "1,2"])
    assert "expected TOP,LEFT,SIDE" in str(wrong.exception)
