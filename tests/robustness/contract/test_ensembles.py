"""Tests of ensembles and cascades: members, notes, and that a cascade loses no flip."""

from __future__ import annotations

import numpy as np
import pytest

import robustness
from robustness.attacks import BIM, FGSM, PGD
from robustness.attacks.apgd import APGD, APGDT
from robustness.attacks.ensembles import AUTOATTACK, PLUS, QUICK, RAND, STANDARD, THOROUGH
from robustness.attacks.fab import FAB, FABT
from robustness.attacks.square import Square
from robustness.attacks.wrappers import EOT
from robustness.contract import ensembles
from robustness.errors import SettingError
from robustness.runs.store import Run
from robustness.threat.goals import Targeted, Untargeted
from robustness.threat.norms import NORMS
from robustness.verification.rows import RunContents, check_rows
from tests.robustness.helpers import small_cnn

TEN = [str(n) for n in range(10)]
TWO = ["cat", "dog"]


def resolved(*asked, norm="linf", goal=None, classes=TEN, **kwargs):
    return ensembles.resolve(asked, NORMS[norm], goal or Untargeted(), classes, **kwargs)


def test_autoattack_matches_the_publication():
    # Croce & Hein 2020, sec. 6: APGD-CE, APGD-T, FAB-T with 9 targets, 100 steps; Square, 5000 queries.
    found = resolved("autoattack")
    assert found.attacks == (
        APGD(steps=100, loss="cross_entropy"),
        APGDT(steps=100, targets=9),
        FABT(steps=100, targets=9),
        Square(steps=5000, p=0.8),
    )
    assert found.cascade
    assert found.replaced == ()


def test_the_plus_version_matches_the_publication():
    # Their README: five starts of APGD-CE, APGD-DLR and FAB, one of Square; nine targets of one start.
    assert resolved("autoattack-plus").attacks == (
        APGD(steps=100, loss="cross_entropy", restarts=5),
        APGD(steps=100, loss="dlr", restarts=5),
        FAB(steps=100, restarts=5),
        Square(steps=5000, p=0.8),
        APGDT(steps=100, targets=9),
        FABT(steps=100, targets=9),
    )


def test_the_version_for_randomised_models_averages_answers():
    # Croce & Hein 2020, their version "rand": APGD-CE and APGD-DLR, 20 answers a look, one start.
    assert resolved("autoattack-rand").attacks == (
        EOT(of=APGD(loss="cross_entropy"), samples=20),
        EOT(of=APGD(loss="dlr"), samples=20),
    )


def test_few_classes_reduce_the_targets_with_a_note():
    found = resolved("autoattack", classes=["a", "b", "c"])
    assert [a.restarts for a in found.attacks] == [1, 2, 2, 1]
    assert len(found.replaced) == 1
    assert "apgd-t: targeted DLR needs four classes; with 3 the margin" in found.replaced[0]


def test_two_classes_replace_targeted_attacks_with_a_note():
    found = resolved("autoattack", classes=TWO)
    assert found.attacks == (
        APGD(loss="margin", restarts=2), FAB(), Square(steps=5000),
    )  # fmt: skip
    assert len(found.replaced) == 1
    for word in ("two classes", "APGD-CE", "APGD-T", "margin", "FAB-T became fab"):
        assert word in found.replaced[0]


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", [AUTOATTACK, PLUS, RAND, QUICK, STANDARD, THOROUGH])
@pytest.mark.parametrize("classes", [TEN, ["a", "b", "c"], TWO])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_preset_runs_on_any_model_without_duplicates(ensemble, classes, norm):
    found = resolved(ensemble, norm=norm, classes=classes)
    labels = [attack.label for attack in found.attacks]
    assert len(set(labels)) == len(labels) >= 1
    missing = [name for name in ("square",) if norm == "l1" and name in str(ensemble.members)]
    for name in missing:
        assert any(f"{name} has no l1 version" in note for note in found.replaced)
    if len(classes) == 2:
        assert not any(isinstance(a, (APGDT, FABT)) for a in found.attacks)
        assert not any(a.loss == "dlr" for a in found.attacks)


