"""Tests of descent against known minima and, step by step, against the optimizers of Keras."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from robustness.errors import SettingError
from robustness.optimization.descent import (
    CONVERGED,
    DIVERGED,
    find_optimizer,
    gradient_below,
    minimize,
    optimizer_names,
)
from robustness.optimization.lbfgs import minimize_rows


def bowl(point, centre, steepness):
    return ops.sum(steepness * (point - centre) ** 2)


def rosenbrock(points, scale):
    x, y = points[:, 0], points[:, 1]
    return scale * (y - x * x) ** 2 + (1.0 - x) ** 2


CENTRE, STEEP = np.array([3.0, -2.0]), np.array([1.0, 10.0])


def descend(**how):
    return minimize(bowl, np.zeros(2), data=(CENTRE, STEEP), **how)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(optimizer_names()) - {"muon", "schedulefreeadamw"}))
def test_every_keras_optimizer_lowers_a_bowl(name):
    found = descend(optimizer=name, learning_rate=0.02, steps=30)
    assert np.all(np.diff(found.history[:3]) < 0) and found.loss < found.history[0] - 0.01
    assert found.steps == 30 and len(found.history) == 31


def test_plain_descent_matches_the_recurrence():
    found = descend(optimizer="sgd", learning_rate=0.04, steps=7)
    # Each coordinate shrinks by 1 - 2 * rate * steepness a step.
    expected = CENTRE * (1.0 - (1.0 - 2.0 * np.float32(0.04) * STEEP) ** 7)
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)
    np.testing.assert_allclose(found.loss, np.sum(STEEP * (expected - CENTRE) ** 2), rtol=1e-9)


def test_an_optimizer_object_matches_keras_and_is_unchanged():
    mine = keras.optimizers.Adam(0.3, beta_1=0.5)
    found = descend(optimizer=mine, steps=5)
    theirs = keras.optimizers.Adam(0.3, beta_1=0.5)
    point = keras.Variable(np.zeros(2), dtype="float64")
    for _ in range(5):
        theirs.apply([2 * STEEP * (point.numpy() - CENTRE)], [point])
    np.testing.assert_allclose(found.value, point.numpy(), rtol=1e-12)
    assert not mine.built
    np.testing.assert_array_equal(descend(optimizer=mine, steps=5).value, found.value)


def test_convergence_is_reported():
    rest = descend(optimizer="sgd", learning_rate=0.05, steps=500, stop=gradient_below(1e-8))
    assert rest.status == CONVERGED and rest.converged and rest.steps < 500
    np.testing.assert_allclose(rest.value, CENTRE, atol=1e-8)
    assert not descend(
        optimizer="sgd", learning_rate=0.05, steps=2, stop=gradient_below(1e-8)
    ).converged
    gone = descend(optimizer="sgd", learning_rate=1e6, steps=500, stop=gradient_below(1e-8))
    assert gone.status == DIVERGED and gone.steps < 500
    # Still finite at the end, but no step lowered the loss.
    grown = descend(optimizer="sgd", learning_rate=10.0, steps=20)
    assert grown.status == DIVERGED and grown.steps == 20 and np.isfinite(grown.loss)


def test_each_parameter_has_its_own_rate():
    found = descend(optimizer="adam", learning_rate=0.1, steps=1, rates=[1.0, 0.0])
    np.testing.assert_allclose(found.value, [0.1, 0.0], rtol=1e-5)


def test_projection_holds_at_every_scored_point():
    seen: list[Any] = []
    found = descend(
        optimizer="sgd",
        learning_rate=0.02,
        steps=200,
        project=lambda point: ops.clip(point, -1.0, 1.0),
        each=seen.append,
    )
    assert [s.step for s in seen] == list(range(201))
    assert max(np.max(np.abs(s.point)) for s in seen) <= 1.0
    np.testing.assert_allclose(found.value, [1.0, -1.0])


def test_gradients_of_chunks_sum_to_the_whole():
    rows = np.random.default_rng(0).normal(size=(101, 3))
    scale = np.array([1.0, 2.0, 5.0])

    def loss(point, scale, piece):
        return ops.sum(scale * (piece - point) ** 2)

    def pieces():
        return ((rows[i : i + 40],) for i in range(0, 101, 40))

    how: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e-3, "steps": 5}
    whole = minimize(loss, np.zeros(3), data=(scale, rows), **how)
    parts = minimize(loss, np.zeros(3), data=(scale,), pieces=pieces, **how)
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(parts.history, whole.history, rtol=1e-12)

    def of_rows(points, scale, piece):
        return ops.sum(scale[:, None] * (piece - points[:, None]) ** 2, axis=(1, 2))

    (end,) = minimize_rows(of_rows, [(np.zeros(3), (scale,))], slots=1, pieces=pieces)
    np.testing.assert_allclose(end.point, rows.mean(0), atol=1e-9)


def test_an_unknown_optimizer_suggests_the_nearest():
    with pytest.raises(SettingError, match=r"'adm'.*Did you mean adam"):
        find_optimizer("adm")
    with pytest.raises(SettingError, match="learning_rate=-1"):
        find_optimizer("adam", -1)
    with pytest.raises(SettingError, match="not finite"):
        minimize(bowl, [np.nan], data=(CENTRE, STEEP))


def test_lbfgs_rows_find_the_rosenbrock_minimum_independently():
    starts = np.random.default_rng(1).uniform(-2, 2, (7, 2))
    jobs = [(start, (np.array(100.0),)) for start in starts]
    together = minimize_rows(rosenbrock, jobs, slots=3, steps=500)
    assert [stage.job for stage in together] == list(range(7))
    for stage in together:
        assert stage.status == CONVERGED
        np.testing.assert_allclose(stage.point, [1.0, 1.0], atol=1e-7)
    (alone,) = minimize_rows(rosenbrock, jobs[4:5], slots=3, steps=500)
    np.testing.assert_allclose(alone.point, together[4].point, atol=1e-12)
    assert alone.steps == together[4].steps


def test_lbfgs_renews_a_row_with_new_data():
    def shrink(stage):
        return (stage.data[0] / 10,) if stage.stage < 2 else None

    jobs = [(np.array([-1.2, 1.0]), (np.array(100.0),))]
    (last,) = minimize_rows(rosenbrock, jobs, slots=1, renew=shrink)
    assert last.stage == 2 and last.data[0] == 1.0
