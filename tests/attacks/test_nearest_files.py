"""Tests of minimum-distance attacks on linear models, whose nearest 8-bit files are known."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from robustness.attacks.apgd import APGD
from robustness.attacks.carlini_wagner import CarliniWagner
from robustness.attacks.ddn import DDN
from robustness.attacks.deepfool import DeepFool
from robustness.attacks.ead import EAD
from robustness.attacks.fab import FAB
from robustness.attacks.fmn import FMN
from robustness.attacks.pgd import PGD
from robustness.attacks.sigma_zero import SigmaZero
from robustness.attacks.wrappers import Bisection
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.search import search
from robustness.numerics.pixel_lattice import lattice
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, subjects

SHAPE = (12, 12, 3)
SIZE = int(np.prod(SHAPE))


def lower_bound(weights, room, gap, power):
    """A lower bound of ``sum |z|**power`` over integer z with ``weights @ z > gap``.

    Takes counts in the order of gain per cost, the last one in part (the relaxed problem). Tight for equal
    weights.
    """
    most = int(room.max())
    step = np.arange(most)[None]
    cost = np.broadcast_to((2 * step + 1.0) if power == 2 else np.ones((1, most)), (SIZE, most))
    gain = np.repeat(np.abs(weights)[:, None], most, axis=1)
    there = step < room[:, None]
    gain, cost = gain[there], cost[there]
    order = np.argsort(-gain / cost, kind="stable")
    gained, spent = np.cumsum(gain[order]), np.cumsum(cost[order])
    last = int(np.searchsorted(gained, gap))
    before = gained[last - 1] if last else 0.0
    paid = spent[last - 1] if last else 0.0
    return math.ceil(paid + (gap - before) / gain[order][last] * cost[order][last] - 1e-6)


def weighted(kind, rng):
    return (
        0.01
        * {
            "equal": lambda: np.ones(SIZE),
            "signs": lambda: rng.choice([-1.0, 1.0], SIZE),
            "two sizes": lambda: rng.choice([1.0, 2.0], SIZE, p=[0.7, 0.3]),
            "a few large": lambda: rng.choice([1.0, 8.0], SIZE, p=[0.97, 0.03]),
            "normal": lambda: rng.normal(0, 1, SIZE),
        }[kind]()
    )


KINDS = ("equal", "signs", "two sizes", "a few large", "normal")


def linear_problem(kind, seed=0, *, dark=False):
    """A model, images 0.1 to 1.2 counts from its boundary, and their gaps; `dark`: pixels at 0, 255."""
    rng = np.random.default_rng(seed)
    weights = weighted(kind, rng)
    images = rng.integers(120, 136, (5, *SHAPE))
    if dark:
        ends = np.where(rng.random(images.shape) < 0.5, 0, 255)
        images = np.where(rng.random(images.shape) < 0.3, ends, images)
    total = np.abs(weights).sum()
    flat = images.reshape(5, -1)
    scores = flat @ weights
    # Pixels in the middle of their range move the images to these distances.
    free = ((flat > 100) & (flat < 150)).astype(float)
    wanted = total * np.array([0.1, 0.25, 0.4, 0.7, 1.2])
    boundary = scores.mean()
    push = np.sign(weights) * free
    steps = ((boundary - wanted - scores) / (push @ weights))[:, None]
    steps = np.floor(steps + rng.random(flat.shape))
    images = np.clip(flat + steps * push, 0, 255).astype(np.uint8).reshape(images.shape)
    # Between two possible scores, so that no picture lies on the boundary.
    bias = -(boundary - boundary % 0.01 + 0.005)
    gaps = -(images.reshape(5, -1) @ weights + bias)
    assert (gaps > 0).all()
    return np.stack([np.zeros(SIZE), weights], 1), np.array([0.0, bias]), images, weights, gaps


@functools.cache
def compiled(attack, norm, slots):
    """A linear model, and the attack compiled for it; other weights use the same graph."""
    model = linear(np.zeros((SIZE, 2)), np.zeros(2), SHAPE)
    threat = Threat((4000,), NORMS[norm])
    return model, CompiledBatch(model, attack, threat, batch_size=slots, seed=0)


def found(planes, attack, threat, images):
    """The outcomes of each image on the linear model with these weights and biases, by image key."""
    model, batch = compiled(attack, threat.norm.name, len(images))
    model.model.layers[-1].set_weights([x.astype("float32") for x in planes])
    # The budget of a row is data: another one uses the same graph.
    batch.threat = threat
    return {example.key: outcomes for example, outcomes in search(batch, subjects(model, images))}


ATTACKS = [
    ("l2", DeepFool()),
    ("l2", DDN(steps=60)),
    ("l2", FMN(steps=60)),
    ("l2", FAB(steps=20)),
    ("l1", FMN(steps=60)),
    ("l1", FAB(steps=20)),
]


def relative_excess(attack, norm, kind, *, dark=False):
    """The relative excess of each file over the bound, in the power in which distances are integers."""
    *planes, images, weights, gaps = linear_problem(kind, dark=dark)
    power = NORMS[norm].power
    rungs = found(planes, attack, Threat((4000,), NORMS[norm]), images)
    shares = []
    for place, (image, gap) in enumerate(zip(images, gaps, strict=True)):
        room = np.where(weights > 0, 255 - image.ravel().astype(int), image.ravel())
        (rung,) = rungs[f"row {place}"]
        assert rung.flip, (kind, place)
        best = lower_bound(weights, room, gap, power)
        got = rung.flip.distances.of(norm)
        assert got**power > best - 0.5
        shares.append((got / best ** (1 / power) - 1, got**power - best))
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["grey", "dark"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("norm", "attack"), ATTACKS, ids=[f"{n} {a.name}" for n, a in ATTACKS])
def test_minimisers_reach_the_nearest_file_within_one_percent(norm, attack, kind, dark):
    for share, counts in relative_excess(attack, norm, kind, dark=dark):
        # The tolerance of the search, plus two counts where distances are small.
        assert share <= 0.0125 or counts <= 2, (share, counts)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["grey", "dark"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("norm", "attack"),
    [
        ("l2", CarliniWagner(steps=240, binary_search_steps=6)),
        ("l1", EAD(steps=320, binary_search_steps=8)),
        pytest.param("l2", Bisection(of=PGD(steps=20), rounds=6), marks=pytest.mark.slow),
        pytest.param("l1", Bisection(of=PGD(steps=20), rounds=6), marks=pytest.mark.slow),
    ],
    ids=["l2 cw", "l1 ead", "l2 bisection", "l1 bisection"],
)
def test_coarser_attacks_are_refined_to_the_nearest_file(norm, attack, kind, dark):
    for share, counts in relative_excess(attack, norm, kind, dark=dark):
        assert share <= 0.0125 or counts <= 2, (share, counts)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["grey", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_l0_attacks_change_the_fewest_pixels(kind, dark):
    """For a linear model the fewest pixels are those with the largest gain."""
    *planes, images, weights, gaps = linear_problem(kind, dark=dark)
    rungs = found(planes, SigmaZero(steps=100), Threat((144,), NORMS["l0"]), images)
    for place, (image, gap) in enumerate(zip(images, gaps, strict=True)):
        room = np.where(weights > 0, 255 - image.ravel().astype(int), image.ravel())
        brings = np.sort((np.abs(weights) * room).reshape(-1, 3).sum(1))[::-1]
        fewest = int(np.searchsorted(np.cumsum(brings), gap)) + 1
        (rung,) = rungs[f"row {place}"]
        assert rung.flip.distances.l0 == fewest


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("norm", "attack"),
    # PGD in l1 moves so few components that it misses some of them in float already.
    [("l2", PGD(steps=20)), ("l2", APGD(steps=20)), ("l1", APGD(steps=20))],
    ids=["l2 pgd", "l2 apgd", "l1 apgd"],
)
def test_a_budget_that_holds_a_flip_is_not_reported_robust(attack, norm, kind):
    """The budget exceeds the length of the nearest file by 1.5 % or by two counts."""
    *planes, images, weights, gaps = linear_problem(kind)
    power = NORMS[norm].power
    for place, (image, gap) in enumerate(zip(images, gaps, strict=True)):
        room = np.where(weights > 0, 255 - image.ravel().astype(int), image.ravel())
        best = lower_bound(weights, room, gap, power)
        epsilon = max(1.015 * best ** (1 / power), (best + 2) ** (1 / power))
        rungs = found(planes, attack, Threat((epsilon,), NORMS[norm]), image[None])
        (rung,) = rungs["row 0"]
        assert rung.flip, (place, epsilon, rung.flips_in_float_only)
        assert rung.flip.distances.of(norm) <= epsilon * (1 + 1e-6)


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), radius=st.floats(0.5, 60))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
def test_steepest_changes_are_optimal_among_8_bit_changes(norm, seed, radius):
    """No 8-bit change of the same length goes farther along the gradient; the stated budget is kept."""
    slope, low, high = changes(seed)
    path = NORMS[norm].steepest_path(slope, low, high)
    change = path.within(radius)
    size = float(ops.convert_to_numpy(NORMS[norm].size(change[None].astype("float32")))[0])
    assert size <= radius * (1 + 1e-5)
    assert ((low <= change) & (change <= high)).all()
    gain = float((slope * change).sum())
    rng = np.random.default_rng(seed)
    for _ in range(20):
        other = np.round(rng.uniform(low, high) * rng.random())
        if norm == "l0":
            other = other * (rng.random((*slope.shape[:2], 1)) < rng.random())
        length = float(ops.convert_to_numpy(NORMS[norm].size(other[None].astype("float32")))[0])
        last = np.abs(slope).max() if norm == "l2" else 0.0
        if length <= size:
            assert (slope * other).sum() <= gain * (1 + 2e-3) + last + 1e-9
    if gain > 0:
        needed = path.reaching(gain * (1 - 1e-9))
        dearest = 2 * np.abs(change).max() + 3 if norm == "l2" else 0
        assert needed ** NORMS[norm].power <= size ** NORMS[norm].power + dearest + 1e-3


def changes(seed, count=1):
    """A change (h, w, c) of few different sizes, and its bounds."""
    rng = np.random.default_rng(seed)
    shape = (5, 4, 3)
    sizes = rng.choice(rng.uniform(0.05, 3.0, rng.integers(1, 5)), shape)
    delta = sizes * rng.choice([-1, 1], shape)
    low = -rng.integers(0, 6, shape).astype(float)
    high = rng.integers(0, 6, shape).astype(float)
    return np.clip(delta, low, high), low, high


@pytest.mark.parametrize("norm", ["l2", "l1"])
@given(seed=st.integers(0, 10**6), radius=st.floats(0.5, 60))
@settings(max_examples=60, deadline=None)
def test_lattice_changes_are_legal_and_use_the_budget(norm, seed, radius):
    delta, low, high = changes(seed)
    power = NORMS[norm].power
    change = lattice(delta, low, high, power).within(radius)
    assert change.dtype == np.int64
    assert ((low <= change) & (change <= high)).all()
    assert (change * delta >= 0).all()
    spent = (np.abs(change) ** power).sum()
    assert spent <= radius**power * (1 + 1e-6)
    room = np.where(delta > 0, high, -low) * (delta != 0)
    # No further count fits: the rest of the budget is below the cost of one, or no change is left.
    dearest = 2 * np.abs(change).max() + 1 if power == 2 else 1
    full = (np.abs(change) == room).all()
    assert full or spent > radius**power - dearest - 1


@given(seed=st.integers(0, 10**6), radius=st.floats(0.5, 25))
@settings(max_examples=40, deadline=None)
def test_lattice_changes_maximise_the_product_with_the_gradient(seed, radius):
    """The product with the change is the largest at this length, up to the gain of the last count."""
    delta, low, high = changes(seed)
    change = lattice(delta, low, high, 2).within(radius)
    step = np.arange(6)
    room = np.where(delta > 0, high, -low)
    gain, cost = np.broadcast_arrays(np.abs(delta)[..., None], 2 * step + 1)
    there = (step < room[..., None]) & (gain > 0)
    order = np.argsort(-(gain / cost)[there], kind="stable")
    spent = np.cumsum(cost[there][order])
    fits = spent <= radius**2 * (1 + 1e-9)
    most = gain[there][order][fits].sum()
    last = gain[there].max(initial=0.0)
    assert (change * delta).sum() >= most * (1 - 2e-3) - last


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_equal_components_are_raised_one_by_one(seed):
    rng = np.random.default_rng(seed)
    size, shape = rng.uniform(0.01, 0.9), (6, 6, 3)
    delta = size * rng.choice([-1.0, 1.0], shape)
    bounds = np.full(shape, 100.0)
    for norm in ("l1", "l2"):
        path = lattice(delta, -bounds, bounds, NORMS[norm].power)
        for count in (1, 2, 17, 107):
            change = path.within(count ** (1 / NORMS[norm].power))
            assert (np.abs(change) == 1).sum() == np.abs(change).sum() == count
        # Spread over the picture: each third has about a third of them.
        thirds = np.abs(path.within(54 ** (1 / NORMS[norm].power))).reshape(3, -1).sum(1)
        assert thirds.min() >= 14
        guess = path.guess() ** NORMS[norm].power
        assert abs(guess - size * 108) <= 1.2


def test_rounding_changes_nothing_without_room_or_change():
    shut = np.zeros((4, 4, 3))
    assert not lattice(np.ones((4, 4, 3)), shut, shut, 2).within(5.0).any()
    assert not ops.convert_to_numpy(lattice(shut, shut - 9, shut + 9, 1).within(5.0)).any()
