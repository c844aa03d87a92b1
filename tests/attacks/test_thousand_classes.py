"""Tests with a thousand classes: losses against NumPy, targets, and APGD-T against closed-form distances."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

import robustness
from robustness.attacks import APGDT
from robustness.images.class_match import match_names
from robustness.numerics import losses
from robustness.runs.store import Run
from tests.robustness.helpers import linear

CLASSES, SHAPE, EPSILON = 1000, (6, 6, 3), 4.0
NAMES = tuple(f"species {n:04d}" for n in range(CLASSES))


@pytest.fixture(scope="module")
def random_logits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (64, CLASSES)).astype("float32")
    return logits, rng.integers(0, CLASSES, 64), rng.integers(0, CLASSES, 64)


def test_losses_equal_their_definitions(random_logits) -> None:
    logits, own, aim = random_logits
    exact, rows = logits.astype("float64"), np.arange(len(logits))
    ordered = -np.sort(-exact, axis=1)
    others = np.where(np.arange(CLASSES) == own[:, None], -np.inf, exact)
    lead = others.max(axis=1) - exact[rows, own]
    summed = np.log(np.exp(exact).sum(axis=1)) - exact[rows, own]
    averaged = np.log(np.exp(others).sum(axis=1) / (CLASSES - 1)) - exact[rows, own]
    towards = exact[rows, own] - exact[rows, aim]
    classes = own.astype("int32")
    for found, expected in (
        (losses.margin(logits, classes), lead),
        (losses.cross_entropy(logits, classes), summed),
        (losses.log_odds(logits, classes), averaged),
        (losses.dlr(logits, classes), lead / (ordered[:, 0] - ordered[:, 2])),
        (
            losses.toward(logits, classes, aim.astype("int32")),
            towards / (ordered[:, 0] - ordered[:, 2:4].mean(axis=1)),
        ),
    ):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_losses_of_huge_logits_are_those_of_moderate_ones(random_logits, name) -> None:
    """All other classes may be below any constant that would replace the logit that is left out."""
    logits, own, _ = random_logits
    below, times = logits[:, :5] - 50, 2.0**100
    scale = times if name == "margin" else 1.0
    for some in (below, below + 100):
        found, expected = (
            np.asarray(losses.LOSSES[name](values.astype("float32"), (own % 5).astype("int32")))
            for values in (times * some, some)
        )
        np.testing.assert_allclose(found / scale, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def linear_model():
    """A linear model, images away from 0 and 255, their classes, and the distances to all other classes."""
    rng = np.random.default_rng(2)
    size = int(np.prod(SHAPE))
    weights = rng.normal(0, 0.004, (size, CLASSES)).astype("float32")
    images = rng.integers(100, 156, (48, *SHAPE)).astype(np.uint8)
    classifier = linear(weights, np.zeros(CLASSES), SHAPE)
    named = robustness.Classifier(
        classifier.model, scaling="0..255", head="logits", class_names=NAMES
    )
    scores = images.reshape(len(images), -1).astype("float64") @ weights.astype("float64")
    labels = scores.argmax(axis=1)
    behind = np.take_along_axis(scores, labels[:, None], 1) - scores
    reach = np.abs(weights[:, None, labels] - weights[:, :, None]).sum(axis=0).T
    distances = np.where(np.arange(CLASSES) == labels[:, None], np.inf, behind / (reach + 1e-12))
    return named, images, labels, distances, scores


def indices(rows: pd.DataFrame) -> list[int]:
    """The index in the array of each row's image: its key is "row N"."""
    return [int(key.removeprefix("row ")) for key in rows["image"]]


@pytest.mark.slow
def test_apgd_t_flips_what_its_nine_targets_reach_and_nothing_else(linear_model, tmp_path) -> None:
    classifier, images, labels, distances, scores = linear_model
    began = time.process_time()
    result = robustness.audit(
        classifier, images, labels=labels, attacks=[APGDT(steps=12)], epsilons=[EPSILON],
        out=tmp_path / "run", evidence="none",
    )  # fmt: skip
    assert time.process_time() - began < 60
    likeliest = np.argsort(-scores, axis=1)[:, 1:10]
    by_targets = np.take_along_axis(distances, likeliest, axis=1).min(axis=1)
    with Run.open(result.path) as run:
        rows = run.outcomes()
    flipped = np.zeros(len(images), bool)
    flipped[indices(rows[rows.status == "flipped"])] = True
    assert flipped[by_targets < 0.95 * EPSILON].all()
    assert not flipped[distances.min(axis=1) > EPSILON].any()
    assert 5 < flipped.sum() < len(images) - 5
    # All nine targets are tried on what holds: twelve steps of each.
    assert set(rows.backward[rows.status == "robust"]) == {9 * 12}


@pytest.mark.slow
def test_a_target_named_by_its_class_is_that_class(linear_model, tmp_path) -> None:
    classifier, images, labels, distances, _ = linear_model
    result = robustness.audit(
        classifier, images, labels=labels, attacks=["pgd"], epsilons=[12.0], target="species 0042",
        out=tmp_path / "run", evidence="none",
    )  # fmt: skip
    with Run.open(result.path) as run:
        goal, rows = run.manifest.config.goal, run.outcomes()
    assert goal is not None
    assert (goal.target, goal.class_name) == (42, "species 0042")
    flips = rows[rows.status == "flipped"]
    assert set(flips.adversarial_class) == {42}
    # Class 42 can lead only where it can lead the image's own class.
    assert set(indices(flips)) <= set(np.flatnonzero(distances[:, 42] <= 12))
    assert 0 < len(flips) < len(images)


def test_a_thousand_folders_are_matched_quickly() -> None:
    folders = [name.replace(" ", "_").upper() for name in reversed(NAMES)]
    began = time.process_time()
    found = match_names(folders, NAMES)
    assert time.process_time() - began < 5
    assert [found[folder][0] for folder in folders] == list(range(CLASSES))[::-1]
