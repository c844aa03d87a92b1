"""Tests of closed-form distances to a hyperplane against independent solvers."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from robustness.numerics.linear_distances import l0, l1, l2, linf
from robustness.threat.norms import NORMS


def problem(seed, pixels=4, channels=3):
    """A hyperplane that some but not all changes inside the box cross."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(pixels, channels))
    image = rng.integers(0, 256, (pixels, channels))
    room = np.where(normal > 0, 255 - image, image)
    return normal, float(rng.uniform(0.05, 0.9) * (np.abs(normal) * room).sum()), image


def program(normal, margin, image, cost, extra):
    """A linear program over (delta, size)."""
    n = normal.size
    bounds = [(-x, 255 - x) for x in image.ravel().tolist()] + [(0, None)] * (cost.size - n)
    rows = np.concatenate([[np.r_[-normal.ravel(), np.zeros(cost.size - n)]], extra])
    limits = np.r_[-margin, np.zeros(len(extra))]
    return linprog(cost, rows, limits, bounds=bounds).fun


@pytest.mark.parametrize("seed", range(8))
def test_linf_and_l1_agree_with_linear_programming(seed):
    normal, margin, image = problem(seed)
    n, one = normal.size, np.eye(normal.size)
    widest = np.concatenate([np.c_[one, -np.ones(n)], np.c_[-one, -np.ones(n)]])
    assert linf(normal, margin, image) == pytest.approx(
        program(normal, margin, image, np.r_[np.zeros(n), 1.0], widest), rel=1e-6
    )
    each = np.concatenate([np.c_[one, -one], np.c_[-one, -one]])
    assert l1(normal, margin, image) == pytest.approx(
        program(normal, margin, image, np.r_[np.zeros(n), np.ones(n)], each), rel=1e-6
    )


@pytest.mark.parametrize("seed", range(8))
def test_l2_agrees_with_a_general_solver(seed):
    normal, margin, image = problem(seed)
    # In units of 100 counts: the solver needs numbers of order one.
    found = minimize(
        lambda d: d @ d,
        np.where(normal > 0, 255 - image, -image).ravel() / 101,
        jac=lambda d: 2 * d,
        bounds=[(-x / 100, (255 - x) / 100) for x in image.ravel().tolist()],
        constraints={
            "type": "ineq",
            "fun": lambda d: d @ normal.ravel() - margin / 100,
            "jac": lambda d: normal.ravel(),
        },
        method="SLSQP",
        options={"ftol": 1e-10, "maxiter": 1000},
    )
    found.x *= 100
    assert found.x @ normal.ravel() >= margin * (1 - 1e-6)
    assert l2(normal, margin, image) == pytest.approx(np.linalg.norm(found.x), rel=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_l0_agrees_with_exhaustive_search(seed):
    normal, margin, image = problem(seed, pixels=7)
    gains = (np.abs(normal) * np.where(normal > 0, 255 - image, image)).sum(axis=1)
    least = next(
        k for k in range(1, 8) for c in combinations(range(7), k) if gains[list(c)].sum() >= margin
    )
    assert l0(normal, margin, image) == least


@pytest.mark.parametrize("norm", NORMS)
def test_a_plane_out_of_reach_is_infinitely_far(norm):
    normal, _, image = problem(0)
    assert NORMS[norm].plane_distance(normal, 1e9, image) == np.inf
