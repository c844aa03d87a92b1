"""Tests of medians of interval-censored epsilons against known thresholds and by repeated sampling."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import robustness
from robustness.attacks.deepfool import DeepFool
from robustness.attacks.fgsm import FGSM
from robustness.attacks.pgd import PGD
from robustness.numerics import turnbull
from robustness.runs import smallest_epsilon
from robustness.runs.median_epsilon import fits, fitted, median_epsilons
from robustness.runs.schema import AttackEntry, Settings
from robustness.runs.store import Run
from tests.robustness.helpers import small_cnn

LADDER = (1.0, 2.0, 4.0, 8.0)
CONFIG = Settings(norm="linf", epsilons=LADDER)


def logistics(count, seed, middle=3.0, slope=2.0):
    """Each image's smallest epsilon, log-logistic about `middle`."""
    return middle * np.exp(np.random.default_rng(seed).logistic(size=count) / slope)


def flips(some):
    return some[:, None] <= np.array(LADDER)


def censored(some, exact=()):
    """The rungs on both sides of each number; the number itself where `exact`."""
    ends = np.array([0.0, *LADDER, math.inf])
    place = np.searchsorted(LADDER, some)
    low, high = ends[place], ends[place + 1]
    exact = np.zeros(len(some), bool) if not len(exact) else exact
    return np.where(exact, some, low), np.where(exact, some, high)


def two_humps(rng, n):
    return np.where(rng.random(n) < 0.44, rng.uniform(1, 2, n), rng.uniform(6, 12, n))


