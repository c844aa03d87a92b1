"""Tests of solver plots: drawn points and lines match the solutions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robustness.optimization.regression.least_squares import least_squares
from robustness.reports.solver_plots.canvas import INK, SERIES, early, evenly, powers
from robustness.reports.solver_plots.plots import Way, plot_fit
from robustness.reports.solver_plots.spread_plots import plot_spread


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (120, 3000, ["200", "500", "1,000", "2,000"]),
        (0.004, 0.3, ["0.005", "0.01", "0.02", "0.05", "0.1", "0.2"]),
        (0.5, 2e9, ["1", "100", "10,000", "1e6", "1e8"]),
        (210, 280, ["220", "240", "260", "280"]),
    ],
)
def test_logarithmic_axes_have_round_numbers(low, high, words):
    found = powers(math.log10(low), math.log10(high))
    assert [word for _, word in found] == words
    values = [float(word.replace(",", "")) for word in words]
    assert [10.0**place for place, _ in found] == pytest.approx(values)


@given(st.integers(1, 3000))
def test_moments_hold_the_first_and_last_step_and_every_early_one(count):
    moments = early(count)
    assert moments == sorted(set(moments)) and len(moments) <= 60
    assert moments[0] == 0 and moments[-1] == count - 1
    assert set(range(min(count, 20))) <= set(moments)
    assert len(moments) > 12 or count == 1
    steps = evenly(count)
    assert steps[0] == 0 and steps[-1] == count - 1 and len(steps) <= 60


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def shows(picture, colour, x, y):
    near = picture[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
    return bool(np.min(np.abs(near - np.array(colour)).sum(axis=1)) < 40)


def test_fixed_vectors_are_black_and_lines_have_two_ends(tmp_path):
    # The circle of the arrows is centred at (215, 232), with radius 165.
    path = np.array([[[1.0, 0.0]]])
    plot_spread(tmp_path / "a.png", path, 90.0, "one", fixed=np.array([[0.0, 7.0]]))
    seen = pixels(tmp_path / "a.png")
    assert shows(seen, SERIES[0], 330, 232) and shows(seen, INK, 215, 120)
    assert not shows(seen, SERIES[0], 100, 232) and not shows(seen, INK, 215, 340)
    plot_spread(tmp_path / "b.png", path, 90.0, "one", fixed=np.array([[0.0, 7.0]]), antipodal=True)
    seen = pixels(tmp_path / "b.png")
    assert shows(seen, SERIES[0], 100, 232) and shows(seen, INK, 215, 340)


def test_the_cross_marks_the_minimum_of_the_surface(tmp_path):
    """With weights and a ridge penalty the optimum differs from that of plain least squares."""
    random = np.random.default_rng(3)
    x = random.normal(2.0, 1.0, (60, 1))
    y = 3.0 * x[:, 0] + random.normal(size=60)
    weights, ridge = np.where(x[:, 0] > 2, 9.0, 0.1), 200.0
    best = least_squares(x, y, weights=weights, ridge=ridge)
    exact = np.append(best.coefficients, best.intercept)
    path = exact + np.array([[2.0, -4.0], [-1.0, 4.0], [0.0, 0.0]])
    way = Way("hand", path, np.array([3.0, 2.0, 1.0]))
    target = tmp_path / "fit.png"
    plot_fit(target, x, y, [way], exact, ("x", "y"), weights=weights, ridge=ridge)
    surface = pixels(target)[34:298, 862:1184]
    # Paths and the cross are drawn over the shades; the levels around the minimum are dark grey.
    grey = np.ptp(surface, axis=2) < 20
    shade = np.where(grey & (surface.min(axis=2) > 100), surface.sum(axis=2), 765)
    deepest = np.argwhere(shade <= np.min(shade) + 6).mean(axis=0)
    blue = np.abs(surface - np.array(SERIES[0])).sum(axis=2) < 30
    # The path ends at the optimum in a large dot: the position with most of its colour around.
    places = np.argwhere(blue)
    crowd = [np.sum(np.hypot(*(places - place).T) < 4) for place in places]
    dot = places[np.array(crowd) == max(crowd)].mean(axis=0)
    assert np.hypot(*(deepest - dot)) < 14
