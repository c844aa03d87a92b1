"""Tests of the metrics against plain Python on random tables and against numbers computed by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest

from robustness.reports.summary import metrics, perception
from robustness.runs import smallest_epsilon
from robustness.runs.schema import Settings

RNG = np.random.default_rng(5)


def table(rows: list[tuple[str, str, float, str]], **columns: list) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image", "attack", "epsilon", "status"]).assign(**columns)


def random_rows(seed: int) -> list[tuple[str, str, float, str]]:
    """Images with one fixed state (wrong, unreadable) or attacked, three attacks, three epsilons."""
    chance, rows = random.Random(seed), []
    for number in range(60):
        fixed = chance.choice(["", "", "", "misclassified", "unreadable"])
        for attack in "abc":
            for epsilon in (1.0, 2.0, 4.0):
                status = fixed or chance.choice(["flipped", "robust", "robust", "failed"])
                rows.append((f"i{number}", attack, epsilon, status))
    chance.shuffle(rows)
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_worst_case_and_tally_equal_plain_loops(seed: int) -> None:
    rows = random_rows(seed)
    worst = metrics.worst_case(table(rows))
    for epsilon in (1.0, 2.0, 4.0):
        counts = dict.fromkeys(metrics.STATUSES, 0)
        for image in {row[0] for row in rows}:
            mine = [r for r in rows if r[0] == image]
            here = {r[3] for r in mine if r[2] == epsilon}
            if any(r[3] == "flipped" and r[2] <= epsilon for r in mine):
                status = "flipped"
            elif "robust" in here:
                status = "robust"
            else:
                (status,) = here
            counts[status] += 1
        found = metrics.tally(worst[worst["epsilon"] == epsilon]["status"])
        assert {name: getattr(found, name) for name in counts} == counts
        judged = counts["flipped"] + counts["robust"]
        assert (found.flip_rate.count, found.flip_rate.total) == (counts["flipped"], judged)
        attacked = judged + counts["failed"]
        assert found.lowest == counts["flipped"] / attacked
        assert found.highest == (counts["flipped"] + counts["failed"]) / attacked


def test_misclassified_never_counts() -> None:
    found = metrics.tally(pd.Series(["misclassified"] * 9 + ["flipped", "robust"]))
    assert found.flip_rate.share == 0.5
    assert metrics.tally(pd.Series(["misclassified"] * 9)).flip_rate.share is None
    assert metrics.robust_accuracy(pd.Series(["misclassified"] * 9 + ["robust"])).share == 0.1


def test_unreadable_images_are_not_counted_and_failed_ones_are_not_robust() -> None:
    status = pd.Series(["unreadable", "robust", "failed", "misclassified", "flipped"])
    assert metrics.robust_accuracy(status).total == 4
    assert metrics.robust_accuracy(status).count == 1


def test_a_flip_holds_at_larger_epsilons() -> None:
    rows = [("i", "a", 1.0, "flipped"), ("i", "a", 2.0, "robust"), ("j", "a", 2.0, "robust")]
    frame = metrics.carried(table(rows))
    assert frame.set_index(["image", "epsilon"])["status"].to_dict() == {
        ("i", 1.0): "flipped",
        ("i", 2.0): "flipped",
        ("j", 2.0): "robust",
    }


def test_clean_accuracy_excludes_images_without_label_or_prediction() -> None:
    images = pd.DataFrame({"label": [0, 1, 1, None, 0], "clean_class": [0, 1, 0, 1, None]})
    found = metrics.clean_accuracy(images)
    assert found is not None
    assert (found.count, found.total) == (2, 3)
    assert metrics.clean_accuracy(images.assign(label=None)) is None


def test_smallest_epsilon_includes_images_that_never_flip() -> None:
    def of(*epsilons: float) -> metrics.SmallestEpsilon:
        rows = [
            (f"i{n}", "a", e, "flipped" if e >= at else "robust")
            for n, at in enumerate(epsilons)
            for e in (1.0, 2.0, 4.0)
        ]
        return told(table(rows))

    def told(rows: pd.DataFrame) -> metrics.SmallestEpsilon:
        _, together = smallest_epsilon.medians(rows, Settings(), ["a"])
        return metrics.smallest_epsilon(rows, together)

    found = of(1, 1, 4)
    assert (found.median, found.bracket_low, found.bracket_high) == (None, 0.0, 1.0)
    assert (found.censored, found.total) == (0, 3)
    found = of(2, 4, 4, math.inf, math.inf)
    assert (found.bracket_low, found.bracket_high) == (2.0, 4.0)
    assert found.median == pytest.approx(2 + 2 * (0.5 - 0.2) / 0.4)
    assert (found.censored, found.total) == (2, 5)
    found = of(1, math.inf, math.inf)
    assert (found.median, found.bracket_low, found.bracket_high) == (None, 4.0, None)
    wrong = told(table([("i", "a", 1.0, "misclassified")]))
    assert (wrong.median, wrong.bracket_low, wrong.total) == (None, None, 0)


def test_first_flips_take_the_smallest_epsilon_then_the_highest_confidence() -> None:
    rows = [("i", "a", 2.0, "flipped"), ("i", "b", 1.0, "flipped"), ("i", "c", 1.0, "flipped")]
    frame = table(rows, confidence_after=[0.99, 0.7, 0.8])
    assert metrics.first_flips(frame)["attack"].tolist() == ["c"]


def test_flips_are_counted_by_pairs_of_classes() -> None:
    frame = pd.DataFrame({"clean_class": [0, 0, 1, 2], "adversarial_class": [1, 1, 0, None]})
    assert metrics.flips_between(frame).to_numpy().tolist() == [[0, 1, 2], [1, 0, 1]]


def test_change_measures_match_hand_computation() -> None:
    before = np.zeros((2, 2, 3), np.uint8)
    after = before.copy()
    after[0, 0] = (3, 0, 4)
    after[1, 1, 2] = 12
    found = metrics.change(before, after)
    assert (found.pixels, found.components) == (2, 3)
    assert (found.l1, found.l2, found.linf) == (19, 13, 12)
    assert math.isclose(found.psnr or 0, 10 * math.log10(255**2 / (169 / 12)))


def test_change_does_not_wrap_around() -> None:
    black, white = np.zeros((1, 1, 1), np.uint8), np.full((1, 1, 1), 255, np.uint8)
    assert metrics.change(white, black).linf == 255
    assert metrics.delta(white, black).tolist() == [[[-255]]]
    assert metrics.change(white, black).psnr == 0
    assert metrics.change(white, white).psnr is None


def test_pictures_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        metrics.delta(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 1), np.uint8))


def test_delta_histogram_counts_every_component() -> None:
    deltas = [RNG.integers(-5, 4, (6, 7, 3)), RNG.integers(-2, 9, (3, 3, 3))]
    found = metrics.delta_histogram(deltas)
    for channel in range(3):
        flat = [int(v) for one in deltas for v in one[..., channel].ravel()]
        for count in range(-6, 10):
            expected = flat.count(count)
            assert (found.loc[count, channel] if count in found.index else 0) == expected
    assert metrics.delta_histogram([]).empty


def test_share_histogram_puts_one_in_the_last_bin() -> None:
    values = pd.Series([0.0, 0.04, 0.5, 1.0, 1.0000001, None])
    found = metrics.share_histogram(values)
    assert (found[0], found[10], found[19], sum(found)) == (2, 1, 2, 5)


def test_ssim_matches_explicit_windows() -> None:
    """Every 11 x 11 window explicitly: weights, means, population covariance; then the mean."""
    before = RNG.integers(0, 256, (14, 13, 3), dtype=np.uint8)
    after = np.clip(before + RNG.integers(-9, 10, before.shape), 0, 255).astype(np.uint8)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for channel in range(3):
        for top in range(4):
            for left in range(3):
                where = np.s_[top : top + 11, left : left + 11, channel]
                p, q = before[where].astype(float), after[where].astype(float)
                u, v = (weights * p).sum(), (weights * q).sum()
                uu, vv = (weights * (p - u) ** 2).sum(), (weights * (q - v) ** 2).sum()
                uv = (weights * (p - u) * (q - v)).sum()
                c1, c2 = 2.55**2, 7.65**2
                upper = (2 * u * v + c1) * (2 * uv + c2)
                found.append(upper / ((u * u + v * v + c1) * (uu + vv + c2)))
    assert perception.ssim(before, after) == pytest.approx(np.mean(found), abs=1e-6)
    assert perception.ssim(before[:10], after[:10]) is None
    assert perception.ssim(before, before) == pytest.approx(1)


def test_colour_difference_matches_a_published_pair() -> None:
    """White against black is 100 by definition of the lightness; equal pictures are 0 apart."""
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert perception.colour_difference(black, white) == pytest.approx(100, abs=0.01)
    assert perception.colour_difference(white, white) == 0
    assert perception.colour_difference(black[..., :1], white[..., :1]) == pytest.approx(
        100, abs=0.01
    )


@pytest.mark.parametrize("seed", range(3))
def test_tallies_of_groups_equal_the_tally_of_each(seed: int) -> None:
    worst = metrics.worst_case(table(random_rows(seed)))
    groups = worst["image"].map(lambda key: None if key == "i7" else int(key[1:]) % 5)
    found = metrics.tallies(worst, groups)
    assert list(found) == sorted((group, e) for group in range(5) for e in (1.0, 2.0, 4.0))
    for (group, epsilon), tally in found.items():
        rows = worst[(groups == group) & (worst["epsilon"] == epsilon)]
        assert tally == metrics.tally(rows["status"], rows["broke"])
        assert metrics.robust_share(tally) == metrics.robust_accuracy(rows["status"])