SHAPES = {
    "lognormal": (lambda rng, n: rng.lognormal(math.log(3), 0.7, n), 3.0),
    "two humps": (two_humps, 6 + 6 * 0.06 / 0.56),
    "uniform": (lambda rng, n: rng.uniform(0, 10, n), 5.0),
    "ties": (lambda rng, n: rng.choice([1.0, 2.0, 7.0, 11.0], n, p=[0.23, 0.21, 0.23, 0.33]), 7.0),
    "below the ladder": (lambda rng, n: rng.lognormal(math.log(0.4), 0.8, n), 0.4),
    "mostly above": (lambda rng, n: rng.lognormal(math.log(20), 0.8, n), 20.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("count", "known"), [(7, "rungs"), (8, "all"), (60, "rungs"), (60, "all"), (25, "some")]
)
def test_the_interval_covers_the_median_at_its_level(shape, count, known):
    """Nominal 95 %; at least 93 % of 200 samples. The bracket always contains the median of the sample."""
    draw, truth = SHAPES[shape]
    held, samples = 0, 60 if known == "some" else 200
    for seed in range(samples):
        some = draw(np.random.default_rng([seed, count]), count)
        exact = {"rungs": (), "all": some <= 8, "some": (some <= 8) & (np.arange(count) % 2 == 0)}
        low, high = censored(some, exact[known])
        found = turnbull.median(low, high, seed)
        held += found.interval[0] <= truth <= found.interval[1]
        assert found.interval[0] <= found.bracket[0] <= found.bracket[1] <= found.interval[1]
        if found.point is not None:
            assert found.bracket[0] <= found.point <= found.bracket[1]
        if known != "some":
            middle = np.sort(some)[(count - 1) // 2 : count // 2 + 1]
            assert found.bracket[0] <= middle[0] and middle[-1] <= found.bracket[1]
    assert held >= 0.93 * samples


@pytest.mark.slow
def test_the_interval_is_not_too_wide():
    """For known distances it is at most a third wider than the asymptotic one, 1.96 / (2 f sqrt n)."""
    widths = []
    for seed in range(40):
        some = np.random.default_rng(seed).uniform(0, 10, 400)
        low, high = turnbull.median(some, some, seed).interval
        widths.append(high - low)
    assert np.mean(widths) < 1.33 * 2 * 1.96 / (2 * 0.1 * math.sqrt(400))


def by_hand(low, high):
    """Turnbull's masses, by maximising the likelihood over all possible support points."""
    points = np.unique(np.concatenate([low, high, (np.unique(low)[1:] + np.unique(low)[:-1]) / 2]))
    points = np.unique(np.concatenate([points, points + 1e-6]))
    inside = (points > low[:, None]) & (points <= high[:, None])
    inside |= (low == high)[:, None] & (points == low[:, None])
    mass = np.full(len(points), 1 / len(points))
    for _ in range(20_000):
        mass = mass * (inside / (inside @ mass)[:, None]).mean(axis=0)
    return points, mass


@pytest.mark.slow
def test_overlapping_intervals_match_turnbull():
    """Against the same likelihood maximised over a fine grid of points, without innermost intervals."""
    rng = np.random.default_rng(4)
    for _ in range(5):
        low = rng.integers(0, 8, 15).astype(float)
        high = low + rng.integers(0, 5, 15)
        found = turnbull.median(low + 1, high + 1)
        points, mass = by_hand(low + 1, high + 1)
        reached = np.cumsum(mass)
        assert found.bracket == (np.sort(low + 1)[7], np.sort(high + 1)[7])
        pairs, counts = np.unique(np.column_stack([low + 1, high + 1]), axis=0, return_counts=True)
        left, right, own = turnbull.masses(pairs[:, 0], pairs[:, 1], counts)
        for a, b, m in zip(left, right, own, strict=True):
            inside = (points > a) & (points <= b) if a < b else points == a
            assert mass[inside].sum() == pytest.approx(m, abs=2e-3)
        first, last = (
            points[np.argmax(reached > 0.5 - 1e-4)],
            points[np.argmax(reached > 0.5 + 1e-4)],
        )
        passed = turnbull.estimate(pairs[:, 0], pairs[:, 1], counts)
        assert left[left <= first].max() <= passed <= right[right >= last - 1e-5].min()


@given(
    st.lists(st.floats(0.1, 30), min_size=1, max_size=40),
    st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_the_bracket_and_the_interval_contain_the_point(some, exact):
    some = np.array(some)
    low, high = censored(some, np.array(exact[: len(some)]) & (some <= 8))
    found = turnbull.median(low, high)
    assert found.interval[0] <= found.bracket[0] <= found.bracket[1] <= found.interval[1]
    assert (found.point is None) == (found.bracket[0] == 0 or math.isinf(found.bracket[1]))
    if found.point is not None:
        assert found.bracket[0] <= found.point <= found.bracket[1]
    if len(some) < 6:
        assert found.interval == (0.0, math.inf)


def test_the_point_is_where_the_distribution_reaches_one_half():
    def point(*some):
        return turnbull.median(*censored(np.array(some))).point

    assert point(1.5, 3, 3, 6) == pytest.approx(2 + 2 * 0.25 / 0.5)
    assert point(1.5, 1.5, 6, 6) == pytest.approx((2 + 4) / 2)  # as many below 2 as above 4
    assert point(0.5, 0.5, 3) is None and point(3, 9, 9) is None
    some = np.array([1.2, 3.0, 3.4, 7.0])
    assert turnbull.median(some, some).point == pytest.approx(3.2)


def test_empty_intervals_are_refused():
    with pytest.raises(ValueError, match="n >= 1"):
        turnbull.median(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="low <= high"):
        turnbull.median(np.array([2.0]), np.array([1.0]))


def test_the_fit_matches_scipy():
    table = flips(logistics(200, 0))
    x = np.log(LADDER)

    def loss(beta):
        margin = beta[0] * x + beta[1]
        return np.sum(np.logaddexp(0, margin) - table.mean(0) * margin)

    slope, level = minimize(loss, [1.0, 0.0], options={"gtol": 1e-9}).x
    found = fitted(table, LADDER)
    assert found is not None
    assert found["median"] == pytest.approx(math.exp(-level / slope), rel=1e-5)
    assert found["low"] < found["median"] < found["high"]


@pytest.mark.slow
def test_a_curve_is_reported_only_if_it_fits():
    """Samples of its distribution pass 95 of 100 times; two modes and ties on one rung never pass."""
    good = [fitted(flips(logistics(200, seed)), LADDER) is not None for seed in range(60)]
    assert sum(good) >= 50
    for name in ("two humps", "ties"):
        draw, _ = SHAPES[name]
        for seed in range(20):
            assert fitted(flips(draw(np.random.default_rng(seed), 100)), LADDER) is None
    for some in (np.full(50, 0.5), np.full(50, 9.0), np.full(50, 3.0), np.array([0.5, 3.0, 9.0])):
        assert fitted(flips(some), LADDER) is None
    assert fitted(np.zeros((0, 4), bool), LADDER) is None


def test_the_goodness_of_fit_test_matches_pearson():
    expected, shares = np.array([0.1, 0.3, 0.6, 0.8]), np.array([0.15, 0.3, 0.55, 0.85])
    told, hoped = np.array([15, 15, 25, 30, 15]), np.array([10, 20, 30, 20, 20])
    chi2 = np.sum((told - hoped) ** 2 / hoped)
    assert fits(expected, shares, 100) == pytest.approx(
        math.exp(-chi2 / 2)
    )  # two degrees of freedom
    assert fits(expected, shares, 10) is None


@pytest.mark.parametrize(
    ("some", "low", "high", "said"),
    [
        (np.full(7, 0.5), 0.0, 1.0, "1 or less, 95 % interval up to 1"),
        (np.full(7, 9.0), 8.0, None, "beyond 8, 95 % interval from 8 up"),
        (np.full(7, 3.0), 2.0, 4.0, "3, between 2 and 4, 95 % interval 2 to 4"),
        (np.array([1.5, 3.0, 3.5]), 2.0, 4.0, "2.5, between 2 and 4, 95 % interval without bounds"),
        (np.array([0.5, 1.5]), 0.0, 2.0, "2 or less"),
        (np.array([0.5, 9.0]), 0.0, None, "not known"),
        (np.zeros(0), None, None, "not known"),
    ],
)
def test_the_bracket_is_always_reported(some, low, high, said):
    found = dict(median_epsilons(table(some), CONFIG, ["pgd"])["pgd"])
    assert (found["bracket_low"], found["bracket_high"]) == (low, high)
    assert smallest_epsilon.said(found).startswith(said)


def table(some, label="pgd", reached=math.inf, **more):
    rows = [
        {"image": f"{i}", "attack": label, "epsilon": e, "status": "flipped" if f else "robust"}
        | {"linf": t if f else None}
        | more
        for i, (row, t) in enumerate(zip(flips(some), some, strict=True))
        for e, f in zip(LADDER, row, strict=True)
        if e <= reached
    ]
    return pd.DataFrame(rows, columns=["image", "attack", "epsilon", "status", "linf", *more])


def test_rows_become_medians_by_attack():
    easy, hard = logistics(100, 0, middle=2.0), logistics(100, 0, middle=4.0)
    rows = pd.concat([table(easy, "easy"), table(hard, "hard")])
    found, together = smallest_epsilon.medians(rows, CONFIG, ["easy", "hard"])
    for label, some in (("easy", easy), ("hard", hard)):
        wanted = turnbull.median(*censored(some))
        assert found[label]["median"] == wanted.point
        assert (found[label]["low"], found[label]["high"]) == wanted.interval
    assert together == found["easy"]  # which needs a smaller epsilon on every image
    # Each is better on half of the images.
    first = np.where(np.arange(100) % 2, easy, hard)
    second = np.where(np.arange(100) % 2, hard, easy)
    rows = pd.concat([table(first, "a"), table(second, "b")])
    assert smallest_epsilon.medians(rows, CONFIG, ["a", "b"])[1] == together


def test_distances_of_minimum_distance_attacks_are_used():
    some = np.random.default_rng(2).uniform(1, 12, 51)
    near = AttackEntry(label="near", seeks="closest")
    config = CONFIG.with_changes(attacks=(near, AttackEntry(label="pgd")))
    by, _ = smallest_epsilon.medians(table(some, "near"), config, ["near"])
    middle = float(np.sort(some)[25])
    assert by["near"]["bracket_low"] == by["near"]["bracket_high"] == by["near"]["median"] == middle
    # Another attack of the ladder that flips at the same rung may need less than that distance.
    both = pd.concat([table(some, "near"), table(some, "pgd")])
    _, together = smallest_epsilon.medians(both, config, ["near", "pgd"])
    assert (together["bracket_low"], together["bracket_high"]) == (4.0, 8.0)
    assert together == smallest_epsilon.medians(table(some), CONFIG, ["pgd"])[1]
    weak = pd.concat([table(some, "near"), table(np.full(51, 20.0), "pgd")])
    assert smallest_epsilon.medians(weak, config, ["near", "pgd"])[1] == by["near"]


def test_medians_exclude_unattacked_images_and_later_cascade_attacks():
    rows = table(logistics(50, 2))
    whole = dict(median_epsilons(rows, CONFIG, ["pgd"])["pgd"])
    more = [("broke", "failed"), ("wrong", "misclassified"), ("blank", "unreadable")]
    extra = pd.DataFrame(
        [{"image": i, "attack": "pgd", "epsilon": e, "status": s} for i, s in more for e in LADDER]
    )
    found = dict(median_epsilons(pd.concat([rows, extra]), CONFIG, ["pgd"])["pgd"])
    assert found["note"].startswith("1 image left out")
    assert found | {"note": ""} == whole
    settled = extra.assign(status="settled")
    found = dict(median_epsilons(pd.concat([rows, settled]), CONFIG, ["pgd"])["pgd"])
    assert found["median"] is None and found["bracket_low"] is None and "cascade" in found["note"]


@pytest.mark.slow
def test_an_audit_stores_the_medians_in_its_manifest(tmp_path):
    classifier = small_cnn(6)
    images = np.random.default_rng(1).integers(0, 256, (24, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    attacks, ladder = [PGD(steps=4), FGSM(), DeepFool()], [1, 2, 4, 8, 400]
    result = robustness.audit(
        classifier,
        images,
        labels=labels,
        attacks=attacks,
        epsilons=ladder,
        norm="l2",
        out=tmp_path / "run",
    )
    with Run.open(result.path) as run:
        manifest, outcomes = run.manifest, run.outcomes()
    kept = manifest.median_epsilon
    assert list(kept) == [a.label for a in attacks]
    assert kept == median_epsilons(outcomes, manifest.config, list(kept))
    flips = outcomes[(outcomes.attack == attacks[2].label) & (outcomes.status == "flipped")]
    nearest = flips.groupby("image").l2.min().sort_values()
    assert len(nearest) > 12  # more than half
    assert kept[attacks[2].label].bracket_low == nearest.iloc[11]
    assert kept[attacks[2].label].bracket_high == nearest.iloc[12]


def test_what_limits_an_attack_is_no_bound_on_its_flips():
    """A random start may take a flip further than the steps reach; few queries may reach anything."""
    assert smallest_epsilon.limited("pgd", 3.0) == "pgd reaches 3 at most from the image"
    assert smallest_epsilon.limited("square", 0.0) == "square makes too few queries"
