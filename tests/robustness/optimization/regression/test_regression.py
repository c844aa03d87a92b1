"""Tests of regression: the published heights, and independent references."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from robustness.errors import SettingError
from robustness.optimization.regression.least_squares import Descent, least_squares
from robustness.optimization.regression.logistic import SEPARATED, half_point, logistic

RANDOM = np.random.default_rng(5)
X = RANDOM.normal([10.0, -3.0, 500.0], [1.0, 2.0, 90.0], (200, 3))
Y = X @ [2.0, -1.0, 0.05] + 7.0 + RANDOM.normal(size=200)
W = RANDOM.uniform(0.2, 3.0, 200)
LABELS = (RANDOM.uniform(size=200) < 1 / (1 + np.exp(-(X[:, 0] - 10.0)))).astype(float)


@pytest.fixture(scope="module")
def heights(article_photos):
    data = pd.read_csv(article_photos / "height_v_weight.csv")
    return data["Height"].to_numpy(), data["Weight"].to_numpy()


def test_the_exact_line_of_the_heights(heights):
    fit = least_squares(*heights)
    assert len(heights[0]) == 150 and fit.converged
    assert fit.coefficients[0] == pytest.approx(6.04, abs=0.005)
    assert fit.intercept == pytest.approx(-230.53, abs=0.005)
    assert fit.loss == pytest.approx(127.1, abs=0.05)


@pytest.mark.parametrize(
    ("how", "slope", "intercept", "mse"),
    [
        ({"learning_rate": 2e-5, "rates": [1, 1000]}, 5.44, -188.81, 129.4),
        ({"optimizer": "rmsprop", "learning_rate": 0.1}, 5.32, -180.74, 130.4),
    ],
)
def test_25_steps_match_the_article(heights, how, slope, intercept, mse):
    best = least_squares(*heights)
    start = [best.coefficients[0], -180.0]
    fit = least_squares(*heights, method=Descent(start=start, steps=25, **how))
    assert fit.coefficients[0] == pytest.approx(slope, abs=0.005)
    assert fit.intercept == pytest.approx(intercept, abs=0.005)
    assert fit.loss == pytest.approx(mse, abs=0.05)
    assert not fit.converged and "steps spent" in fit.status
    assert fit.path.shape == (26, 2) and fit.history.shape == (26,)
    np.testing.assert_allclose(fit.path[0], start)
    x, y = heights
    direct = [np.mean((slope * x + level - y) ** 2) for slope, level in fit.path]
    np.testing.assert_allclose(fit.history, direct, rtol=1e-9)


def test_standardised_25_plain_steps_are_enough(heights):
    best = least_squares(*heights)
    slow = least_squares(*heights, method=Descent(steps=25))
    fast = least_squares(*heights, method=Descent(steps=25, standardize=True, learning_rate=0.3))
    auto = least_squares(*heights, method=Descent(steps=25, standardize=True))
    for fit in (fast, auto):
        assert fit.coefficients[0] == pytest.approx(best.coefficients[0], abs=1e-3)
        assert fit.intercept == pytest.approx(best.intercept, abs=1e-3)
    assert auto.converged
    assert abs(slow.intercept - best.intercept) > 100  # the slope dominates the intercept


def test_least_squares_and_errors_match_numpy():
    fit = least_squares(X, Y)
    design = np.column_stack([X, np.ones(200)])
    expected, rest, *_ = np.linalg.lstsq(design, Y, rcond=None)
    np.testing.assert_allclose([*fit.coefficients, fit.intercept], expected, rtol=1e-9)
    covariance = rest[0] / 196 * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-6)
    assert fit.r2 == pytest.approx(1 - rest[0] / np.sum((Y - Y.mean()) ** 2))
    np.testing.assert_allclose(fit.predict(X), design @ expected, rtol=1e-9)


@pytest.mark.parametrize("how", ["exact", Descent(standardize=True, steps=3000, tolerance=1e-12)])
def test_weighted_ridge_agrees_with_the_normal_equations(how):
    fit = least_squares(X, Y, method=how, weights=W, ridge=30.0)
    design = np.column_stack([X, np.ones(200)])
    square = (design * W[:, None]).T @ design + np.diag([30.0, 30.0, 30.0, 0.0])
    expected = np.linalg.solve(square, design.T @ (W * Y))
    np.testing.assert_allclose([*fit.coefficients, fit.intercept], expected, rtol=1e-5)


@pytest.mark.parametrize("ridge", [0.0, 5.0])
@pytest.mark.parametrize("how", ["exact", Descent(optimizer="nesterov", steps=1500)])
def test_logistic_agrees_with_scipy(ridge, how):
    design = np.column_stack([(X - X.mean(0)) / X.std(0), np.ones(200)])

    def loss(beta):
        margin = design @ beta
        slopes = beta[:3] / X.std(0)
        return np.sum(W * (np.logaddexp(0, margin) - LABELS * margin)) + ridge / 2 * slopes @ slopes

    found = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    slopes = found.x[:3] / X.std(0)
    expected = [*slopes, found.x[3] - slopes @ X.mean(0)]
    fit = logistic(X, LABELS, method=how, weights=W, ridge=ridge)
    np.testing.assert_allclose([*fit.coefficients, fit.intercept], expected, rtol=1e-5, atol=1e-5)
    assert fit.converged


def test_logistic_errors_match_fisher_information():
    fit = logistic(X, LABELS)
    design = np.column_stack([X, np.ones(200)])
    p = fit.predict(X)
    information = (design * (p * (1 - p))[:, None]).T @ design
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(information), rtol=1e-4)


def test_the_half_point_and_its_interval_match_fieller():
    doses = np.repeat([1.0, 2.0, 3.0, 4.0], 50)
    flips = np.concatenate([np.arange(50) < k for k in (5, 20, 30, 45)]).astype(float)
    fit = logistic(doses, flips)
    middle, low, high = half_point(fit)
    assert middle == pytest.approx(2.5, abs=1e-6)  # the table is symmetrical about 2.5
    assert low < middle < high and middle - low == pytest.approx(high - middle, rel=1e-3)
    for x in (low, high):  # Fieller: there the margin is z standard errors from 0
        gradient = np.array([x, 1.0])
        size = np.sqrt(gradient @ fit.covariance @ gradient)
        assert abs(fit.coefficients[0] * x + fit.intercept) == pytest.approx(
            1.959964 * size, rel=1e-5
        )
    fractions = logistic([1.0, 2.0, 3.0, 4.0], [0.1, 0.4, 0.6, 0.9], weights=[50.0] * 4)
    assert half_point(fractions) == pytest.approx((middle, low, high), rel=1e-6)


def test_separated_classes_without_optimum_are_reported():
    x = np.arange(10.0)
    assert logistic(x, x > 4.5).status == SEPARATED
    assert logistic(x, x > 4.5, ridge=0.1).converged


def test_memory_maps_and_chunks_give_the_same_line(tmp_path):
    x = RANDOM.normal(size=(20_000, 4)).astype("float32")
    y = x @ [1.0, 2.0, 3.0, 4.0] + 5.0
    np.save(tmp_path / "x.npy", x)
    fit = least_squares(np.load(tmp_path / "x.npy", mmap_mode="r"), y)
    np.testing.assert_allclose([*fit.coefficients, fit.intercept], [1, 2, 3, 4, 5], atol=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "options", "sentence"),
    [
        ([[1.0], [np.nan], [3.0]], [1, 2, 3], {}, "x1 is nan in row 1"),
        ([[1.0], [2.0], [3.0]], [1, np.inf, 3], {}, "the target is inf in row 1"),
        ([[1, 5], [2, 5], [3, 5], [4, 5]], [1, 2, 3, 4], {}, "x2 never changes"),
        ([1.0, 2.0], [1.0, 2.0], {}, "2 rows for 2 parameters"),
        ([[1, 2], [2, 4], [3, 6], [4, 8]], [1, 2, 3, 4], {}, "combination of the other columns"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], {}, "3 rows of features and 2 targets"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"ridge": -1.0}, "ridge=-1"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"weights": [1, -1, 1]}, "weights"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"method": "qr"}, "method='qr'"),
    ],
)
def test_invalid_regressions_are_refused(x, y, options, sentence):
    with pytest.raises(SettingError, match=sentence):
        least_squares(np.array(x), y, **options)


def test_logistic_refuses_other_targets():
    with pytest.raises(SettingError, match="expected 0 and 1"):
        logistic([1.0, 2.0, 3.0], [1, 2, 3])
    with pytest.raises(SettingError, match="Every logistic target is 1"):
        logistic([1.0, 2.0, 3.0], [1, 1, 1])
