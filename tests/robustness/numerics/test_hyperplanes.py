"""Tests of the nearest point on a plane against closed-form distances.

The distances are themselves tested by linear programming, in `test_linear_distances.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from robustness.threat.norms import NORMS

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}


def solved(norm, normal, gain, low, high):
    rows = [np.asarray(x, "float32") for x in (normal, gain, low, high)]
    return ops.convert_to_numpy(NORMS[norm].onto_plane(*rows)).astype("float64")


@pytest.mark.slow
@pytest.mark.parametrize("norm", ORDER)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), share=st.floats(0.02, 0.95), scale=st.sampled_from([1e-4, 1, 300])
)
def test_the_nearest_point_is_on_the_plane_at_the_least_distance(norm, seed, share, scale):
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(3, 24)) * scale
    image = rng.integers(0, 256, (3, 24)).astype("float64")
    way = rng.choice([-1.0, 1.0], 3)
    room = np.where(way[:, None] * normal > 0, 255 - image, image)
    gain = share * (np.abs(normal) * room).sum(1)
    delta = solved(norm, normal, way * gain, -image, 255 - image)
    assert (delta >= -image - 1e-3).all()
    assert (delta <= 255 - image + 1e-3).all()
    np.testing.assert_allclose((normal * delta).sum(1), way * gain, rtol=2e-4)
    for row in range(3):
        pixels = (way[row] * normal[row]).reshape(8, 3)
        least = NORMS[norm].plane_distance(pixels, gain[row], image[row].reshape(8, 3))
        assert np.linalg.norm(delta[row], ORDER[norm]) == pytest.approx(least, rel=5e-4)


@pytest.mark.parametrize("norm", ORDER)
def test_a_plane_out_of_reach_is_approached_to_the_corner(norm):
    normal = np.array([[1.0, -2.0, 0.5]])
    low, high = np.array([[-10.0, -20.0, -30.0]]), np.array([[5.0, 6.0, 7.0]])
    delta = solved(norm, normal, np.array([1e6]), low, high)
    np.testing.assert_allclose(delta, [[5.0, -20.0, 7.0]], rtol=1e-4)


@pytest.mark.parametrize("norm", ORDER)
def test_components_without_gain_do_not_move(norm):
    box = np.full((2, 3), 100.0)
    normal = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert not solved(norm, normal, np.array([0.0, 5.0]), -box, box).any()
