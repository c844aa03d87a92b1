"""Tests of query attacks: the contract, the arithmetic of each algorithm, and the count of queries."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from robustness.attacks.few_pixel import FewPixel
from robustness.attacks.hopskipjump import HopSkipJump
from robustness.attacks.simba import SimBA
from robustness.attacks.spsa import SPSA
from robustness.engine import compiled_batch, jobs
from robustness.models.classifier import Classifier
from robustness.testing import parametrize_with_checks
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.attacks.test_minimum_distance import margins, planes, trajectory
from tests.robustness.helpers import small_cnn, subjects

SHAPE = (12, 12, 3)


@pytest.mark.slow
@parametrize_with_checks(
    [
        SPSA(steps=20, samples=32),
        SimBA(steps=600),
        SimBA(steps=600, frequencies=6),
        FewPixel(steps=20, population=40),
    ]
)
def test_the_contract_is_kept(check):
    check()


def test_spsa_estimates_the_gradient_of_a_linear_model():
    """The mean over many pairs is the gradient; the first step of Adam is its sign."""
    classifier, images, weights = planes(classes=2)
    attack = SPSA(samples=4000, learning_rate=1.0)
    labels, states, rows = trajectory(classifier, attack, Threat((20,)), images, 1)
    # The point itself, and every probe.
    assert rows.passes == (8001, 0)
    for row, label in enumerate(labels):
        normal = (weights[:, label] - weights[:, 1 - label]).reshape(images.shape[1:])
        slope = states[1]["first"][row] * states[1]["unit"][row] / 0.1
        # The standard error of each component for a linear function (from the squares of the others).
        error = np.linalg.norm(normal) / np.sqrt(4000)
        assert np.abs(slope - normal).max() < 5 * error
        moved = states[1]["point"][row] - images[row]
        np.testing.assert_allclose(np.abs(moved), 1.0, atol=1e-3)
        sure = np.abs(normal) > 5 * error
        assert sure.any()
        assert (np.sign(moved) == -np.sign(normal))[sure].all()


def test_spsa_steps_match_adam():
    classifier, images, _ = planes(classes=3)
    attack = SPSA(samples=20, learning_rate=2.0)
    _, states, _ = trajectory(classifier, attack, Threat((255,)), images, 6)
    adam = keras.optimizers.Adam(2.0, epsilon=1e-12)
    point = keras.Variable(images.astype("float32"))
    before = np.zeros(images.shape)
    for state, after in pairwise(states):
        # The estimates are random; they are recovered from the moving averages.
        slope = (after["first"] - 0.9 * state["first"]) / 0.1
        adam.apply([ops.convert_to_tensor(slope.astype("float32"))], [point])
        point.assign(ops.clip(point, 0, 255))
        np.testing.assert_allclose(ops.convert_to_numpy(point.value), after["point"], atol=1e-2)
        assert np.abs(after["point"] - before).max() > 0
        before = after["point"]


@pytest.mark.slow
@pytest.mark.parametrize("frequencies", [None, 4])
def test_simba_keeps_gains_and_else_tries_the_opposite_direction(frequencies):
    classifier = small_cnn(2)
    images = np.random.default_rng(0).integers(60, 196, (3, *SHAPE)).astype(np.uint8)
    attack = SimBA(frequencies=frequencies, step_size=8.0)
    labels, states, rows = trajectory(classifier, attack, Threat((2000,), NORMS["l2"]), images, 60)
    assert rows.passes == (1, 0)
    directions: list[list[Any]] = [[], [], []]
    for k in range(60):
        before, after = states[k], states[k + 1]
        loss = margins(classifier, before["point"], labels)[0]
        for row in range(3):
            gain = before["best_loss"][row] - loss[row]
            # Where the two losses differ only by rounding, either choice is valid.
            told = after["best_loss"][row] < before["best_loss"][row]
            better = gain > 0 if abs(gain) > 1e-4 else told
            best = before["point"][row] if better else before["best"][row]
            np.testing.assert_allclose(after["best"][row], best, atol=1e-3)
            move = after["point"][row] - best
            # Alg. 1: minus first; the plus side of the same direction only where that gained nothing.
            if better or before["side"][row] > 0:
                assert after["side"][row] == -1
                assert np.linalg.norm(move) == pytest.approx(8.0, rel=1e-3)
                directions[row].append(-move.ravel() / 8)
            else:
                assert after["side"][row] == 1
                np.testing.assert_allclose(move.ravel() / 8, directions[row][-1], atol=1e-3)
    for found in directions:
        some = np.stack(found)
        # Of an orthonormal basis, none twice.
        np.testing.assert_allclose(some @ some.T, np.eye(len(some)), atol=1e-3)
        if frequencies is None:
            assert (np.count_nonzero(np.abs(some) > 1e-4, axis=1) == 1).all()
        else:
            from scipy.fft import dctn

            waves = dctn(some.reshape(-1, *SHAPE), axes=(1, 2), norm="ortho")
            waves[:, :4, :4] = 0
            assert np.abs(waves).max() < 1e-3


def test_simba_repeats_no_direction_before_all_were_used():
    classifier, images, _ = planes()
    attack = SimBA(frequencies=2)
    _, states, _ = trajectory(classifier, attack, Threat((50,), NORMS["l2"]), images, 1)
    assert (np.sort(states[0]["order"], axis=1) == np.arange(12)).all()
    assert len({tuple(order) for order in states[0]["order"]}) == 3


def changed(points, images):
    return (np.abs(points - images) > 0).any(-1)


@pytest.mark.slow
def test_few_pixel_matches_the_differential_evolution_of_the_paper():
    classifier = small_cnn(4)
    images = np.random.default_rng(0).integers(60, 196, (3, *SHAPE)).astype(np.uint8)
    attack = FewPixel(population=12, pixels=3)
    labels, states, rows = trajectory(classifier, attack, Threat((3,), NORMS["l0"]), images, 12)
    assert rows.passes == (12, 0)
    top = np.array([12, 12, 255, 255, 255]) - np.array([0.01, 0.01, 0, 0, 0])
    for k in range(12):
        before, after = states[k], states[k + 1]
        for row in range(3):
            for one in range(12):
                picture = images[row].astype("float64")
                for pixel in before["children"][row, one]:
                    picture[int(pixel[0]), int(pixel[1])] = np.round(pixel[2:])
                loss = margins(classifier, picture[None], labels[row : row + 1])[0][0]
                old = before["losses"][row, one]
                assert after["losses"][row, one] == pytest.approx(min(loss, old), abs=1e-3)
                if abs(loss - old) > 1e-3:
                    survivor = before["children" if loss < old else "parents"][row, one]
                    np.testing.assert_array_equal(after["parents"][row, one], survivor)
            # x1 + (x2 - x3) / 2 of three different candidates (eq. 1), brought onto the picture.
            parents, children = after["parents"][row], after["children"][row]
            for one in range(12):
                others = [i for i in range(12) if i != one]
                assert any(
                    np.allclose(
                        np.clip(parents[a] + 0.5 * (parents[b] - parents[c]), 0, top),
                        children[one],
                        atol=1e-3,
                    )
                    for a in others
                    for b in others
                    for c in others
                    if len({a, b, c}) == 3
                )
            assert changed(after["point"][row], images[row]).sum() <= 3
            best = after["losses"][row].min()
            ahead = margins(classifier, after["point"][row][None], labels[row : row + 1])[0][0]
            assert ahead == pytest.approx(best, abs=1e-3)


@pytest.mark.slow
def test_few_pixel_changes_at_most_epsilon_pixels():
    classifier = small_cnn(4)
    images = np.random.default_rng(1).integers(60, 196, (3, *SHAPE)).astype(np.uint8)
    attack = FewPixel(population=8, pixels=5)
    some = subjects(classifier, images)
    rows = compiled_batch.CompiledBatch(
        classifier, attack, Threat((1, 2, 9), NORMS["l0"]), batch_size=3, seed=0
    )
    state = rows.load(
        None, range(3), [jobs.AttackJob(s, e) for s, e in zip(some, (1, 2, 9), strict=True)]
    )
    for _ in range(5):
        state, _ = rows.step(state)
    points = ops.convert_to_numpy(state["own"]["point"])
    assert (changed(points, images).sum(axis=(1, 2)) <= [1, 2, 5]).all()


@pytest.mark.slow
def test_hopskipjump_estimates_the_normal_of_a_plane():
    """The sum of many probes around a boundary point approximates the normal of the plane."""
    classifier, images, weights = planes(classes=2)
    attack = HopSkipJump(initial_probes=4000, points=50)
    threat = Threat((2000,), NORMS["l2"])
    labels, states, _ = trajectory(classifier, attack, threat, images, 120)
    for row, label in enumerate(labels):
        phases = [int(state["phase"][row]) for state in states]
        jump = phases.index(3)
        # Phases in this order: initial search, bisection, 4000 / 50 probes.
        assert phases[:jump] == sorted(phases[:jump])
        assert phases[:jump].count(2) == 80
        normal = weights[:, 1 - label] - weights[:, label]
        felt = states[jump]["normal"][row].ravel()
        cosine = felt @ normal / np.linalg.norm(felt) / np.linalg.norm(normal)
        # Each probe gives one bit. For n independent probes in d dimensions the cosine is about
        # sqrt(2n / (2n + pi d)); these are orthogonal to one another.
        assert cosine > np.sqrt(8000 / (8000 + np.pi * normal.size))
        gap, _ = margins(classifier, states[jump]["point"][row][None], labels[row : row + 1])
        assert abs(gap[0]) < 0.02 * np.linalg.norm(normal) * attack.probe * normal.size


@pytest.mark.slow
def test_hopskipjump_approaches_a_single_boundary():
    """With several boundaries it would find the one between the image and its start."""
    classifier, images, weights = planes(classes=2)
    attack, threat = HopSkipJump(), Threat((2000,), NORMS["l2"])
    labels, states, rows = trajectory(classifier, attack, threat, images, attack.steps)
    assert rows.passes == (5, 0)
    for row, label in enumerate(labels):
        normal = weights[:, 1 - label] - weights[:, label]
        gap, _ = margins(classifier, images[row][None], labels[row : row + 1])
        least = gap[0] / np.linalg.norm(normal)
        reached = np.linalg.norm(states[-1]["point"][row] - images[row])
        assert least * 0.999 <= reached <= 1.05 * least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "norm", "a_step"),
    [
        (SPSA(samples=3), "linf", 7),
        (SimBA(), "l2", 1),
        (FewPixel(population=7), "l0", 7),
        (HopSkipJump(points=4), "l2", 4),
    ],
)
def test_counted_queries_equal_those_the_model_answers(attack, norm, a_step):
    """Compare with the number of pictures that the model itself counts."""
    counted = {"pictures": 0}

    @keras.saving.register_keras_serializable()
    class Counting(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            def add(n):
                counted["pictures"] += int(n)
                return np.float32(0)

            zero = tf.py_function(add, [tf.shape(x)[0]], tf.float32)
            zero.set_shape(())
            return x + zero

        def compute_output_shape(self, shape):
            return shape

    layers = [keras.layers.Input(SHAPE), Counting(), keras.layers.Flatten(), keras.layers.Dense(3)]
    classifier = Classifier(keras.Sequential(layers), scaling="0..255", head="logits", name="c")
    images = np.random.default_rng(1).integers(60, 196, (2, *SHAPE)).astype(np.uint8)
    some = subjects(classifier, images)
    rows = compiled_batch.CompiledBatch(
        classifier, attack, Threat((3,), NORMS[norm]), batch_size=2, seed=0
    )
    state = rows.load(None, range(2), [jobs.AttackJob(s, 3.0) for s in some])
    state, _ = rows.step(state)
    before = counted["pictures"]
    for _ in range(3):
        state, _ = rows.step(state)
    assert rows.passes == (a_step, 0)
    assert counted["pictures"] - before == 2 * 3 * a_step
