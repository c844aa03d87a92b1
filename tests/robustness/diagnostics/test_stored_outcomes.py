"""Tests of the diagnostics of stored rows: each reports a run with its fault and no healthy run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from scipy.stats import binomtest

from robustness.diagnostics import TITLES
from robustness.diagnostics.stored_outcomes import diagnose_rows
from robustness.diagnostics.stored_run import StoredRun
from robustness.runs.schema import GoalEntry, Manifest, ModelEntry

FLIPPED, ROBUST = "flipped", "robust"


def attack(label: str, knowledge: str = "white-box", **parameters: Any) -> dict[str, Any]:
    name = label.partition("(")[0]
    return {
        "name": name, "label": label, "knowledge": knowledge, "seeks": "any",
        "parameters": {"steps": 10} | parameters,
    }  # fmt: skip


def record(
    flips: dict[str, dict[float, set[int]]],
    attacks: list[dict[str, Any]],
    *,
    n: int = 100,
    right: int | None = None,
    labels: bool = True,
    columns: dict[str, Any] | None = None,
    blind: dict[str, dict[int, int]] | None = None,
    **data: Any,
) -> StoredRun:
    """A run of `n` images with class number mod 2, `right` of them correct; `flips` by attack and epsilon.

    `blind` is the number of steps (of ten) without a gradient, by attack and image, stored in robust rows.
    """
    right = n if right is None else right
    images = pd.DataFrame(
        {
            "key": [str(i) for i in range(n)],
            "name": [f"{i}.png" for i in range(n)],
            "label": [i % 2 if labels else None for i in range(n)],
            "clean_class": [i % 2 if i < right else 1 - i % 2 for i in range(n)],
        }
    )
    rows = [
        {
            "image": str(i), "attack": label, "epsilon": epsilon,
            "status": "misclassified" if i >= right else FLIPPED if i in hit else ROBUST,
            "adversarial_class": 1 if i < right and i in hit else None,
            "step": 3 if i in hit else None, "restart": 0 if i in hit else None,
            "float_flip": 0, "png": None, "forward": 10,
        } | {k: v(i, label, epsilon) for k, v in (columns or {}).items()}
        for label, by in flips.items() for epsilon, hit in by.items() for i in range(n)
    ]  # fmt: skip
    manifest = {
        "config": {"attacks": attacks},
        "class_names": ["cat", "dog"],
        "data": {"declared_accuracy": None} | data,
        "budgets": [{"epsilon": 4.0, "effective_epsilon": 4.0, "reached": True, "short": {}}],
    }
    felt = [
        {"image": row["image"], "attack": row["attack"], "epsilon": row["epsilon"], "watched": 10}
        | {"blind": (blind or {}).get(str(row["attack"]), {}).get(int(str(row["image"])), 0)}
        for row in rows
        if row["status"] == ROBUST and row["attack"] in {a["label"] for a in attacks}
        and next(a for a in attacks if a["label"] == row["attack"])["knowledge"] == "white-box"
    ]  # fmt: skip
    stored = Manifest.model_validate(manifest)
    return StoredRun(stored, images, pd.DataFrame(rows), gradients=pd.DataFrame(felt))


def found(one: StoredRun) -> dict[str, Any]:
    return {d.id: d for d in diagnose_rows(one)}


def statuses(one: StoredRun) -> dict[str, str]:
    return {number: d.status for number, d in found(one).items()}


PGD, FGSM, SQUARE = attack("pgd", restarts=3), attack("fgsm", steps=1), attack("square", "score")
HALF = set(range(50))
HEALTHY = {
    "pgd": {1.0: set(range(20)), 4.0: HALF},
    "fgsm": {1.0: set(range(9)), 4.0: set(range(30))},
}
HEALTHY["square"] = {1.0: set(), 4.0: set(range(25))}
ALL = [PGD, FGSM, SQUARE]


def test_a_healthy_run_has_no_findings():
    quiet = found(record(HEALTHY, ALL, right=96))
    assert {d.status for d in quiet.values()} == {"ok", "skipped"}
    assert {n for n, d in quiet.items() if d.status == "skipped"} == {"D15", "D29"}
    assert set(quiet) <= set(TITLES)
    assert all(d.sentence.endswith(".") for d in quiet.values())


def test_d06_reports_a_robust_row_with_the_class_of_a_flip():
    odd = record(
        HEALTHY, ALL, columns={"adversarial_class": lambda i, a, e: 1 if i == 99 else None}
    )
    assert statuses(odd)["D06"] == "fail"


def test_d10_reports_flips_by_the_last_restart():
    late = record(HEALTHY, ALL, columns={"restart": lambda i, a, e: 2 if i < 5 else 0})
    one = found(late)["D10"]
    assert one.status == "warn"
    assert one.evidence["added"] == {"pgd": 5}
    single = record({"pgd": HEALTHY["pgd"]}, [attack("pgd")])
    assert statuses(single)["D10"] == "skipped"
    assert (
        statuses(record(HEALTHY, ALL, columns={"restart": lambda i, a, e: 2 * (i < 1)}))["D10"]
        == "ok"
    )


def test_d11_reports_a_flip_lost_at_a_larger_epsilon():
    lost = HEALTHY | {"pgd": {1.0: set(range(20)), 4.0: set(range(5, 50))}}
    assert statuses(record(lost, ALL))["D11"] == "warn"
    assert statuses(record({"pgd": {4.0: HALF}}, [PGD]))["D11"] == "skipped"


def test_d13_reports_that_a_single_step_flips_more():
    worse = HEALTHY | {"fgsm": {1.0: set(), 4.0: set(range(60))}}
    one = found(record(worse, ALL))["D13"]
    assert one.status == "warn"
    assert one.evidence["only_by_one_step"] == [f"{i}.png" for i in range(50, 60)]
    # A difference of one image is within chance.
    assert statuses(record(HEALTHY | {"fgsm": {4.0: set(range(51))}}, ALL))["D13"] == "ok"


def test_d14_reports_black_box_flips_that_the_gradient_misses():
    masked = HEALTHY | {"square": {4.0: set(range(60))}}
    one = found(record(masked, ALL))["D14"]
    assert one.status == "warn"
    assert one.evidence["robust_accuracy_lost"] == pytest.approx(0.1)
    assert "gradient masking" in one.sentence
    assert statuses(record({"pgd": HEALTHY["pgd"]}, [PGD]))["D14"] == "skipped"


def test_in_a_cascade_attacks_are_compared_on_shared_images():
    """FGSM runs first and flips 30 of 100; PGD and a black-box attack get only the others."""
    spared = lambda i, a, e: "settled" if a != "fgsm" and i < 30 else None  # noqa: E731
    flips = {"fgsm": {4.0: set(range(30))}, "pgd": {4.0: set(range(30, 70))}}
    flips["square"] = {4.0: set(range(30, 60))}
    cascade = record(flips, ALL)
    rows = cascade.outcomes
    rows["status"] = [
        spared(int(image), attack, epsilon) or status
        for image, attack, epsilon, status in zip(
            rows.image, rows.attack, rows.epsilon, rows.status, strict=True
        )
    ]
    rows.loc[rows.status == "settled", "adversarial_class"] = None
    found_ = statuses(cascade)
    assert (found_["D13"], found_["D14"], found_["D11"]) == ("ok", "ok", "skipped")
    assert len(cascade.survivors) == 30
    assert cascade.stood("pgd") == {str(i) for i in range(70, 100)}
    assert cascade.tried(["pgd"]) == {str(i) for i in range(30, 100)}


def test_d15_reports_that_transferred_examples_flip_more():
    away = attack("transfer", "transfer")
    flips = HEALTHY | {"transfer": {4.0: set(range(70))}}
    assert statuses(record(flips, [*ALL, away]))["D15"] == "warn"
    fewer = HEALTHY | {"transfer": {4.0: set(range(7))}}
    assert statuses(record(fewer, [*ALL, away]))["D15"] == "ok"


def test_d19_reports_flips_that_saving_undoes():
    lost = record(HEALTHY, ALL, columns={"float_flip": lambda i, a, e: int(a == "pgd" and i >= 90)})
    one = found(lost)["D19"]
    assert one.status == "warn"
    assert "10 of 30" in one.sentence
    one = record(HEALTHY, ALL, columns={"float_flip": lambda i, a, e: int(i == 99)})
    assert statuses(one)["D19"] == "ok"


@pytest.mark.parametrize(
    ("right", "n", "declared", "status"),
    [
        (96, 100, None, "ok"), (96, 100, 0.97, "ok"), (80, 100, 0.97, "fail"),
        (55, 100, None, "fail"), (8, 16, None, "ok"), (8, 16, 0.99, "fail"),
    ],
)  # fmt: skip
def test_d21_reports_accuracy_at_chance_or_below_the_declared_one(right, n, declared, status):
    one = record({"pgd": {4.0: {1}}}, [PGD], n=n, right=right, declared_accuracy=declared)
    assert statuses(one)["D21"] == status
    interval = binomtest(right, n).proportion_ci(method="wilson")
    expected = (declared is not None and interval.high < declared) or (
        n >= 20 and interval.low <= 0.5
    )
    assert (status == "fail") == expected


def test_d21_needs_labels():
    assert statuses(record({"pgd": {4.0: {1}}}, [PGD], labels=False))["D21"] == "skipped"


@pytest.mark.parametrize(
    ("labels", "answers", "flips", "status"),
    [
        # One answer for all: 95 % are right, and the other 5 could not be.
        ([0] * 95 + [1] * 5, [0] * 100, {1}, "fail"),
        ([0] * 98 + [1] * 2, [0] * 100, set(), "warn"),
        ([0] * 98 + [1] * 2, [0] * 100, {1}, "warn"),
        # Images of one class only: a flip shows that there are other answers.
        ([0] * 100, [0] * 100, set(), "warn"),
        ([0] * 100, [0] * 100, {1}, "ok"),
        # Right 90 times, as often as the label 0 comes; and 91 times.
        ([0] * 90 + [1] * 10, [0] * 85 + [1] * 10 + [0] * 5, {1}, "warn"),
        ([0] * 90 + [1] * 10, [0] * 86 + [1] * 9 + [0] * 5, {1}, "ok"),
        ([None] * 100, [0] * 100, set(), "warn"),
        ([None] * 100, [0] * 100, {1}, "skipped"),
        ([None] * 100, [0] * 99 + [1], set(), "skipped"),
    ],
)
def test_d21_compares_with_an_answer_that_never_changes(labels, answers, flips, status):
    one = record({"pgd": {4.0: flips}}, [PGD])
    one.images["label"], one.images["clean_class"] = labels, answers
    assert found(one)["D21"].status == status


def test_d21_gives_advice_that_fits_a_targeted_audit():
    one = record({"pgd": {4.0: set()}}, [PGD])
    one.images["label"] = one.images["clean_class"] = 0
    assert "Audit images of other classes too." in found(one)["D21"].sentence
    config = one.manifest.config.with_changes(goal=GoalEntry(target=1, class_name="dog"))
    aimed = replace(one, manifest=one.manifest.with_changes(config=config))
    assert "Audit without a target too." in found(aimed)["D21"].sentence


@pytest.mark.parametrize(
    ("copies", "n", "independent", "status"),
    [
        (1, 100, None, "ok"),
        # 96 and 94 different images of 100.
        (5, 100, None, "ok"),
        (7, 100, 100**2 / (49 + 93), "warn"),
        # One picture 72 times, and 28 others.
        (72, 100, 100**2 / (72**2 + 28), "fail"),
        (16, 16, 1, "warn"),
        (100, 100, 1, "fail"),
    ],
)
def test_d23_reports_copies(copies, n, independent, status):
    """The first `copies` of `n` images are the same picture."""
    one = record({"pgd": {4.0: {n // 2}}}, [PGD], n=n)
    one.images["digest"] = ["same"] * copies + [str(i) for i in range(n - copies)]
    one.images["label"] = one.images["clean_class"] = [i % 2 for i in range(n)]
    size = found(one)["D23"]
    assert size.status == status
    if independent and n >= 20:
        assert size.evidence["independent"] == pytest.approx(independent)


def test_d23_reports_few_images_or_a_small_class():
    one = found(record({"pgd": {4.0: {1, 2, 3}}}, [PGD], n=12))["D23"]
    assert one.status == "warn"
    interval = binomtest(3, 12).proportion_ci(method="wilson")
    assert one.evidence["width"] == pytest.approx(interval.high - interval.low)
    thin = record({"pgd": {4.0: set()}}, [PGD], n=100)
    labels = [0] * 97 + [1] * 3
    thin.images["label"] = thin.images["clean_class"] = labels
    assert found(thin)["D23"].evidence["thin_classes"] == {"dog": 3}


def test_d24_reports_one_kind_of_attack_and_redundant_attacks():
    one = found(record({"pgd": HEALTHY["pgd"], "fgsm": HEALTHY["fgsm"]}, [PGD, FGSM]))["D24"]
    assert one.status == "warn"
    assert one.evidence == {"kinds": ["white-box"], "redundant": ["fgsm"], "survivors": 50}
    everything = {"pgd": {4.0: set(range(100))}}
    assert statuses(record(everything, [PGD]))["D24"] == "ok"


def test_d25_reports_a_query_budget_that_ended_too_early():
    late = record(HEALTHY, ALL, columns={"step": lambda i, a, e: 10 if a == "square" else 3})
    assert statuses(late)["D25"] == "warn"
    closest = [PGD, FGSM, SQUARE | {"seeks": "closest"}]
    assert statuses(record(HEALTHY, closest))["D25"] == "skipped"
    broken = found(record(HEALTHY | {"pgd": {4.0: set(range(100))}}, ALL))["D25"]
    assert broken.status == "skipped"
    assert "No image survives all attacks" in broken.sentence


def test_d24_and_d25_ignore_noise_and_grids():
    """A grid of rotations goes from small to large, and noise does not search: late flips are no warning."""
    late = {"step": lambda i, a, e: 10 if a in ("spatial", "gaussian-noise") else 3}
    grid, noise = attack("spatial", "decision"), attack("gaussian-noise", "decision")
    flips = HEALTHY | {"spatial": {4.0: HALF}, "gaussian-noise": {4.0: HALF}}
    one = record(flips, [*ALL, grid, noise], columns=late)
    assert statuses(replace(one, chance=frozenset({"spatial"})))["D25"] == "ok"
    assert statuses(one)["D25"] == "warn"  # unless the run records that it is a grid
    alone = record({"pgd": HEALTHY["pgd"], "gaussian-noise": {4.0: set()}}, [PGD, noise])
    assert found(alone)["D24"].evidence["kinds"] == ["white-box"]
    only = replace(record({"spatial": {4.0: HALF}}, [grid]), chance=frozenset({"spatial"}))
    free = only.manifest.config.with_changes(norm="free")
    assert (
        statuses(replace(only, manifest=only.manifest.with_changes(config=free)))["D24"]
        == "skipped"
    )


def test_d24_reports_that_only_noise_was_tried():
    noise, simba = attack("gaussian-noise", "decision"), attack("simba", "score")
    one = found(record({"gaussian-noise": {4.0: HALF}}, [noise]))["D24"]
    assert one.status == "warn"
    assert "learn nothing" in one.sentence
    scores = found(record({"simba": {4.0: HALF}}, [simba]))["D24"]
    assert scores.status == "warn"
    assert "one kind only (score). Add one of another kind" in scores.sentence


def test_attacks_on_a_surrogate_do_not_count_for_the_gradient():
    masked = HEALTHY | {"square": {4.0: set(range(60))}}
    one = record(masked, ALL)
    away = replace(one, manifest=one.manifest.with_changes(surrogate=ModelEntry(name="other")))
    assert statuses(one)["D14"] == "warn"
    assert statuses(away)["D14"] == "skipped"
    assert "--thorough attacks this model itself" in found(away)["D15"].sentence


@pytest.mark.slow
def test_stored_diagnostics_need_no_framework():
    code = (
        "import sys\nimport robustness.diagnostics.stored_outcomes\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_d26_reports_images_robust_only_against_attacks_without_gradient():
    everyone = dict.fromkeys(range(100), 10)
    both = found(record(HEALTHY, ALL, blind={"pgd": everyone, "fgsm": everyone}))["D26"]
    assert both.status == "fail"
    assert both.evidence["deciding_share"] == 1 and both.evidence["images"]
    # Another attack had a gradient on each of these images.
    one = found(record(HEALTHY, ALL, blind={"fgsm": everyone}))["D26"]
    assert one.status == "warn" and set(one.evidence["by_attack"]) == {"fgsm"}
    few = dict.fromkeys(range(50, 52), 10)
    some = found(record(HEALTHY, ALL, blind={"pgd": few, "fgsm": few}))["D26"]
    assert some.status == "warn" and 0 < some.evidence["deciding_share"] < 0.05
    assert found(record(HEALTHY, ALL, blind={"pgd": {60: 4}}))["D26"].status == "ok"


@pytest.mark.parametrize(
    ("confidence", "classes", "attacks", "status"),
    [
        (0.2501, 4, [attack("pgd", loss="cross_entropy")], "warn"),
        (0.5, 4, [attack("pgd", loss="cross_entropy")], "ok"),
        (0.01, 1000, [attack("pgd", loss="cross_entropy")], "ok"),
        (0.00102, 1000, [attack("pgd", loss="cross_entropy")], "warn"),
        # There is only one other class to go to.
        (0.5001, 2, [attack("pgd", loss="cross_entropy")], "ok"),
        (0.2501, 4, [attack("pgd", loss="margin")], "ok"),
        (0.2501, 4, [attack("pgd", loss="cross_entropy"), attack("apgd-t", loss="dlr")], "ok"),
        (0.2501, 4, [attack("fab", loss="cross_entropy") | {"seeks": "closest"}], "ok"),
    ],
)
def test_d26_reports_the_cross_entropy_of_even_probabilities(confidence, classes, attacks, status):
    one = record({a["label"]: {4.0: {1}} for a in attacks}, attacks)
    one.images["confidence"] = confidence
    names = tuple(map(str, range(classes)))
    one = replace(one, manifest=one.manifest.with_changes(class_names=names))
    assert found(one)["D26"].status == status
    # The recorded confidences are those of the audited model.
    away = replace(one, manifest=one.manifest.with_changes(surrogate=ModelEntry(name="other")))
    assert found(away)["D26"].status == "ok"


def test_d26_is_skipped_without_recorded_gradients():
    assert statuses(record({"square": {4.0: HALF}}, [SQUARE]))["D26"] == "skipped"
    old = replace(record(HEALTHY, ALL), gradients=pd.DataFrame())
    assert statuses(old)["D26"] == "skipped"
    broken = replace(record({"pgd": {4.0: set(range(100))}}, [PGD]), gradients=pd.DataFrame())
    assert statuses(broken)["D26"] == "ok"


@pytest.mark.parametrize(
    ("rebuilt", "sure", "status"),
    [(False, 1.0, "fail"), (False, 0.98, "ok"), (True, 1.0, "skipped")],
)
def test_d26_reports_saturated_scores(rebuilt, sure, status):
    columns = {"confidence_before": lambda *_: sure}
    run = record({"square": {4.0: HALF}}, [SQUARE], columns=columns)
    run = replace(run, manifest=run.manifest.with_changes(model=ModelEntry(logits_rebuilt=rebuilt)))
    assert statuses(run)["D26"] == status


@pytest.mark.parametrize("status", ["misclassified", "failed"])
def test_without_judged_images_no_diagnostic_of_attacks_is_ok(status):
    one = record(HEALTHY, ALL, columns={"status": lambda i, a, e: status})
    empty = replace(one, gradients=one.gradients.iloc[:0])
    for number in ("D10", "D11", "D13", "D14", "D15", "D19", "D24", "D25", "D26"):
        said = found(empty)[number]
        assert said.status == "skipped", number
        assert "nothing to judge" in said.sentence


def test_d24_counts_only_kinds_of_attack_with_results():
    broke = {"pgd", "fgsm"}
    one = found(
        record(HEALTHY, ALL, columns={"status": lambda i, a, e: (
            "failed" if a in broke else FLIPPED if i in HEALTHY[a][e] else ROBUST
        )})
    )["D24"]  # fmt: skip
    assert one.status == "warn" and one.evidence["kinds"] == ["score"]
    assert one.evidence["survivors"] == 75 and not set(one.evidence["redundant"]) & broke
    # On ten of the robust images only the white-box attacks have a result.
    some = found(
        record(HEALTHY, ALL, columns={"status": lambda i, a, e: (
            "failed" if a == "square" and i >= 90 else FLIPPED if i in HEALTHY[a][e] else ROBUST
        )})
    )["D24"]  # fmt: skip
    assert some.status == "warn" and "10 of the 50" in some.sentence
    none = found(record({"pgd": {4.0: HALF}}, [PGD], columns={
        "status": lambda i, a, e: FLIPPED if i in HALF else "failed"}))["D24"]  # fmt: skip
    assert none.status == "warn" and "on 50 every attack failed" in none.sentence


def test_d24_reports_survivors_of_transferred_pictures_only():
    """Also of several kinds of attack: none of them saw this model."""
    one = record(HEALTHY, ALL)
    away = replace(one, manifest=one.manifest.with_changes(surrogate=ModelEntry(name="other")))
    told = found(away)["D24"]
    assert told.status == "warn"
    assert told.sentence.startswith("50 images survive pictures that were made for another model")


def test_sentences_on_one_image_are_in_the_singular():
    quiet = found(record({"pgd": {4.0: {0}}, "fgsm": {4.0: {0}}}, [PGD, FGSM], n=2))
    assert quiet["D24"].sentence.startswith("1 image survives attacks of one kind only")
    assert quiet["D24"].sentence.endswith("before calling it robust.")
    assert quiet["D13"].sentence == "Many steps flip 1 image, one step 1."
    assert found(record({"pgd": {4.0: {0}}}, [PGD], n=1))["D23"].sentence.startswith(
        "1 image is few"
    )


@pytest.mark.slow
def test_a_share_is_called_all_or_none_only_if_it_is():
    """One wrong answer in 20,000 is not 100 %."""
    one = found(record(HEALTHY, ALL, n=20_000, right=19_999))["D21"]
    assert one.sentence.startswith("99.9 % of 20,000 images are")
