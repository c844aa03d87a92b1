"""Tests of the noise baselines: within the budget, independent at each step and of the model."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from robustness.attacks.noise import GaussianNoise, UniformNoise
from robustness.testing import parametrize_with_checks
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.attacks.test_minimum_distance import trajectory
from tests.robustness.helpers import small_cnn

EPSILON = {"linf": 6.0, "l2": 60.0, "l1": 600.0, "l0": 9.0}
CASES = [
    (kind, norm) for kind in (UniformNoise(steps=3), GaussianNoise(steps=3)) for norm in kind.norms
]


@pytest.mark.slow
@parametrize_with_checks([UniformNoise(steps=3), GaussianNoise(steps=3)])
def test_the_contract_is_kept(check):
    check()


def drawn(attack, norm, count=4):
    classifier = small_cnn(0)
    images = np.full((3, 12, 12, 3), 128, np.uint8)
    _, states, rows = trajectory(
        classifier, attack, Threat((EPSILON[norm],), NORMS[norm]), images, count
    )
    assert rows.passes == (1, 0)
    return np.stack([s["point"] - 128.0 for s in states[1:]])


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "norm"), CASES)
def test_every_step_draws_new_noise_and_uses_the_budget(attack, norm):
    changes = drawn(attack, norm)
    flat = changes.reshape(-1, *changes.shape[2:]).astype("float32")
    sizes = ops.convert_to_numpy(NORMS[norm].size(flat))
    assert (sizes <= EPSILON[norm] * (1 + 1e-4)).all()
    assert (sizes > 0.9 * EPSILON[norm]).all()
    # No two alike, neither among steps nor among rows.
    wide = flat.reshape(len(flat), -1)
    alike = np.corrcoef(wide) - np.eye(len(wide))
    assert np.abs(alike).max() < 0.6 if norm == "l0" else np.abs(alike).max() < 0.25


def test_the_deviation_of_linf_gaussian_noise_is_half_the_budget():
    changes = drawn(GaussianNoise(), "linf", 8).ravel()
    inside = np.abs(changes) < EPSILON["linf"]
    # A normal distribution truncated at two standard deviations.
    assert inside.mean() == pytest.approx(0.9545, abs=0.01)
    assert changes[inside].std() == pytest.approx(0.8796 * 3, rel=0.03)


def test_noise_does_not_depend_on_the_model():
    """The points are the same for any model."""
    first = drawn(UniformNoise(), "l2")
    images = np.full((3, 12, 12, 3), 128, np.uint8)
    _, states, _ = trajectory(small_cnn(7), UniformNoise(), Threat((60.0,), NORMS["l2"]), images, 4)
    np.testing.assert_array_equal(first, np.stack([s["point"] - 128.0 for s in states[1:]]))
