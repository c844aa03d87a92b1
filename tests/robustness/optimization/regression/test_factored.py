"""Tests of factored regression against NumPy."""

import numpy as np
import pytest

from robustness.optimization.regression.factored import Factored

RANDOM = np.random.default_rng(3)
DESIGN = RANDOM.normal(size=(12, 4))


def test_many_targets_match_numpy():
    targets = RANDOM.normal(size=(3, 5, 12))
    found = np.asarray(Factored.of(DESIGN).solve(targets))
    for target, solution in zip(targets.reshape(-1, 12), found.reshape(-1, 4), strict=True):
        np.testing.assert_allclose(solution, np.linalg.lstsq(DESIGN, target)[0], rtol=1e-9)


def test_each_parameter_has_its_penalty():
    penalty, target = np.array([0.0, 3.0, 0.5, 0.0]), RANDOM.normal(size=12)
    square = DESIGN.T @ DESIGN + np.diag(penalty)
    np.testing.assert_allclose(
        np.asarray(Factored.of(DESIGN, penalty).solve(target)),
        np.linalg.solve(square, DESIGN.T @ target),
        rtol=1e-9,
    )


def test_fewer_rows_than_parameters_give_the_shortest_solution():
    target = RANDOM.normal(size=3)
    found = np.asarray(Factored.of(DESIGN[:3], 1e-10).solve(target))
    np.testing.assert_allclose(found, np.linalg.pinv(DESIGN[:3]) @ target, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_precision_is_that_of_the_targets(dtype):
    assert np.asarray(Factored.of(DESIGN).solve(np.ones(12, dtype))).dtype == dtype


def test_undetermined_parameters_are_detected():
    assert Factored.of(DESIGN).undetermined is None
    twice = np.column_stack([DESIGN, DESIGN[:, 1]])
    assert Factored.of(twice).undetermined == 4
    assert Factored.of(twice, 0.1).undetermined is None
