"""The median epsilon against thresholds that are known, and against repeated sampling."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import robustness
from attacks.bim import BIM
from attacks.fgsm import FGSM
from robustness.medians import fitted, median_epsilons
from robustness.store import Run
from tests.robustness.helpers import small_cnn

LADDER = (1.0, 2.0, 4.0, 8.0)


def thresholds(count, seed, middle=3.0, slope=2.0):
    """Each image's smallest epsilon, log-logistic about `middle`."""
    return middle * np.exp(np.random.default_rng(seed).logistic(size=count) / slope)


def flips(some):
    return some[:, None] <= np.array(LADDER)


def test_the_fit_is_scipys():
    table = flips(thresholds(200, 0))
    x = np.log(LADDER)

    def loss(beta):
        margin = beta[0] * x + beta[1]
        return np.sum(np.logaddexp(0, margin) - table.mean(0) * margin)

    slope, level = minimize(loss, [1.0, 0.0], options={"gtol": 1e-9}).x
    found = fitted(table, LADDER)
    assert found["median"] == pytest.approx(math.exp(-level / slope), rel=1e-5)
    assert found["low"] < found["median"] < found["high"] and found["note"] == ""


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = []
    for seed in range(300):
        found = fitted(flips(thresholds(60, seed)), LADDER)
        held.append(found["low"] <= 3.0 <= found["high"])
    # 95 % of 300 are 285; five standard deviations below are 266. Rungs taken for independent: 205.
    assert 266 <= sum(held) <= 298


@pytest.mark.parametrize(
    ("some", "low", "high", "said"),
    [
        (np.full(5, 0.5), None, 1.0, "all 5 images flip at 1, the smallest"),
        (np.full(5, 9.0), 8.0, None, "none of 5 images flips up to 8"),
        (np.full(5, 3.0), 2.0, 4.0, "5 images, too steep"),
        (np.array([1.5, 3.0, 3.5]), 1.0, 4.0, "3 images, too steep"),
        (np.array([0.5, 1.5]), None, 2.0, "2 images, too steep"),
        (np.array([0.5, 9.0]), None, None, "as many images flip at 1 as at 8"),
        (np.zeros(0), None, None, "no image"),
    ],
)
def test_where_nothing_can_be_fitted_it_says_why(some, low, high, said):
    found = fitted(flips(some), LADDER)
    assert found["median"] is None
    assert (found["low"], found["high"]) == (low, high)
    assert said in found["note"]


def test_a_median_beyond_the_ladder_is_said_to_be():
    found = fitted(flips(thresholds(400, 1, middle=20.0)), LADDER)
    assert found["median"] > 8 and "hold beyond 8" in found["note"]
    found = fitted(flips(thresholds(400, 1, middle=0.4)), LADDER)
    assert found["median"] < 1 and "flip below 1" in found["note"]


def test_a_handful_of_images_has_no_bounded_interval():
    found = fitted(flips(np.array([0.5, 3.0, 9.0])), LADDER)
    assert found["median"] is not None
    assert found["high"] is None or found["high"] > 4
    assert found["low"] is None or found["low"] < 2


def table(some, label="pgd", **status):
    return pd.DataFrame(
        [
            {"image": f"{i}", "attack": label, "epsilon": e, "status": "flipped" if f else "robust"}
            for i, row in enumerate(flips(some))
            for e, f in zip(LADDER, row, strict=True)
        ]
    )


def test_rows_become_medians_by_attack():
    easy, hard = thresholds(100, 0, middle=2.0), thresholds(100, 0, middle=4.0)
    rows = pd.concat([table(easy, "easy"), table(hard, "hard")])
    found = median_epsilons(rows, ["easy", "hard"], LADDER)
    assert found["easy"] == pytest.approx(fitted(flips(easy), LADDER))
    assert found["hard"]["median"] > found["easy"]["high"]
    assert median_epsilons(rows, ["easy"], (4.0,)) == {}


def test_broken_and_wrong_images_are_left_out_and_cascades_have_no_median():
    rows = table(thresholds(50, 2))
    whole = median_epsilons(rows, ["pgd"], LADDER)["pgd"]
    more = [("broke", "failed"), ("wrong", "misclassified"), ("blank", "unreadable")]
    extra = pd.DataFrame(
        [{"image": i, "attack": "pgd", "epsilon": e, "status": s} for i, s in more for e in LADDER]
    )
    assert median_epsilons(pd.concat([rows, extra]), ["pgd"], LADDER)["pgd"] == (
        pytest.approx(whole)
    )
    settled = extra.assign(status="settled")
    found = median_epsilons(pd.concat([rows, settled]), ["pgd"], LADDER)["pgd"]
    assert found["median"] is None and "cascade" in found["note"]


def test_an_audit_keeps_the_medians_in_its_manifest(tmp_path):
    classifier = small_cnn(6)
    images = np.random.default_rng(1).integers(0, 256, (24, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    attacks, ladder = [BIM(steps=2), FGSM()], [1, 2, 4, 8]
    result = robustness.audit(
        classifier, images, labels=labels, attacks=attacks, epsilons=ladder, run=tmp_path / "run"
    )
    with Run.open(result.path) as run:
        kept, outcomes = run.manifest["median_epsilon"], run.outcomes()
    assert list(kept) == [a.label for a in attacks]
    assert kept == median_epsilons(outcomes, list(kept), ladder)
    assert any(one["median"] is not None for one in kept.values())
    for one in kept.values():
        assert set(one) == {"median", "low", "high", "note"}
