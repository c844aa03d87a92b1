"""Tests of failed attacks: the other attacks' results count, images without result are a separate group."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.comparison.compare import compare
from robustness.reports.formats.github import workflow_annotations
from robustness.reports.formats.junit import junit
from robustness.reports.formats.markdown import markdown
from robustness.reports.formats.sarif import sarif
from robustness.reports.gate.rules import Baseline, Gate, Rule
from robustness.reports.gate.verdict import FAIL, INCONCLUSIVE, NOTHING, PASS, decide
from robustness.reports.gate.verdict import verdict_of as ruled
from robustness.reports.page.headline import figures_sentence
from robustness.reports.summary import metrics
from robustness.reports.summary.summary import Summary, summarise
from robustness.runs import smallest_epsilon
from robustness.runs.result import AuditResult
from robustness.runs.schema import AttackEntry, Settings
from robustness.runs.store import Run
from tests.reports.folder import Folder

LADDER = (1.0, 2.0, 4.0)
FATES = st.lists(st.sampled_from(["flipped", "robust", "failed"]), min_size=3, max_size=3)
TABLES = st.lists(st.lists(FATES, min_size=3, max_size=3), min_size=1, max_size=8)
"""Images x attacks x epsilons."""


def table(fates: list[list[list[str]]]) -> pd.DataFrame:
    rows = [
        (f"i{i}", name, epsilon, status)
        for i, attacks in enumerate(fates)
        for name, rungs in zip("abc", attacks, strict=True)
        for epsilon, status in zip(LADDER, rungs, strict=True)
    ]
    return pd.DataFrame(rows, columns=["image", "attack", "epsilon", "status"])


def expected_status(attacks: list[list[str]], rung: int) -> tuple[str, int]:
    """The rule in plain Python: the status of an image at a rung, and the number of failed attacks."""
    if any("flipped" in one[: rung + 1] for one in attacks):
        return "flipped", 0
    here = [one[rung] for one in attacks]
    return ("robust" if "robust" in here else "failed"), here.count("failed")


@pytest.mark.slow
@settings(deadline=None)
@given(TABLES)
def test_every_image_has_the_status_of_the_rule(fates: list[list[list[str]]]) -> None:
    worst = metrics.worst_case(table(fates))
    for rung, epsilon in enumerate(LADDER):
        truth = [expected_status(attacks, rung) for attacks in fates]
        rows = worst[worst["epsilon"] == epsilon]
        found = metrics.tally(rows["status"], rows["broke"])
        counts = [sum(status == name for status, _ in truth) for name in ("flipped", "robust")]
        assert [found.flipped, found.robust] == counts
        assert found.flipped + found.robust + found.failed == len(fates)
        assert found.partly_failed == sum(s == "robust" and n > 0 for s, n in truth)
        accuracy = metrics.robust_accuracy(rows["status"])
        assert (accuracy.count, accuracy.total) == (counts[1], len(fates))


@pytest.mark.slow
@settings(deadline=None)
@given(TABLES)
def test_the_smallest_epsilon_over_attacks_matches_the_rule(
    fates: list[list[list[str]]],
) -> None:
    rows = table(fates)
    found = [smallest_epsilon.smallest(rows[rows["attack"] == name]) for name in "abc"]
    told = smallest_epsilon.together(found, rows, LADDER)
    for i, attacks in enumerate(fates):
        status = [expected_status(attacks, rung)[0] for rung in range(3)]
        high = LADDER[status.index("flipped")] if "flipped" in status else math.inf
        low = max([0.0, *(e for e, s in zip(LADDER, status, strict=True) if s == "robust")])
        assert (told.low[f"i{i}"], told.high[f"i{i}"]) == (low, high)


@pytest.mark.slow
@settings(deadline=None)
@given(TABLES, st.booleans())
def test_an_attack_that_always_fails_changes_nothing(
    fates: list[list[list[str]]], closest: bool
) -> None:
    """Neither the medians of the others nor the status of any image; with and without distances."""
    rows = table(fates).assign(linf=lambda r: r["epsilon"] - 0.25)
    failed = rows[rows["attack"] == "a"].assign(attack="z", status="failed", linf=math.nan)
    both = pd.concat([failed, rows])
    seeks = AttackEntry(label="a", seeks="closest" if closest else "any")
    config = Settings(norm="linf", attacks=(seeks,))
    alone = smallest_epsilon.medians(rows, config, ["a", "b", "c"])
    beside = smallest_epsilon.medians(both, config, ["z", "a", "b", "c"])
    assert beside[1] == alone[1]
    assert {n: beside[0][n] for n in "abc"} == alone[0]
    kept = ["image", "epsilon", "status"]
    assert metrics.worst_case(both)[kept].equals(metrics.worst_case(rows)[kept])


# --- a run in which pgd fails on every image and square flips 7 of 12 --------------------------


def write_run_with_failures(folder: Folder, square: str = "fffffffrrrrr") -> Path:
    """Epsilons 8 and 13; `square` gives its status for each image at 13: f flipped, r robust, x failed."""
    named = {"pgd": "white-box", "square": "score"}
    folder.manifest["config"] |= {
        "attacks": [
            {"name": n, "label": n, "knowledge": k, "parameters": {}} for n, k in named.items()
        ],
        "epsilons": [8.0, 13.0],
    }
    status = {"f": "flipped", "r": "robust", "x": "failed"}
    for number, sign in enumerate(square):
        key = f"{number}.png"
        folder.image(key)
        for epsilon in (8.0, 13.0):
            folder.outcome(key, "failed", epsilon, attack="pgd", reason="no gradient")
            here = status["r" if sign == "f" and epsilon == 8 else sign]
            folder.outcome(key, here, epsilon, attack="square")
    return folder.write()


def summary_of(path: Path) -> Summary:
    with Run.open(path) as run:
        return summarise(run)


def test_results_of_the_other_attack_count(folder: Folder) -> None:
    path = write_run_with_failures(folder)
    found = summary_of(path)
    assert found.headline.startswith("7 of 12 correctly classified images flip")
    said = "On 5 of those that did not flip, some attack failed."
    assert said in found.headline and said in found.sentence
    assert (found.overall.robust, found.overall.failed, found.overall.partly_failed) == (5, 0, 5)
    robust = found.worst[-1].robust_accuracy
    assert robust is not None and (robust.count, robust.total) == (5, 12)
    every = found.smallest_epsilon
    assert (every.bracket_low, every.bracket_high) == (8.0, 13.0)
    assert (every.censored, every.total, every.note) == (5, 12, "")
    assert all(one.asked == ("square",) for one in found.results)
    assert any("5 images that the others did not flip" in one for one in found.warnings)
    verdict = ruled(found)
    for text in (
        figures_sentence(found, verdict),
        markdown(found, verdict),
        workflow_annotations(found, verdict),
    ):
        assert "some attack failed" in text
    assert "0 of 0 flip" in junit(found, verdict) and "failed on 12 more" in junit(found, verdict)
    (flips,) = json.loads(sarif(found, verdict))["runs"][0]["results"]
    assert (flips["properties"]["flipped"], flips["properties"]["of"]) == (7, 12)
    result = AuditResult(path)
    assert result.flip_rate == 7 / 12 and result.undecided == 0


def test_images_without_any_result_are_a_separate_group(folder: Folder) -> None:
    path = write_run_with_failures(folder, "fffffffrrrxx")
    found = summary_of(path)
    assert found.headline.startswith("7 of 10 correctly")
    assert "2 more images are undecided: every attack failed there." in found.headline
    robust = found.worst[-1].robust_accuracy
    assert robust is not None and (robust.count, robust.total) == (3, 12)
    assert (found.smallest_epsilon.censored, found.smallest_epsilon.total) == (3, 10)
    assert found.smallest_epsilon.note.startswith("2 images left out")
    assert "2 images left out" in figures_sentence(found, ruled(found))
    result = AuditResult(path)
    assert (result.flip_rate, result.undecided) == (0.7, 2)
    assert "2 undecided" in repr(result) and "2 more are undecided" in result._repr_html_()


def test_a_run_of_failed_attacks_is_not_reported_as_unattacked(folder: Folder) -> None:
    path = write_run_with_failures(folder, "x" * 12)
    found = summary_of(path)
    assert found.headline == (
        "Every attack failed on each of 12 correctly classified images, so nothing can be said about "
        "robustness."
    )
    assert ruled(found).status == NOTHING
    result = AuditResult(path)
    assert math.isnan(result.flip_rate) and "every attack failed on 12" in result._repr_html_()
    assert wording.headline(Share.of(0, 0), "linf", 8.0).startswith(
        "No correctly classified image was"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "threshold", "status"),
    [
        ("robust_accuracy", 0.4, INCONCLUSIVE),
        ("robust_accuracy", 0.5, FAIL),
        ("robust_accuracy", 0.0, PASS),
        ("flip_rate", 0.6, INCONCLUSIVE),
        ("flip_rate", 0.5, FAIL),
        ("flip_rate", 1.0, PASS),
        ("clean_accuracy", 1.0, PASS),
    ],
)
@pytest.mark.parametrize("scope", ["worst", "class"])
def test_no_rule_passes_because_attacks_failed(
    folder: Folder, metric: str, threshold: float, status: str, scope: str
) -> None:
    found = summary_of(write_run_with_failures(folder))
    gate = Gate((Rule("r", metric, threshold, scope, bound="point"),))
    verdict = decide(found, gate, ())
    assert verdict.status == status
    assert ("failed on 5 images" in verdict.sentence) == (status == INCONCLUSIVE)


def test_a_flip_rate_is_inconclusive_if_images_have_no_result(folder: Folder) -> None:
    found = summary_of(write_run_with_failures(folder, "frrrrrrrrxxx"))
    rule = Rule("r", "flip_rate", 0.2, "attack", of="square", bound="point")
    assert decide(found, Gate((rule,)), ()).status == INCONCLUSIVE


def test_no_worse_than_a_baseline_does_not_pass_because_attacks_failed(folder: Folder) -> None:
    found = summary_of(write_run_with_failures(folder))

    def status(robust: int) -> str:
        sha = str(found.manifest.data.sha256)
        worst = ((13.0, robust, 12),)
        base = Baseline("b.json", sha, "linf", "untargeted", ("pgd", "square"), worst)
        return decide(found, Gate(baseline=base), ()).status

    assert [status(n) for n in (0, 5, 6)] == [PASS, INCONCLUSIVE, FAIL]


def test_comparisons_report_undecided_images_from_runs_and_reports(
    folder: Folder, tmp_path: Path
) -> None:
    path = write_run_with_failures(folder, "fffffffrrrxx")
    (tmp_path / "report.json").write_text(json.dumps(summary_of(path).to_dict()))
    one, other = compare(path, path), compare(path, tmp_path / "report.json")
    assert one.pairings == other.pairings
    assert any("on 2 of the images at epsilon 13" in note for note in one.notes)
    assert [p.total for p in one.pairings if p.what.startswith("flip rate")] == [10, 10]
