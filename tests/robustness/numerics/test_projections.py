"""Tests of norms and projections: defining properties, and optimality against an independent solver."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import optimize

from robustness.errors import SettingError
from robustness.numerics import prng
from robustness.threat.norms import NORMS, parse

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
SHAPE = (3, 3, 3)


def arrays(seed: int, rows: int = 4):
    """Changes, radii and the box of random images, some pixels at its edge."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (rows, *SHAPE)).astype("float32")
    images[rng.random(images.shape) < 0.3] = 0
    images[rng.random(images.shape) < 0.2] = 255
    delta = rng.normal(0, 10.0 ** rng.uniform(-1, 2.5), images.shape).astype("float32")
    return delta, images


def radius(name: str, seed: int, rows: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    high = {"linf": 60.0, "l2": 200.0, "l1": 600.0, "l0": 9.0}[name]
    return np.floor(rng.uniform(1, high, rows)).astype("float32")


def project(name: str, delta, size, images):
    return ops.convert_to_numpy(NORMS[name].project(delta, size, -images, 255.0 - images))


def size_of(name: str, delta) -> np.ndarray:
    """The norm, implemented independently with NumPy."""
    if name == "l0":
        return (np.abs(delta) > 0).any(-1).reshape(len(delta), -1).sum(1)
    return np.linalg.norm(delta.reshape(len(delta), -1).astype("float64"), ORDER[name], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_projections_are_inside_idempotent_and_keep_inner_points(name, seed):
    delta, images = arrays(seed)
    size = radius(name, seed)
    out = project(name, delta, size, images)
    assert (size_of(name, out) <= size * (1 + 1e-5)).all()
    assert (images + out >= -1e-3).all()
    assert (images + out <= 255 + 1e-3).all()
    again = project(name, out, size, images)
    np.testing.assert_allclose(again, out, atol=2e-3 * size.max())
    inside = project(
        name, np.clip(delta, -images, 255 - images), np.full(4, 1e6, "float32"), images
    )
    np.testing.assert_allclose(inside, np.clip(delta, -images, 255 - images), rtol=1e-5, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l2", "l1", "linf"])
@pytest.mark.parametrize("seed", range(6))
def test_projection_matches_an_independent_solver(name, seed):
    delta, images = arrays(seed, rows=1)
    size = radius(name, seed, rows=1)
    out = project(name, delta, size, images)[0].ravel().astype("float64")
    z, low, high = (a[0].ravel().astype("float64") for a in (delta, -images, 255.0 - images))

    # Split into positive and negative parts: smooth constraints for every norm.
    n = z.size
    budget = {
        "l1": lambda u: size[0] - u.sum(),
        "l2": lambda u: size[0] ** 2 - ((u[:n] - u[n:]) ** 2).sum(),
        "linf": lambda u: size[0] - (u[:n] + u[n:]),
    }[name]
    start = np.concatenate([np.maximum(out, 0), np.maximum(-out, 0)]) * 0.5
    found = optimize.minimize(
        lambda u: ((u[:n] - u[n:] - z) ** 2).sum(),
        start,
        jac=lambda u: np.concatenate([2 * (u[:n] - u[n:] - z), -2 * (u[:n] - u[n:] - z)]),
        bounds=[(0, h) for h in high] + [(0, -b) for b in low],
        constraints={"type": "ineq", "fun": budget},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-10},
    )
    ours = ((out - z) ** 2).sum()
    assert ours <= found.fun * (1 + 1e-4) + 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_l0_keeps_the_best_set_of_pixels(seed):
    from itertools import combinations

    delta, images = arrays(seed, rows=1)
    out = project("l0", delta, np.array([3.0], "float32"), images)[0]
    clipped = np.clip(delta, -images, 255 - images)[0].reshape(9, 3)
    z = delta[0].reshape(9, 3)
    best = min(
        ((z - np.where(np.isin(np.arange(9), kept)[:, None], clipped, 0)) ** 2).sum()
        for kept in combinations(range(9), 3)
    )
    assert ((out.reshape(9, 3) - z) ** 2).sum() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_steepest_direction_has_unit_norm_and_beats_random_ones(name):
    delta, _ = arrays(3)
    step = ops.convert_to_numpy(NORMS[name].steepest(delta))
    np.testing.assert_allclose(size_of(name, step), 1, rtol=1e-5)
    gain = (step * delta).reshape(4, -1).sum(1)
    rng = np.random.default_rng(0)
    for _ in range(50):
        other = rng.normal(size=delta.shape)
        other /= size_of(name, other)[:, None, None, None]
        assert (gain >= (other * delta).reshape(4, -1).sum(1) - 1e-3).all()


def test_l1_step_moves_only_the_strongest_components_by_unit_norm():
    delta, _ = arrays(4)
    step = ops.convert_to_numpy(NORMS["l1"].steepest(delta))
    np.testing.assert_allclose(size_of("l1", step), 1, rtol=1e-5)
    for row, gradient in zip(step.reshape(4, -1), np.abs(delta).reshape(4, -1), strict=True):
        assert gradient[row != 0].min() >= gradient[row == 0].max()


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMS)
def test_samples_are_in_the_ball_and_depend_only_on_the_key(name):
    keys = np.stack([prng.key_for(1, i) for i in range(4)])
    size = radius(name, 5)
    out = ops.convert_to_numpy(NORMS[name].sample(keys, size, SHAPE))
    assert (size_of(name, out) <= size * (1 + 1e-4)).all()
    assert (size_of(name, out) > 0).all()
    alone = ops.convert_to_numpy(NORMS[name].sample(keys[1:2], size[1:2], SHAPE))
    np.testing.assert_allclose(out[1], alone[0], rtol=1e-5, atol=1e-6)


def test_l2_samples_are_uniform_in_the_ball():
    keys = np.stack([prng.key_for(1, i) for i in range(500)])
    out = ops.convert_to_numpy(NORMS["l2"].sample(keys, np.ones(500, "float32"), (1, 1, 3)))
    # In three dimensions half the volume lies within 2^(-1/3) of the radius.
    assert (size_of("l2", out) < 2 ** (-1 / 3)).mean() == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("name", NORMS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_grid_points_are_integer_legal_and_within_the_budget(name, seed):
    delta, images = arrays(seed)
    size = radius(name, seed)
    legal = project(name, delta, size, images)
    grid = ops.convert_to_numpy(NORMS[name].to_grid(legal, size, -images, 255.0 - images))
    np.testing.assert_array_equal(grid, np.round(grid))
    assert (size_of(name, grid) <= size * (1 + 1e-6)).all()
    assert ((images + grid >= 0) & (images + grid <= 255)).all()


def test_a_thin_l2_change_survives_rounding():
    """A change below half a count everywhere would round to zero; the largest components must remain."""
    rng = np.random.default_rng(0)
    delta = (rng.normal(0, 0.2, (1, 16, 16, 3))).astype("float32")
    images = np.full((1, 16, 16, 3), 100, "float32")
    size = np.array([np.linalg.norm(delta)], "float32")
    grid = ops.convert_to_numpy(NORMS["l2"].to_grid(delta, size, -images, 255 - images))
    assert 0 < size_of("l2", grid)[0] <= size[0]
    assert (np.sign(grid) * delta >= 0).all()


def test_an_unknown_norm_is_refused_with_the_known_ones():
    with pytest.raises(SettingError, match="linf, l2, l1, l0"):
        parse("l3")
    with pytest.raises(SettingError, match="Did you mean linf"):
        parse("linff")