def test_a_targeted_goal_leaves_one_target():
    found = resolved("autoattack", goal=Targeted(3))
    assert [a.restarts for a in found.attacks] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: resolved("autoatack"), "Did you mean autoattack"),
        (lambda: resolved("sqare"), "Did you mean square"),
        (
            lambda: resolved("autoattack", norm="l0"),
            "autoattack has no l0 version; it works in l1, l2, linf",
        ),
        (
            lambda: ensembles.create("quick", {"steps": 4}),
            "quick is an ensemble, whose parameters are fixed; got",
        ),
        (lambda: ensembles.create("square", {"stepz": 4}), "Did you mean steps"),
    ],
)
def test_invalid_ensembles_are_refused(call, said):
    with pytest.raises(SettingError) as caught:
        call()
    assert said in str(caught.value)


def test_equal_attacks_run_once():
    found = resolved(APGD(loss="dlr"), APGD(loss="margin"), classes=TWO)
    assert found.attacks == (APGD(loss="margin"),)
    assert not found.cascade
    assert "DLR needs three classes" in found.replaced[0]
    assert resolved(BIM(), cascade=True).cascade
    assert not resolved("quick", cascade=False).cascade


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same attacks, each on all images and as a cascade."""
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    labels[::8] = (labels[::8] + 1) % 3
    folder = tmp_path_factory.mktemp("cascade")
    found = {}
    for cascade in (False, True):
        found[cascade] = robustness.audit(
            classifier, images, labels=labels, attacks=[FGSM(), FAB(steps=10), PGD(steps=8)],
            epsilons=[1, 2, 3, 4], out=folder / str(cascade), cascade=cascade,
        )  # fmt: skip
    return found


@pytest.mark.slow
def test_a_cascade_flips_the_same_images_as_its_attacks(runs):
    def first(result):
        flips = result.outcomes[result.outcomes.status == "flipped"]
        return flips.groupby("image").epsilon.min().to_dict()

    assert first(runs[True]) == first(runs[False])
    assert runs[True].flip_rate == pytest.approx(runs[False].flip_rate)


@pytest.mark.slow
def test_a_cascade_skips_only_settled_images(runs):
    outcomes = runs[True].outcomes
    order = [a["label"] for a in runs[True].manifest["config"]["attacks"]]
    assert len(outcomes) == 40 * 3 * 4
    assert runs[True].manifest["config"]["cascade"] is True
    settled = outcomes[outcomes.status == "settled"]
    assert 0 < len(settled) < len(outcomes)
    assert not settled[["forward", "backward"]].to_numpy().any()
    lowest = {
        (row.image, row.attack): row.epsilon
        for row in outcomes[outcomes.status == "flipped"]
        .sort_values("epsilon", ascending=False)
        .itertuples()
    }
    for row in outcomes.itertuples():
        before = order[: order.index(row.attack)]
        spared = any(lowest.get((row.image, label), np.inf) <= row.epsilon for label in before)
        assert (row.status == "settled") == spared, row
    passes = {k: int(r.outcomes[["forward", "backward"]].to_numpy().sum()) for k, r in runs.items()}
    assert passes[True] < passes[False]


@pytest.mark.slow
def test_robust_accuracy_after_each_attack_counts_remaining_images(runs):
    from robustness.reports.summary.summary import summarise

    with Run.open(runs[True].path) as run:
        summary = summarise(run)
    outcomes = runs[True].outcomes
    order = [a["label"] for a in runs[True].manifest["config"]["attacks"]]
    for rate in summary.rates:
        so_far = outcomes[
            outcomes.attack.isin(order[: order.index(rate.attack) + 1])
            & (outcomes.epsilon == rate.epsilon)
        ]
        flipped = so_far[so_far.status == "flipped"].image.nunique()
        right = 40 - so_far[so_far.status == "misclassified"].image.nunique()
        assert rate.robust_accuracy.count == right - flipped
        assert rate.robust_accuracy.total == 40


@pytest.mark.slow
def test_a_cascade_can_be_verified(runs):
    with Run.open(runs[True].path) as run:
        assert list(check_rows(RunContents.of(run))) == []
        claims = RunContents.of(run)
    flipped = {
        r["image"] for r in claims.outcomes if r["status"] == "flipped" and r["epsilon"] == 1
    }
    row = next(
        r
        for r in claims.outcomes
        if r["status"] == "robust" and r["epsilon"] == 1 and r["image"] not in flipped
    )
    row["status"] = "settled"
    said = [fault.sentence for fault in check_rows(claims)]
    assert any("no attack flips the image within this epsilon" in sentence for sentence in said)
