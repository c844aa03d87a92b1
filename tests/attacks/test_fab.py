"""Tests of FAB: single steps computed by hand, the contract, and its starting points."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from robustness.attacks.fab import FAB, FABT
from robustness.engine import compiled_batch, jobs
from robustness.testing import parametrize_with_checks
from robustness.threat.goals import Targeted, Untargeted
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, subjects

SHAPE = (6, 6, 3)


@pytest.mark.slow
@parametrize_with_checks([FAB(steps=20), FABT(steps=20)])
def test_the_contract_is_kept(check):
    check()


def planes(seed=0, classes=4):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.01, (int(np.prod(SHAPE)), classes))
    images = rng.integers(100, 156, (3, *SHAPE)).astype(np.uint8)
    return linear(weights, -images.reshape(3, -1).mean(0) @ weights, SHAPE), images, weights


def steps(classifier, attack, threat, images, count, restart=0):
    some = subjects(classifier, images)
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=len(some), seed=0)
    places = [jobs.AttackJob(s, threat.epsilons[0], restart) for s in some]
    state = rows.load(None, range(len(some)), places)
    found = [ops.convert_to_numpy(state["own"]["point"]).astype("float64")]
    for _ in range(count):
        state, _ = rows.step(state)
        found.append(ops.convert_to_numpy(state["own"]["point"]).astype("float64"))
    return np.array([s.label for s in some]), found, rows


def test_the_first_l2_step_matches_the_paper():
    classifier, images, weights = planes()
    labels, found, rows = steps(classifier, FAB(), Threat((50,), NORMS["l2"]), images, 1)
    clean = ops.convert_to_numpy(classifier.logits(images.astype("float32"))).astype("float64")
    for image, label, z, after in zip(images, labels, clean, found[1], strict=True):
        x = image.astype("float64").ravel()
        best = None
        for rival in set(range(4)) - {label}:
            normal = weights[:, label] - weights[:, rival]
            distance = (z[label] - z[rival]) / np.linalg.norm(normal)
            if best is None or distance < best[0]:
                best = distance, -distance * normal / np.linalg.norm(normal)
        # From the image both projections are the same: x + 1.05 d, which flips, so back by 0.9.
        assert best is not None
        np.testing.assert_allclose(after.ravel(), x + 0.9 * 1.05 * best[1], atol=2e-2)
    # Two evaluations for each step, one backward pass for each other class.
    assert rows.passes == (2, 3)


def test_the_second_l2_step_matches_algorithm_1():
    """Algorithm 1: alpha (at most 0.1), both projections, eta, and beta after a flip."""
    classifier, images, weights = planes(classes=2)
    labels, found, _ = steps(classifier, FAB(), Threat((50,), NORMS["l2"]), images, 2)
    bias = classifier.model.layers[-1].get_weights()[1].astype("float64")
    for image, label, before, after in zip(images, labels, found[1], found[2], strict=True):
        normal = weights[:, label] - weights[:, 1 - label]
        offset = bias[label] - bias[1 - label]
        x, home = before.ravel(), image.astype("float64").ravel()

        def onto(point, normal=normal, offset=offset):
            return -(point @ normal + offset) / (normal @ normal) * normal

        here, there = onto(x), onto(home)
        sizes = np.linalg.norm(here), np.linalg.norm(there)
        alpha = min(float(sizes[0] / (sizes[0] + sizes[1])), 0.1)
        ahead = (1 - alpha) * (x + 1.05 * here) + alpha * (home + 1.05 * there)
        flips = ahead @ normal + offset < 0
        expected = home + 0.9 * (ahead - home) if flips else ahead
        np.testing.assert_allclose(after.ravel(), expected, atol=2e-2)


def test_later_starts_are_random_and_the_first_is_the_image():
    classifier, images, _ = planes()
    threat = Threat((8,))
    _, first, _ = steps(classifier, FAB(), threat, images, 0)
    _, second, _ = steps(classifier, FAB(), threat, images, 0, restart=1)
    np.testing.assert_array_equal(first[0], images)
    away = np.abs(second[0] - images)
    assert away.max() <= 4 + 1e-3
    assert away.max() > 2


@pytest.mark.slow
@pytest.mark.parametrize("restart", [0, 1, 2])
def test_fab_t_flips_to_the_class_of_its_start(restart):
    classifier, images, _ = planes(3)
    labels, found, rows = steps(
        classifier, FABT(), Threat((100,), NORMS["l2"]), images, 12, restart
    )
    clean = ops.convert_to_numpy(classifier.logits(images.astype("float32")))
    wanted = np.argsort(-clean, axis=1)[:, 1 + restart]
    after = ops.convert_to_numpy(classifier.logits(found[-1].astype("float32")))
    gap_before = clean[range(3), labels] - clean[range(3), wanted]
    gap = after[range(3), labels] - after[range(3), wanted]
    assert (np.abs(gap) < 0.2 * gap_before).all()
    assert rows.passes == (2, 1)


def test_fab_t_limits_targets_to_the_other_classes():
    assert FABT().adapted_to(Untargeted(), 4)[0].restarts == 3
    assert FABT().adapted_to(Untargeted(), 100)[0].restarts == 9
    assert FABT().adapted_to(Targeted(1), 100)[0].restarts == 1
