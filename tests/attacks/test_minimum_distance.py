"""Tests of attacks that minimise the change: the contract, and the arithmetic of each algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from robustness.attacks.carlini_wagner import CarliniWagner
from robustness.attacks.ddn import DDN
from robustness.attacks.deepfool import DeepFool
from robustness.attacks.ead import EAD
from robustness.attacks.fmn import FMN
from robustness.attacks.sigma_zero import SigmaZero
from robustness.engine import compiled_batch, jobs
from robustness.engine.minimum_distance import rounded
from robustness.engine.search import run_attack
from robustness.errors import SettingError
from robustness.testing import parametrize_with_checks
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, small_cnn, subjects

SHAPE = (6, 6, 3)


@pytest.mark.slow
@parametrize_with_checks(
    [
        DeepFool(steps=10),
        CarliniWagner(steps=240, binary_search_steps=6),
        EAD(steps=320, binary_search_steps=8),
        DDN(steps=60),
        FMN(steps=60),
        SigmaZero(),
    ]
)
def test_the_contract_is_kept(check):
    check()


def planes(seed=0, classes=4):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.01, (int(np.prod(SHAPE)), classes))
    images = rng.integers(100, 156, (3, *SHAPE)).astype(np.uint8)
    return linear(weights, -images.reshape(3, -1).mean(0) @ weights, SHAPE), images, weights


def trajectory(classifier, attack, threat, images, count):
    """The labels, and the state after 0, 1, ... steps."""
    some = subjects(classifier, images)
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=len(some), seed=0)
    state = rows.load(
        None, range(len(some)), [jobs.AttackJob(s, threat.epsilons[-1]) for s in some]
    )

    def shown():
        return {k: ops.convert_to_numpy(x).astype("float64") for k, x in state["own"].items()}

    states = [shown()]
    for _ in range(count):
        state, _ = rows.step(state)
        states.append(shown())
    return np.array([s.label for s in some]), states, rows


def margins(classifier, points, labels):
    """The margin of the label, and the class with the next largest logit."""
    z = ops.convert_to_numpy(classifier.logits(points.astype("float32"))).astype("float64")
    rows = np.arange(len(z))
    own = z[rows, labels]
    z[rows, labels] = -np.inf
    return own - z.max(1), z.argmax(1)


def found(classifier, attack, threat, images):
    some = subjects(classifier, images)
    results = run_attack(classifier, attack, threat, some, batch_size=len(images))
    return {example.key: outcomes for example, outcomes in results}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_overshoots_the_nearest_plane_by_a_fiftieth(norm):
    classifier, images, weights = planes()
    labels, states, rows = trajectory(classifier, DeepFool(), Threat((90,), NORMS[norm]), images, 2)
    clean = ops.convert_to_numpy(classifier.logits(images.astype("float32"))).astype("float64")
    for image, label, z, after in zip(images, labels, clean, states[1]["point"], strict=True):
        best = None
        for rival in set(range(4)) - {label}:
            normal = weights[:, rival] - weights[:, label]
            gap = z[label] - z[rival]
            if norm == "l2":  # alg. 2
                far, move = gap / np.linalg.norm(normal), gap / (normal @ normal) * normal
            else:  # sec. 3.3, p = infinity, q = 1
                far = gap / np.abs(normal).sum()
                move = far * np.sign(normal)
            if best is None or far < best[0]:
                best = far, move
        assert best is not None
        np.testing.assert_allclose((after - image).ravel(), 1.02 * best[1], atol=2e-3)
    # One evaluation and one backward pass for each other class; then the point does not move.
    assert rows.passes == (1, 3)
    np.testing.assert_array_equal(states[2]["point"], states[1]["point"])


def test_deepfool_ends_after_a_flip():
    classifier, images, _ = planes()
    rungs = found(classifier, DeepFool(), Threat((90,), NORMS["l2"]), images)
    for (rung,) in rungs.values():
        assert rung.flip
        # Two of fifty steps, three other classes each.
        assert rung.backward == 6


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_nearest_file_is_found_in_few_evaluations(norm):
    rng, shape = np.random.default_rng(0), (48, 48, 3)
    weights = rng.normal(0, 0.01, (int(np.prod(shape)), 2))
    images = rng.integers(108, 149, (4, *shape)).astype(np.uint8)
    classifier = linear(
        weights, np.array([0.0, 120.0]) - images.reshape(4, -1).mean(0) @ weights, shape
    )
    top = 1000 if norm == "l2" else 100
    rungs = found(classifier, FMN(steps=60), Threat((top,), NORMS[norm]), images)
    for (rung,) in rungs.values():
        assert rung.flip
        assert rung.forward - rung.backward <= 4


def test_ead_changes_several_components_where_one_is_not_enough():
    rng, shape = np.random.default_rng(2), (32, 32, 3)
    weights = np.zeros((int(np.prod(shape)), 2))
    weights[:, 1] = rng.normal(0, 0.01, len(weights))
    image = rng.integers(100, 156, (1, *shape)).astype(np.uint8)
    gap = 0.012 * 40 * 128
    bias = np.array([gap, 0.0]) - np.array([0.0, 1.0]) * (image.ravel() @ weights[:, 1])
    rungs = found(
        linear(weights, bias, shape), EAD(), Threat((255.0 * len(weights),), NORMS["l1"]), image
    )
    # The steepest components first, each up to the box (a linear program with one constraint).
    slope = np.abs(weights[:, 1])
    room = np.where(weights[:, 1] > 0, 255.0 - image.ravel(), image.ravel())
    order = np.argsort(-slope)
    gained = np.cumsum(slope[order] * room[order])
    whole = int(np.searchsorted(gained, gap))
    rest = (gap - gained[whole - 1]) / slope[order[whole]]
    least = room[order[:whole]].sum() + rest
    assert whole > 10
    ((rung,),) = rungs.values()
    assert least * 0.999 <= rung.flip.distances.l1 <= 1.25 * least, (rung.flip.distances.l1, least)


@pytest.mark.parametrize("scale", [0.6, 1.0, 3.0])
def test_rounding_keeps_the_distance_along_the_change(scale):
    delta = np.random.default_rng(1).normal(0, scale, (2, 40, 40, 3)).astype("float32")
    whole = rounded(delta)
    assert (whole == np.round(whole)).all()
    along = (whole * delta).sum((1, 2, 3)) / (delta * delta).sum((1, 2, 3))
    np.testing.assert_allclose(along, 1, atol=0.05)
    if scale == 1.0:
        plain = (np.round(delta) * delta).sum((1, 2, 3)) / (delta * delta).sum((1, 2, 3))
        assert (np.abs(along - 1) < np.abs(plain - 1)).all()
    assert (rounded(0.1 * delta / np.abs(delta).max()) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [CarliniWagner, EAD])
def test_c_is_multiplied_by_ten_and_then_bisected(kind):
    classifier, images, _ = planes()
    attack = kind(steps=6 * 60, binary_search_steps=6, initial_const=0.3)
    norm = kind.norms[0]
    labels, states, _ = trajectory(
        classifier, attack, Threat((300 if norm == "l2" else 3000,), NORMS[norm]), images, 360
    )
    for row in range(3):
        low, high, c = 0.0, np.inf, 0.3
        for search in range(6):
            part = states[search * 60 : (search + 1) * 60]
            np.testing.assert_allclose([s["constant"][row] for s in part], c, rtol=1e-5)
            np.testing.assert_array_equal(part[0]["point"][row], images[row])
            flipped = any(
                margins(classifier, s["point"][row : row + 1], labels[row : row + 1])[0] < 0
                for s in part
            )
            low, high = (low, min(high, c)) if flipped else (max(low, c), high)
            c = 10 * c if np.isinf(high) else (low + high) / 2
    # Below 1 a linear model cannot flip: 0.3 fails, 3 does it.
    np.testing.assert_allclose(states[60]["constant"], 3.0, rtol=1e-5)
    np.testing.assert_allclose(states[120]["constant"], 1.65, rtol=1e-5)


def test_carlini_wagner_matches_adam_on_its_objective():
    """Recompute the first search in float64: Kingma & Ba 2015, alg. 1, on ||z||^2 + 2 c f."""
    classifier, images, weights = planes(classes=2)
    attack = CarliniWagner(steps=80, binary_search_steps=2, initial_const=3.0)
    labels, states, _ = trajectory(classifier, attack, Threat((1000,), NORMS["l2"]), images, 12)
    bias = classifier.model.layers[-1].get_weights()[1].astype("float64")
    for row, label in enumerate(labels):
        normal, offset = weights[:, label] - weights[:, 1 - label], bias[label] - bias[1 - label]
        image = images[row].ravel().astype("float64")
        start = image @ normal + offset
        unit = start / np.linalg.norm(normal)
        z, m, v = np.zeros_like(image), 0.0, 0.0
        for t in range(12):
            np.testing.assert_allclose(states[t]["point"][row].ravel(), image + unit * z, atol=2e-2)
            active = (image + unit * z) @ normal + offset > 0
            g = 2 * z + 2 * 3.0 * active * normal * unit / start
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            rate = (
                0.1
                * np.linalg.norm(normal)
                / np.abs(normal).sum()
                * (1 + np.cos(np.pi * t / 40))
                / 2
            )
            z = z - rate * (m / (1 - 0.9 ** (t + 1))) / np.sqrt(v / (1 - 0.999 ** (t + 1)))


def test_ead_matches_algorithm_1():
    """Recompute the first search in float64: Chen et al. 2018, alg. 1."""
    classifier, images, weights = planes(classes=2)
    attack = EAD(steps=80, binary_search_steps=2, initial_const=3.0)
    labels, states, _ = trajectory(classifier, attack, Threat((5000,), NORMS["l1"]), images, 12)
    bias = classifier.model.layers[-1].get_weights()[1].astype("float64")
    for row, label in enumerate(labels):
        normal, offset = weights[:, label] - weights[:, 1 - label], bias[label] - bias[1 - label]
        image = images[row].ravel().astype("float64")
        start = image @ normal + offset
        unit = start / np.abs(normal).max()
        y, before = np.zeros_like(image), np.zeros_like(image)
        for k in range(12):
            np.testing.assert_allclose(states[k]["point"][row].ravel(), image + unit * y, atol=5e-2)
            active = (image + unit * y) @ normal + offset > 0
            step = 0.05 * (1 + np.cos(np.pi * k / 40)) / 2
            free = y - step * (2 * y + 12 * 3.0 * active * normal * unit / start)
            now = np.sign(free) * np.maximum(np.abs(free) - 10 * step, 0)
            y, before = now + k / (k + 3) * (now - before), now
            y = (np.clip(image + unit * y, 0, 255) - image) / unit


@pytest.mark.slow
def test_ead_changes_fewer_components_than_carlini_wagner():
    classifier, images, _ = planes()
    sparse = found(classifier, EAD(steps=360), Threat((3000,), NORMS["l1"]), images)
    dense = found(classifier, CarliniWagner(steps=360), Threat((300,), NORMS["l2"]), images)
    for key, (rung,) in sparse.items():
        assert rung.flip
        assert dense[key][0].flip
        assert rung.flip.distances.components < dense[key][0].flip.distances.components
        assert rung.flip.distances.l1 <= dense[key][0].flip.distances.l1
        assert rung.flip.distances.l2 > dense[key][0].flip.distances.l2


def test_too_few_steps_are_refused():
    with pytest.raises(SettingError, match="expected at least 18"):
        CarliniWagner(steps=10)


@pytest.mark.slow
def test_ddn_matches_algorithm_1():
    """Lines 4-10, with radius and steps in counts: 255 counts are 1 in the paper."""
    classifier, images, weights = planes(classes=2)
    count = 40
    labels, states, rows = trajectory(
        classifier, DDN(steps=count), Threat((400,), NORMS["l2"]), images, count
    )
    assert rows.passes == (1, 1)
    turns = set()
    for row, label in enumerate(labels):
        normal = (weights[:, 1 - label] - weights[:, label]).reshape(SHAPE)
        radius = 255.0
        for k in range(count):
            before, after = (states[n]["point"][row] for n in (k, k + 1))
            margin = margins(classifier, before[None], labels[row : row + 1])[0][0]
            if abs(margin) < 1e-4:
                break
            turns.add(margin < 0)
            radius *= 0.95 if margin < 0 else 1.05
            length = 255 * (0.01 + 0.99 * (1 + np.cos(np.pi * k / count)) / 2)
            moved = before - images[row] + length * normal / np.linalg.norm(normal)
            expected = np.clip(images[row] + radius * moved / np.linalg.norm(moved), 0, 255)
            np.testing.assert_allclose(after, expected, atol=0.02)
            assert states[k + 1]["radius"][row] == pytest.approx(radius, rel=1e-5)
    assert turns == {False, True}


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_fmn_matches_algorithm_1(norm):
    """Alg. 1, lines 5-11, recomputed from the points and the model."""
    classifier, images, weights = planes(classes=2)
    epsilon = {"linf": 30, "l2": 300, "l1": 3000, "l0": 30}[norm]
    labels, states, _ = trajectory(classifier, FMN(), Threat((epsilon,), NORMS[norm]), images, 60)
    normal = weights[:, 1] - weights[:, 0]
    order = {"linf": 1, "l2": 2, "l1": np.inf, "l0": 1}[norm]
    for row in range(3):
        radius, nearest = 0.0, np.inf
        for k in range(60):
            before, after = states[k], states[k + 1]
            delta = before["point"][row] - images[row]
            size = float(ops.convert_to_numpy(NORMS[norm].size(delta[None].astype("float32")))[0])
            margin = margins(classifier, before["point"][row][None], labels[row : row + 1])[0][0]
            if abs(margin) < 1e-4:
                break
            gamma = 1e-4 + (0.05 - 1e-4) * (1 + np.cos(np.pi * k / 100)) / 2
            if margin < 0:
                nearest = min(nearest, size)
                shrunk = radius * (1 - gamma)
                if norm == "l0":
                    shrunk = max(1, min(radius - 1, np.floor(shrunk)))
                radius = min(shrunk, nearest)
            elif np.isfinite(nearest):
                grown = radius * (1 + gamma)
                radius = max(radius + 1, np.floor(grown)) if norm == "l0" else grown
            else:
                radius = size + (1 if norm == "l0" else margin / np.linalg.norm(normal, order))
            assert after["radius"][row] == pytest.approx(radius, rel=2e-3, abs=1e-3)
            radius = after["radius"][row]
            moved = (after["point"][row] - images[row])[None].astype("float32")
            assert ops.convert_to_numpy(NORMS[norm].size(moved))[0] <= max(radius, 1e-6) * 1.001
        assert np.isfinite(nearest)


def test_sigma_zero_drops_pixels_below_its_threshold_and_adapts_it():
    classifier = small_cnn(1)
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3)).astype(np.uint8)
    labels, states, _ = trajectory(
        classifier, SigmaZero(steps=100), Threat((144,), NORMS["l0"]), images, 60
    )
    for k in range(60):
        before, after = states[k], states[k + 1]
        change = np.abs(after["point"] - images).max(-1)
        for row in range(3):
            floor = 255 * before["threshold"][row]
            assert ((change[row] < 1e-3) | (change[row] >= floor - 1e-3)).all()
        fade = 0.1 + 0.9 * (1 + np.cos(np.pi * k / 100)) / 2
        ahead = margins(classifier, before["point"], labels)[0]
        sure = np.abs(ahead) > 1e-4
        expected = np.clip(before["threshold"] - np.sign(ahead) * 0.01 * fade, 0, 1)
        np.testing.assert_allclose(after["threshold"][sure], expected[sure], atol=1e-5)


def test_sigma_zero_descends_on_the_smooth_pixel_count():
    """After a flip only the pixel count is lowered: its gradient by differences (eq. 6)."""
    classifier, images, _ = planes(classes=2)
    labels, states, _ = trajectory(
        classifier, SigmaZero(steps=100, threshold=0.0, threshold_step=0.0),
        Threat((36,), NORMS["l0"]), images, 3,
    )  # fmt: skip

    def count(change):
        square = (change**2).sum(-1)
        return (square / (square + 1e-3)).sum() / 36

    checked = 0
    for k in range(1, 3):
        ahead = margins(classifier, states[k]["point"], labels)[0]
        for row in np.nonzero(ahead < -1e-4)[0]:
            change = (states[k]["point"][row] - images[row]) / 255
            slope = np.zeros_like(change)
            for index in np.ndindex(change.shape):
                up, down = change.copy(), change.copy()
                up[index] += 1e-5
                down[index] -= 1e-5
                slope[index] = (count(up) - count(down)) / 2e-5
            rate = 0.1 + 0.9 * (1 + np.cos(np.pi * k / 100)) / 2
            moved = images[row] + 255 * (change - rate * slope / np.abs(slope).max())
            np.testing.assert_allclose(
                states[k + 1]["point"][row], np.clip(moved, 0, 255), atol=0.5
            )
            checked += 1
    assert checked
