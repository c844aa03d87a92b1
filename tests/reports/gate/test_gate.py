"""Tests of the gate: every status and exit code, thresholds against SciPy's intervals, gate files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from robustness.configuration.toml import Section
from robustness.errors import RunError, SettingError
from robustness.numerics.intervals import Share
from robustness.reports import summarise
from robustness.reports.gate.gate_file import baseline, read_gate
from robustness.reports.gate.rule_results import compare
from robustness.reports.gate.rules import Gate, Rule, Suppression
from robustness.reports.gate.verdict import (
    EXIT_CODES,
    FAIL,
    INCONCLUSIVE,
    NOTHING,
    PASS,
    decide,
    verdict_of,
)
from robustness.reports.summary.summary import Summary
from robustness.runs.run_json import manifest_of
from robustness.runs.schema import SCHEMA, DiagnosisEntry, GateEntry, GateSuppression
from robustness.runs.store import Run
from tests.reports.folder import Folder


def summary_of(path: Path) -> Summary:
    with Run.open(path) as run:
        return summarise(run)


@pytest.fixture
def audited(folder: Folder) -> Summary:
    """Epsilons 1 and 4: of 100 correct images 20 and 60 flip (cat: 10 and 40 of 50). 10 are misclassified."""
    for number in range(100):
        key = f"{number}.png"
        folder.image(key, label=number % 2, clean_class=number % 2)
        cat = number % 2 == 0
        first = number < 20
        second = number < 60 if not cat else number < 80
        second = second and (cat or number < 40)
        for epsilon, flips in ((1.0, first), (4.0, second)):
            folder.outcome(key, "flipped" if flips else "robust", epsilon, adversarial_class=1)
    for number in range(10):
        folder.image(f"w{number}.png", label=0, clean_class=1)
        for epsilon in (1.0, 4.0):
            folder.outcome(f"w{number}.png", "misclassified", epsilon)
    return summary_of(folder.write())


def rule(**values: Any) -> Rule:
    usual: dict[str, Any] = {"name": "r", "metric": "robust_accuracy", "threshold": 0.3}
    return Rule(**usual | values)


def test_the_example_run_has_the_stated_rates(audited: Summary) -> None:
    assert [w.tally.flipped for w in audited.worst] == [20, 60]
    assert {(c.name, c.epsilon): c.tally.flipped for c in audited.classes} == {
        ("cat", 1.0): 10, ("cat", 4.0): 40, ("dog", 1.0): 10, ("dog", 4.0): 20,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "passed", "measured"),
    [
        # 40 of 110 are robust at epsilon 4: 36.4 %, interval 28.0 to 45.7 %.
        (rule(threshold=0.27), True, 40 / 110),
        (rule(threshold=0.30), None, 40 / 110),
        (rule(threshold=0.30, bound="point"), True, 40 / 110),
        (rule(threshold=0.37, bound="point"), False, 40 / 110),
        (rule(threshold=0.46), False, 40 / 110),
        (rule(threshold=0.60, epsilon=1.0), True, 80 / 110),
        (rule(metric="flip_rate", threshold=0.70), True, 60 / 100),
        (rule(metric="flip_rate", threshold=0.50), False, 60 / 100),
        (rule(metric="flip_rate", threshold=0.60), None, 60 / 100),
        (rule(metric="flip_rate", threshold=0.60, bound="point"), True, 60 / 100),
        (rule(metric="clean_accuracy", threshold=0.8), True, 100 / 110),
        (rule(metric="clean_accuracy", threshold=0.97), False, 100 / 110),
        (rule(scope="class", of="dog", threshold=0.4), True, 30 / 50),
        (rule(scope="class", of="cat", metric="clean_accuracy", threshold=0.9), None, 50 / 60),
        (rule(scope="attack", of="bim", metric="flip_rate", threshold=0.8), True, 60 / 100),
        (rule(scope="attack", of="bim(steps=4)", metric="flip_rate", threshold=0.8), True, 0.6),
        (rule(scope="attack", of="pgd"), None, None),
        (rule(scope="class", of="bird"), None, None),
        (rule(epsilon=2.0), None, None),
    ],
)
def test_rules_give_the_expected_status(
    audited: Summary, one: Rule, passed: bool | None, measured: float | None
) -> None:
    verdict = decide(audited, Gate((one,)), ())
    (result,) = verdict.rules
    assert result.passed is passed
    assert result.measured == (None if measured is None else pytest.approx(measured))
    assert verdict.status == {True: PASS, False: FAIL, None: INCONCLUSIVE}[passed]
    assert verdict.exit_code == {True: 0, False: 1, None: 4}[passed]
    assert result.sentence.endswith(".")
    assert result.sentence in verdict.sentence
    assert verdict.gated


def test_a_class_rule_without_a_name_applies_to_each_class(audited: Summary) -> None:
    verdict = decide(audited, Gate((rule(scope="class", threshold=0.5, bound="point"),)), ())
    assert {r.scope: r.passed for r in verdict.rules} == {"class cat": False, "class dog": True}
    assert verdict.status == FAIL


@settings(deadline=None)
@given(k=st.integers(0, 200), n=st.integers(1, 200), threshold=st.floats(0, 1))
def test_bounds_match_wilson_intervals(k: int, n: int, threshold: float) -> None:
    k = min(k, n)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    got = compare(rule(threshold=threshold), "worst", 4.0, Share.of(k, n)).passed
    if threshold < interval.low - 1e-9:
        assert got is True
    elif threshold > interval.high + 1e-9:
        assert got is False
    elif interval.low + 1e-9 < threshold < interval.high - 1e-9:
        assert got is None


def test_without_a_gate_a_run_passes_and_states_that_no_rule_was_set(
    audited: Summary,
) -> None:
    verdict = decide(
        audited, None, [DiagnosisEntry(id="D01", status="warn", title="t", sentence="s")]
    )
    assert (verdict.status, verdict.exit_code, verdict.gated) == (PASS, 0, False)
    assert verdict.label == "NO GATE"
    assert "No gate" in verdict.sentence


FAILED = DiagnosisEntry(id="D08", title="unbounded attack", status="fail", sentence="It held.")


def test_a_failed_diagnostic_makes_a_broken_rule_inconclusive(audited: Summary) -> None:
    verdict = decide(audited, Gate((rule(threshold=0.9),)), [FAILED])
    assert (verdict.status, verdict.exit_code) == (INCONCLUSIVE, 4)
    assert "D08 unbounded attack: It held." in verdict.sentence
    assert decide(audited, None, [FAILED]).exit_code == 4


def test_a_suppression_holds_until_its_date_and_then_is_reported_expired(audited: Summary) -> None:
    gate = Gate(
        (rule(threshold=0.9),),
        (
            Suppression("r", "known weak", date(2027, 1, 31)),
            Suppression("D08", "no", date(2026, 1, 1)),
        ),
    )
    on_the_day = decide(audited, gate, (), today=date(2027, 1, 31))
    assert on_the_day.status == PASS
    assert on_the_day.rules[0].suppressed == "known weak (until 2027-01-31)"
    assert on_the_day.rules[0].passed is False
    assert "Suppressed: r" in on_the_day.sentence
    assert "No gate is set" not in on_the_day.sentence
    assert on_the_day.label == "PASS"
    after = decide(audited, gate, (), today=date(2027, 2, 1))
    assert after.status == FAIL
    assert "expired on 2027-01-31" in after.sentence
    doubted = decide(audited, gate, [FAILED], today=date(2027, 1, 1))
    assert doubted.status == INCONCLUSIVE
    assert "expired on 2026-01-01" in doubted.sentence
    # The default date is that of the run, 2026-11-23, so that a report is reproducible.
    assert decide(audited, gate, ()).status == PASS


def test_a_run_without_outcomes_has_status_nothing(folder: Folder) -> None:
    folder.image("a", label=0, clean_class=1)
    folder.outcome("a", "misclassified")
    verdict = decide(summary_of(folder.write()), Gate((rule(),)), [FAILED])
    assert (verdict.status, verdict.exit_code) == (NOTHING, 5)
    assert "classified correctly" in verdict.sentence


def test_an_unfinished_run_is_not_judged(audited: Summary) -> None:
    begun = replace(audited, finished=False)
    assert decide(begun, Gate((rule(threshold=0.9),)), ()).status == INCONCLUSIVE


def test_exit_codes_match_the_specification() -> None:
    assert EXIT_CODES == {PASS: 0, FAIL: 1, INCONCLUSIVE: 4, NOTHING: 5}


def test_the_gate_round_trips_through_run_json(audited: Summary, folder: Folder) -> None:
    base = baseline(folder.path, 0.02)
    gate = Gate((rule(epsilon=1.0),), (Suppression("r", "why", date(2027, 1, 1)),), base)
    kept = GateEntry.model_validate(json.loads(json.dumps(gate.to_dict())))
    assert Gate.of(kept) == gate
    judged = replace(
        audited, manifest=audited.manifest.with_changes(gate=kept, diagnostics=(FAILED,))
    )
    assert verdict_of(judged).status == INCONCLUSIVE
    odd = {"schema": SCHEMA, "gate": {"rules": [{"nme": 1}], "suppressions": []}}
    with pytest.raises(RunError, match=r"run\.json is damaged: gate\.rules\[0\]\.name is missing"):
        manifest_of(json.dumps(odd).encode(), "run.json")
    never = GateSuppression(rule="r", reason="why", expires="2026-13-45")
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        Gate.of(GateEntry(rules=(), suppressions=(never,)))


def test_no_worse_than_compares_with_the_baseline(
    audited: Summary, folder: Folder, tmp_path: Path
) -> None:
    same = baseline(folder.path)
    verdict = decide(audited, Gate(baseline=same), ())
    assert verdict.status == PASS
    assert [r.epsilon for r in verdict.rules] == [1.0, 4.0]
    (tmp_path / "report.json").write_text(json.dumps(audited.to_dict()))
    assert baseline(tmp_path / "report.json") == replace(same, source="report.json")
    (tmp_path / "report.json").write_text(json.dumps({"summary": audited.to_dict()}))
    assert baseline(tmp_path / "report.json") == replace(same, source="report.json")
    better = replace(same, worst=((1.0, 80, 110), (4.0, 42, 110)))
    worse = decide(audited, Gate(baseline=better), ())
    assert worse.status == FAIL
    assert [r.passed for r in worse.rules] == [True, False]
    allowed = decide(audited, Gate(baseline=replace(better, max_drop=0.02)), ())
    assert allowed.status == PASS
    changes: list[tuple[dict[str, Any], str]] = [
        ({"data_sha256": "other"}, "other images"),
        ({"norm": "l2"}, "another norm or goal"),
        ({"attacks": ("pgd",)}, "other attacks"),
        ({"worst": ((9.0, 1, 2),)}, "share no epsilon"),
    ]
    for change, why in changes:
        refused = decide(audited, Gate(baseline=replace(same, **change)), ())
        assert refused.status == INCONCLUSIVE
        assert why in refused.sentence
    with pytest.raises(RunError, match="no baseline"):
        (tmp_path / "empty.json").write_text("{}")
        baseline(tmp_path / "empty.json")
    with pytest.raises(RunError, match="cannot be read as a baseline"):
        baseline(tmp_path / "nowhere.json")


TOML = """
[gate]
rules = [
  {name = "floor", epsilon = "4/255", threshold = 0.3},
  {name = "every class", scope = "class", metric = "flip_rate", threshold = 0.9, bound = "point"},
  {name = "one", scope = "attack", attack = "bim", threshold = 0.1},
]
[[gate.suppress]]
rule = "every class"
reason = "cats are hard, ticket 17"
expires = 2027-01-31
"""


def gate_from(text: str, file: str = "audit.toml") -> Gate | None:
    return read_gate(Section(tomllib.loads(text), file=file).section("gate"))


def test_gate_files_are_read() -> None:
    assert gate_from(TOML) == Gate(
        (
            Rule("floor", "robust_accuracy", 0.3, epsilon=4.0),
            Rule("every class", "flip_rate", 0.9, "class", None, None, "point"),
            Rule("one", "robust_accuracy", 0.1, "attack", "bim"),
        ),
        (Suppression("every class", "cats are hard, ticket 17", date(2027, 1, 31)),),
    )
    assert gate_from("") is None
    assert gate_from("[gate]") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[gate.rules]]", r"audit.toml: gate.rules\[0\].threshold is missing"),
        ("[[gate.rules]]\nthreshold = 30", r"gate.rules\[0\].threshold is 30; .* from 0 to 1"),
        (
            "[[gate.rules]]\nthreshold = 0.3\nscop = 'worst'",
            "unknown key .*scop.* Did you mean scope",
        ),
        ("[[gate.rules]]\nthreshold = 0.3\nscope = 'wrst'", "Did you mean worst"),
        ("[[gate.rules]]\nthreshold = 0.3\nmetric = 'asr'", "expected one of 'robust_accuracy'"),
        ("[[gate.rules]]\nthreshold = 0.3\nepsilon = 0.03", "epsilon is 0.03.*below 1 count"),
        ("[[gate.rules]]\nthreshold = true", "expected a number"),
        ("[gate]\nrules = 3", "gate.rules is 3; expected tables"),
        (
            "[[gate.rules]]\nthreshold = 0.3\nscope = 'attack'\nmetric = 'clean_accuracy'",
            "no attack changes the clean accuracy",
        ),
        (
            "[[gate.rules]]\nname='a'\nthreshold = 0.3\n[[gate.rules]]\nname='a'\nthreshold = 0.4",
            "names repeat",
        ),
        ("[[gate.suppress]]\nrule = 'D08'\nreason = 'x'", "expires is missing"),
        ("[[gate.suppress]]\nrule = 'D08'\nreason = 'x'\nexpires = 'soon'", "expected a date"),
        (
            "[[gate.suppress]]\nrule = 'floor'\nreason = 'x'\nexpires = 2027-01-01",
            "expected a diagnostic such as D09",
        ),
        ("[gate.baseline]\nmax_drop = 0.1", "gate.baseline.run is missing"),
    ],
)
def test_errors_in_gate_files_name_the_key(text: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        gate_from(text)


def test_a_baseline_path_is_relative_to_the_gate_file(audited: Summary, folder: Folder) -> None:
    file = folder.path.parent / "audit.toml"
    gate = gate_from("[gate.baseline]\nrun = 'run'\nmax_drop = 0.01", str(file))
    assert gate is not None and gate.baseline == baseline(folder.path, 0.01)
