"""Tests of Square against its paper and the authors' reference loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from keras import ops

from robustness.attacks.square import HALVED_AFTER, Square, bump, share, sides
from robustness.engine import compiled_batch, jobs
from robustness.testing import parametrize_with_checks
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import small_cnn, subjects

SHAPE = (12, 12, 3)


@pytest.mark.slow
@parametrize_with_checks([Square(steps=400)])
def test_the_contract_is_kept(check):
    check()


def test_the_share_of_pixels_follows_the_schedule_of_the_paper():
    # Sec. 4: at {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000} of ten thousand queries.
    assert HALVED_AFTER == (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    for step, halvings in [
        (0, 0),
        (10, 0),
        (11, 1),
        (50, 1),
        (51, 2),
        (1000, 4),
        (1001, 5),
        (9999, 9),
    ]:
        assert share(step, 10_000, 0.8) == 0.8 / 2**halvings
    # With fewer queries the schedule is scaled.
    assert share(500, 5000, 0.8) == share(1000, 10_000, 0.8)


def test_square_sides_are_roots_of_the_share():
    found = sides(10_000, 0.8, 32, 32)
    assert found[0] == round((0.8 * 1024) ** 0.5) == 29
    assert found[11] == round((0.4 * 1024) ** 0.5) == 20
    assert found[-1] == round((0.8 / 512 * 1024) ** 0.5) == 1
    assert (np.diff(found) <= 0).all()
    assert sides(10, 1.0, 8, 20).max() == 7


def pyramids(side):
    """The bump of the reference code, with its loops: two halves of opposite sign, each of length one."""

    def rectangle(x, y):
        delta = np.zeros((x, y))
        x_c, y_c = x // 2 + 1, y // 2 + 1
        first, second = x_c - 1, y_c - 1
        for k in range(max(x_c, y_c)):
            rows = slice(max(first, 0), min(first + 2 * k + 1, x))
            columns = slice(max(0, second), min(second + 2 * k + 1, y))
            delta[rows, columns] += 1.0 / (k + 1) ** 2
            first, second = first - 1, second - 1
        return delta / np.sqrt((delta**2).sum())

    half = side // 2
    return np.concatenate([rectangle(half, side), -rectangle(side - half, side)])


@pytest.mark.parametrize("side", [3, 5, 7, 9, 11])
def test_an_l2_bump_matches_the_reference_code(side):
    down = np.arange(12, dtype="float32")[None, :, None, None] - 1
    across = np.arange(12, dtype="float32")[None, None, :, None]
    got = ops.convert_to_numpy(bump(down, across, np.array([side], "float32"), 12))[0, :, :, 0]
    expected = np.zeros((12, 12))
    expected[1 : 1 + side, :side] = pyramids(side)[: 12 - 1]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def trajectory(norm, epsilon, steps, seed=0, low=0, high=256):
    classifier = small_cnn(2)
    images = np.random.default_rng(seed).integers(low, high, (3, *SHAPE)).astype(np.uint8)
    some = subjects(classifier, images)
    attack = Square(steps=steps)
    rows = compiled_batch.CompiledBatch(
        classifier, attack, Threat((epsilon,), NORMS[norm]), batch_size=3, seed=0
    )
    state = rows.load(None, range(3), [jobs.AttackJob(s, epsilon) for s in some])
    states = [{k: ops.convert_to_numpy(x) for k, x in state["own"].items()}]
    for _ in range(steps):
        state, _ = rows.step(state)
        states.append({k: ops.convert_to_numpy(x) for k, x in state["own"].items()})
    assert rows.passes == (1, 0)
    return classifier, some, images.astype("float32"), states


def margins(classifier, points, some):
    z = ops.convert_to_numpy(classifier.logits(points))
    labels = np.array([s.label for s in some])
    mine = z[np.arange(len(z)), labels]
    z[np.arange(len(z)), labels] = -np.inf
    return mine - z.max(1)


@pytest.mark.slow
def test_linf_squares_have_one_colour_and_are_kept_if_the_loss_falls():
    classifier, some, images, states = trajectory("linf", 5.0, 60)
    table = sides(60, 0.8, *SHAPE[:2])
    start = states[0]["point"] - images
    free = (images >= 5) & (images <= 250)
    assert (np.abs(start)[free] == 5).all()
    # Stripes: in each channel a column has one sign.
    for row in range(3):
        for column in range(SHAPE[1]):
            for channel in range(3):
                signs = np.sign(start[row, :, column, channel])[free[row, :, column, channel]]
                assert len(set(signs.tolist())) <= 1
    for k, (before, after) in enumerate(pairwise(states)):
        loss, old = margins(classifier, before["point"], some), before["best_loss"]
        np.testing.assert_allclose(after["best_loss"], np.minimum(loss, old), rtol=1e-4, atol=1e-4)
        for row in range(3):
            changed = (after["point"][row] != after["best"][row]).any(-1)
            if not changed.any():
                continue
            down, across = np.nonzero(changed)
            assert down.max() - down.min() < table[k]
            assert across.max() - across.min() < table[k]
            inside = free[row] & changed[..., None]
            drawn = (after["point"][row] - images[row])[inside]
            assert (np.abs(drawn) == 5).all()


def test_linf_uses_no_query_for_a_square_without_change():
    # Late squares are one pixel wide; one of eight draws would equal the current colour.
    _, _, _, states = trajectory("linf", 5.0, 120, low=20, high=236)
    colours = set()
    for after in states[1:]:
        turned = after["point"] != after["best"]
        assert turned.any(axis=(1, 2, 3)).all()
        colours |= {tuple(row[row.any(-1)][0]) for row in turned}
    # Any subset of channels may change sign.
    assert len(colours) == 7


@pytest.mark.slow
def test_l2_uses_the_whole_budget_and_moves_mass_between_squares():
    classifier, some, images, states = trajectory("l2", 40.0, 60)
    for k, state in enumerate(states):
        delta = state["point"] - images
        assert (np.sqrt((delta**2).sum(axis=(1, 2, 3))) <= 40 * (1 + 1e-5)).all()
        assert state["point"].min() >= 0
        assert state["point"].max() <= 255
        if k:
            loss = margins(classifier, states[k - 1]["point"], some)
            np.testing.assert_allclose(
                state["best_loss"],
                np.minimum(loss, states[k - 1]["best_loss"]),
                rtol=1e-4,
                atol=1e-4,
            )
    # Far from the box nothing is clipped, so the length equals the budget.
    grey = trajectory_on_grey()
    lengths = [np.sqrt((s**2).sum(axis=(1, 2, 3))) for s in grey]
    np.testing.assert_allclose(lengths, 20.0, rtol=1e-3)


def trajectory_on_grey():
    classifier = small_cnn(2)
    images = np.full((2, *SHAPE), 128, np.uint8)
    some = subjects(classifier, images)
    rows = compiled_batch.CompiledBatch(
        classifier, Square(steps=30), Threat((20.0,), NORMS["l2"]), batch_size=2, seed=0
    )
    state = rows.load(None, range(2), [jobs.AttackJob(s, 20.0) for s in some])
    found = []
    for _ in range(30):
        found.append(ops.convert_to_numpy(state["own"]["point"]) - 128.0)
        state, _ = rows.step(state)
    return found
