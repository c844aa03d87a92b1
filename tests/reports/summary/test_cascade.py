"""Tests of cascades against the same attacks run independently: no statements about images not attacked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from robustness.diagnostics.stored_outcomes import diagnose_rows
from robustness.diagnostics.stored_run import StoredRun
from robustness.reports import summarise
from robustness.reports.formats.writers import write_json, write_junit, write_markdown
from robustness.reports.page.sections import attacks
from robustness.runs.result import AuditResult
from robustness.runs.store import Run
from tests.reports.folder import Folder
from tests.reports.page.test_html import page_of

ATTACKS = {
    "fgsm": ("white-box", 1),
    "pgd": ("white-box", 40),
    "square": ("score", 500),
    "noise": ("none", 1),
}
NEEDS = {
    # The smallest epsilon of each image for each attack, if all were attacked.
    "a": {"fgsm": 2.0, "pgd": 1.0, "square": 2.0},
    "b": {"fgsm": 4.0, "pgd": 2.0},
    "c": {"pgd": 4.0, "square": 4.0},
    "d": {"square": 4.0},
    "e": {"fgsm": 1.0, "noise": 4.0},
    "f": {"noise": 4.0, "pgd": 4.0},
    "g": {},
}
EPSILONS = (1.0, 2.0, 4.0)


def run(path: Path, order: list[str], *, cascade: bool) -> Path:
    folder = Folder(path)
    folder.manifest["config"] |= {"cascade": cascade, "epsilons": list(EPSILONS)}
    folder.manifest["config"]["attacks"] = [
        {"name": n, "label": n, "knowledge": ATTACKS[n][0], "parameters": {"steps": ATTACKS[n][1]}}
        for n in order
    ]
    for key, needs in NEEDS.items():
        folder.image(key)
        fallen = 9.0
        for name in order:
            for epsilon in EPSILONS:
                status = "flipped" if epsilon >= needs.get(name, 9.0) else "robust"
                if cascade and epsilon >= fallen:
                    status = "settled"
                folder.outcome(key, status, epsilon, attack=name)
            fallen = min(fallen, needs.get(name, 9.0))
    return folder.write()


def diagnoses(path: Path) -> dict[str, tuple[str, str]]:
    with Run.open(path) as opened:
        return {d.id: (d.status, d.sentence) for d in diagnose_rows(StoredRun.of(opened))}


ORDERS = [
    ["fgsm", "pgd", "square", "noise"],
    ["noise", "fgsm", "pgd", "square"],
    ["square", "pgd", "fgsm", "noise"],
    ["pgd", "fgsm", "square"],
]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_a_cascade_reports_only_attacked_images(tmp_path: Path, order: list[str]) -> None:
    whole, part = (run(tmp_path / str(c), order, cascade=c) for c in (False, True))
    texts = {c: page_of(path).text for c, path in ((False, whole), (True, part))}
    assert "counts the images that no other attack of this run flips" in texts[False]
    assert re.search(r"\d (is|are) flipped by \d attack", texts[False])
    assert "no other attack" not in texts[True]
    assert not re.search(r"\d (is|are) flipped by \d attack", texts[True])
    assert "later attacks do not run on an image that has flipped" in texts[True]
    truth = {
        name: {k for k, needs in NEEDS.items() if set(needs) & set(order) == {name}}
        for name in order
    }
    found = {
        c: json.loads(write_json(p).read_text())["summary"] for c, p in ((0, whole), (1, part))
    }
    for row in found[0]["attacked"]:
        assert row["alone"] == len(truth[row["label"]])
    for row in found[1]["attacked"]:
        assert row["alone"] in (None, len(truth[row["label"]]))
    # Flips of the first attack are not passed to the others.
    assert found[1]["attacked"][0]["alone"] is None
    for one in found[1]["results"]:
        assert set(one["attacks"]) <= set(one["asked"])
    for one in found[0]["results"]:
        assert set(one["asked"]) == set(order)
    # The worst case and its median equal those of the same attacks on all images.
    for name in ("overall", "smallest_epsilon", "worst"):
        assert found[0][name] == found[1][name]
    # Medians of later attacks are left out.
    first, *later = found[1]["median_epsilons"]
    assert first == found[0]["median_epsilons"][0]
    assert all(one["bracket_low"] is None and "cascade" in one["note"] for one in later)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["markdown", "junit", "notebook", "page"])
def test_rates_of_a_cascade_name_their_remaining_images(tmp_path: Path, kind: str) -> None:
    def told(path: Path) -> str:
        if kind == "notebook":
            return AuditResult(path)._repr_html_()
        if kind == "page":
            return page_of(path).text
        return {"markdown": write_markdown, "junit": write_junit}[kind](path).read_text()

    order = ORDERS[0]
    page = "images that the earlier attacks( of the cascade)? did not flip"
    said = rf"{page}|left by earlier attacks|no earlier one flips"
    assert not re.search(said, told(run(tmp_path / "whole", order, cascade=False)))
    assert re.search(said, told(run(tmp_path / "part", order, cascade=True)))


def test_findings_of_later_attacks_refer_to_the_remaining_images(tmp_path: Path) -> None:
    from robustness.reports.summary.findings import findings

    order = ["pgd", "square"]
    for cascade in (False, True):
        with Run.open(run(tmp_path / str(cascade), order, cascade=cascade)) as opened:
            summary = summarise(opened)
        (mine,) = [f for f in findings(summary) if f.attacks == ("square",) and f.epsilon == 4]
        assert ("left by earlier attacks" in mine.sentence) == cascade
        assert mine.rate is not None and mine.rate.total == (3 if cascade else 7)


@pytest.mark.slow
def test_noise_is_not_compared_with_attacks_that_did_not_get_its_flips(tmp_path: Path) -> None:
    """Noise flips e and f; later attacks of the cascade do not get them, but would flip both."""
    found = {}
    for name, order, cascade in (
        ("whole", ORDERS[1], False), ("first", ORDERS[1], True), ("last", ORDERS[0], True),
    ):  # fmt: skip
        with Run.open(run(tmp_path / name, order, cascade=cascade)) as opened:
            shown = attacks.random_baseline(summarise(opened))
        assert shown is not None
        found[name] = shown.only, shown.unasked
    # fgsm flips e within 1, which it gets after noise, too; pgd flips f only within 4.
    assert found == {"whole": (0, 0), "first": (0, 1), "last": (0, 0)}
    text = page_of(tmp_path / "first").text
    assert "The attacks did not run on 1 image that random changes had flipped before" in text
    assert "attacks are too weak" not in text and "The attacks flip every image" not in text


def test_diagnostics_compare_attacks_on_shared_images(tmp_path: Path) -> None:
    whole = diagnoses(run(tmp_path / "whole", ORDERS[2], cascade=False))
    part = diagnoses(run(tmp_path / "part", ORDERS[2], cascade=True))
    # Only square flips d, which is known only where pgd attacked it.
    assert whole["D14"][0] == "warn"
    assert part["D14"][0] == "ok" and "not shown to white-box attacks" in part["D14"][1]
    assert "that both were shown" not in whole["D13"][1]
    assert "images that both were shown" in part["D13"][1]
    # Attacks without shared images cannot be compared.
    every = {"square": 1.0}
    old = dict(NEEDS)
    try:
        NEEDS.update(dict.fromkeys(NEEDS, every))
        alone = diagnoses(run(tmp_path / "alone", ["square", "pgd", "fgsm"], cascade=True))
    finally:
        NEEDS.update(old)
    assert alone["D14"][0] == alone["D13"][0] == "skipped"
    assert "cascade" in alone["D14"][1]


def test_a_course_is_a_share_of_all_images_that_the_attack_ran_on(tmp_path: Path) -> None:
    """Also of those that stood against it at a small epsilon and were flipped by an earlier one above."""
    with Run.open(run(tmp_path / "run", ["fgsm", "pgd"], cascade=True)) as opened:
        courses = {course.attack: course for course in summarise(opened).courses}
    # pgd flips a at 1, c and f at 4; it ran on b at 1 and 2, and on g; fgsm had flipped e before.
    flips, ran = {"a", "b", "c", "f"}, {"a", "b", "c", "d", "f", "g"}
    assert courses["pgd"].total == len(ran)
    assert courses["pgd"].points[-1][1] == len(flips) / len(ran)
    assert courses["fgsm"].total == len(NEEDS)
