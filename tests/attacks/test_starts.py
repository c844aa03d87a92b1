"""Tests of starting points: random, spread, and output-diversified."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from keras import ops
from scipy import stats

from robustness import backend
from robustness.attacks.components.starts import STARTS, code
from robustness.attacks.pgd import PGD
from robustness.contract.cost import passes
from robustness.engine import compiled_batch, jobs
from robustness.errors import SettingError
from robustness.testing import parametrize_with_checks
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import small_cnn, subjects

SHAPE = (12, 12, 3)
RADII = {"linf": 8.0, "l2": 60.0, "l1": 300.0}


def initial_states(start, norm="linf", restarts=5, images=2, classes=3):
    """Classifier, task and state of every restart (outer) of every image, before the first step."""
    classifier = small_cnn(3, SHAPE, classes)
    pixels = np.full((images, *SHAPE), 128, np.uint8)
    pixels[1:] += np.arange(1, images, dtype=np.uint8)[:, None, None, None]
    some = subjects(classifier, pixels)
    attack = PGD(start=start, restarts=restarts, steps=4)
    threat = Threat((RADII[norm],), NORMS[norm])
    places = [jobs.AttackJob(s, RADII[norm], r) for r in range(restarts) for s in some]
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=len(places), seed=0)
    state = rows.load(None, range(len(places)), places)
    task = rows.task(state["task"])
    return classifier, rows, task, state


@pytest.mark.slow
@parametrize_with_checks(
    [PGD(start=start, restarts=2, steps=10) for start in ("spread", "ods-spread")]
)
def test_the_contract_is_kept(check):
    check()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_spread_points_fill_the_ball_and_are_far_apart(norm):
    restarts = 5
    _, _, task, state = initial_states("spread", norm, restarts)
    points = ops.convert_to_numpy(state["own"]["point"]).reshape(restarts, 2, -1)
    moves = points - ops.convert_to_numpy(task.images).reshape(restarts, 2, -1)
    size = ops.convert_to_numpy(NORMS[norm].size(state["own"]["point"] - task.images))
    assert (size <= RADII[norm] * (1 + 1e-5)).all() and (size > 0.5 * RADII[norm]).all()
    for image in range(2):
        for a, b in combinations(range(restarts), 2):
            # Corners of a simplex are correlated by -1/4; two random points of 432 numbers by 0 +- 0.05.
            assert np.corrcoef(moves[a, image], moves[b, image])[0, 1] == pytest.approx(
                -0.25, abs=0.12
            )
    assert abs(np.corrcoef(moves[0, 0], moves[0, 1])[0, 1]) < 0.2


def test_each_spread_point_is_uniform_in_the_cube():
    _, _, task, state = initial_states("spread", "linf", 3, images=8)
    moves = ops.convert_to_numpy(state["own"]["point"] - task.images)
    assert stats.kstest(moves.ravel() / 8.0, "uniform", (-1, 2)).pvalue > 1e-3
    # Each restart by itself, not only all together.
    for restart in moves.reshape(3, -1):
        assert stats.kstest(restart / 8.0, "uniform", (-1, 2)).pvalue > 1e-3


def test_a_single_spread_start_is_a_random_one():
    spread, random = initial_states("spread", restarts=1), initial_states("random", restarts=1)
    np.testing.assert_array_equal(spread[3]["own"]["point"], random[3]["own"]["point"])


def gradient(classifier, points, weights):
    """The gradient of the weighted logits, computed directly with TensorFlow."""
    import tensorflow as tf

    x = tf.convert_to_tensor(points)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(classifier.logits(x) * weights)
    return tape.gradient(total, x).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["ods", "ods-spread"])
def test_the_first_two_steps_raise_the_weighted_logits(start):
    classifier, rows, task, state = initial_states(start, restarts=3)
    weights = ops.convert_to_numpy(STARTS[start].weights(task, 3, 3))
    points = [ops.convert_to_numpy(state["own"]["point"])]
    for _ in range(3):
        state, _ = rows.step(state)
        points.append(ops.convert_to_numpy(state["own"]["point"]))
    images = ops.convert_to_numpy(task.images)
    for before, after in pairwise(points[:3]):
        ahead = before + 8.0 * np.sign(gradient(classifier, before, weights))
        expected = np.clip(ahead, images - 8.0, images + 8.0)
        assert (np.abs(after - expected) > 1e-3).mean() < 2e-3
    # The third step lowers the loss, by a quarter of epsilon.
    assert np.abs(points[3] - points[2]).max() <= 2.0 + 1e-4


def test_random_mixtures_are_uniform_and_differ():
    _, _, task, _ = initial_states("ods", restarts=6, images=20)
    weights = ops.convert_to_numpy(STARTS["ods"].weights(task, 3, 6))
    assert stats.kstest(weights.ravel(), "uniform", (-1, 2)).pvalue > 1e-3
    assert len(np.unique(weights.round(5), axis=0)) == 120


@pytest.mark.slow
@pytest.mark.parametrize(("restarts", "classes"), [(3, 10), (6, 3), (5, 2)])
def test_spread_mixtures_are_the_rotated_spherical_code(restarts, classes):
    _, _, task, _ = initial_states("ods-spread", restarts=restarts, images=2)
    weights = ops.convert_to_numpy(STARTS["ods-spread"].weights(task, classes, restarts))
    vectors = code(restarts, max(2, min(restarts, classes)))
    for image in range(2):
        found = weights[image::2]
        np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=1e-4)
    assert np.abs(weights[0] - weights[1]).max() > 0.05
    again = ops.convert_to_numpy(STARTS["ods-spread"].weights(task, classes, restarts))
    np.testing.assert_array_equal(weights, again)


def test_the_spherical_code_is_available_during_tracing():
    traced = backend.compile(lambda x: x + code(4, 5).sum())
    np.testing.assert_allclose(
        ops.convert_to_numpy(traced(ops.ones(()))), 1 + code(4, 5).sum(), atol=1e-5
    )
    cosines = code(4, 5) @ code(4, 5).T
    np.testing.assert_allclose(cosines, (4 * np.eye(4) - 1) / 3, atol=1e-4)


@pytest.mark.slow
def test_diversification_steps_are_counted_as_steps():
    for start in STARTS:
        assert passes(PGD(steps=7, restarts=3, start=start), 4) == (21, 21)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"start": "ods", "steps": 2}, "steps=2 leaves no step after the 2 steps"),
        ({"start": "spread", "random_start": False}, "contradicts"),
        ({"start": "odi"}, "random | spread | ods | ods-spread"),
    ],
)
def test_invalid_starts_are_refused(settings, said):
    with pytest.raises(SettingError) as caught:
        PGD(**settings)
    assert said in str(caught.value)


def test_without_a_random_start_diversification_begins_at_the_image():
    classifier = small_cnn(3, SHAPE)
    some = subjects(classifier, np.full((1, *SHAPE), 128, np.uint8))
    attack = PGD(start="ods", steps=4, random_start=False)
    rows = compiled_batch.CompiledBatch(classifier, attack, Threat((8,)), batch_size=1, seed=0)
    state = rows.load(None, [0], [jobs.AttackJob(some[0], 8.0)])
    assert (ops.convert_to_numpy(state["own"]["point"]) == 128).all()
