"""The gate: does a run pass? One `Verdict`; page, JSON, JUnit and exit code are its."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from robustness.reports import wording
from robustness.reports.gate.rule_results import RuleResult, against, judged, suppressed
from robustness.reports.gate.rules import Gate
from robustness.reports.summary.summary import Summary
from robustness.reports.summary.unjudged import reasons
from robustness.runs.schema import DiagnosisEntry

PASS, FAIL, INCONCLUSIVE, NOTHING = "pass", "fail", "inconclusive", "nothing evaluated"
EXIT_CODES = {PASS: 0, FAIL: 1, INCONCLUSIVE: 4, NOTHING: 5}
"""2 (usage) and 3 (run error) are those of commands that never came to a verdict."""

DIAGNOSTIC = "diagnostic"


@dataclass(frozen=True)
class Verdict:
    """Pass, fail, inconclusive or nothing evaluated; the process leaves with `exit_code`."""

    status: str
    exit_code: int
    sentence: str
    rules: tuple[RuleResult, ...] = field(default=())

    @property
    def gated(self) -> bool:
        """Whether anything was demanded: without a gate a "pass" only says that the run is sound."""
        return any(rule.scope != DIAGNOSTIC for rule in self.rules)

    @property
    def label(self) -> str:
        """The word for a badge: PASS only where something was demanded."""
        return "NO GATE" if self.status == PASS and not self.gated else self.status.upper()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"label": self.label, "gated": self.gated}


def verdict_of(summary: Summary) -> Verdict:
    """The verdict on a run by the gate and the diagnostics that its `run.json` holds."""
    gate = summary.manifest.gate
    return decide(summary, Gate.of(gate) if gate else None, summary.manifest.diagnostics)


def decide(
    summary: Summary,
    gate: Gate | None,
    diagnostics: Sequence[DiagnosisEntry],
    today: date | None = None,
) -> Verdict:
    """Hold a run against `gate`; without one, only whether it is sound.

    The gravest first: nothing evaluated, a diagnostic that failed or a run that is not finished
    (inconclusive), a broken rule, a rule that stays open (inconclusive), and else pass. Suppressions
    are judged on `today`, by default the day the run was made, so that its report says the same on
    any day.
    """
    gate = gate or Gate()
    day = today or _day(summary)
    results = [*_diagnostics(diagnostics)]
    for rule in gate.rules:
        results += judged(rule, summary)
    if gate.baseline:
        results += against(gate.baseline, summary)
    results = [suppressed(result, gate.suppressions, day) for result in results]
    status, sentence = _status(summary, results)
    left_out = [r.name for r in results if r.suppressed and r.passed is not True]
    if left_out and status != NOTHING:
        sentence += f" Suppressed: {wording.listed(left_out)}."
    return Verdict(status, EXIT_CODES[status], sentence, tuple(results))


def _day(summary: Summary) -> date:
    said = summary.manifest.finished or summary.manifest.created
    try:
        return date.fromisoformat(str(said)[:10])
    except ValueError:
        return date.today()


def _status(summary: Summary, every: list[RuleResult]) -> tuple[str, str]:
    results = [r for r in every if not r.suppressed]
    if not summary.overall.flip_rate.total:
        return NOTHING, _nothing(summary)
    if doubt := _doubt(summary, [r for r in results if r.scope == DIAGNOSTIC]):
        return INCONCLUSIVE, doubt
    rules = [r for r in results if r.scope != DIAGNOSTIC]
    for status, value, word in ((FAIL, False, "broken"), (INCONCLUSIVE, None, "undecided")):
        if some := [r for r in rules if r.passed is value]:
            head = f"{len(some)} of {wording.plural(len(rules), 'rule')} {word}: "
            return status, head + _sentences(some)
    return PASS, _held(rules, demanded=any(r.scope != DIAGNOSTIC for r in every))


def _held(rules: list[RuleResult], *, demanded: bool) -> str:
    """What a pass rests on: the `rules` that count; `demanded` says that there was a gate."""
    if not rules:
        return (
            "Every rule is suppressed, so nothing is demanded of the model for now."
            if demanded
            else "No gate was set, so nothing was demanded of the model."
        )
    if len(rules) == 1:
        return f"The rule holds: {rules[0].sentence}"
    return f"All {len(rules)} rules hold."


def _doubt(summary: Summary, failed: list[RuleResult]) -> str:
    """Why no rule can decide anything; nothing where the run is sound."""
    if failed:
        verb = "diagnostic says" if len(failed) == 1 else "diagnostics say"
        also = f" Also {wording.listed([r.name for r in failed[1:]])}." if failed[1:] else ""
        return (
            f"{len(failed)} {verb} that the numbers cannot be relied on: {failed[0].sentence}{also}"
        )
    return "" if summary.finished else "The run is not finished, so nothing is decided yet."


def _nothing(summary: Summary) -> str:
    images, lost = summary.images, summary.overall.failed
    if not images.readable:
        why = reasons(summary.skipped, images.selected)
        return f"Nothing was evaluated: no image could be read{f' ({why})' if why else ''}."
    if lost:
        return f"Nothing was evaluated: none of {lost} images has an outcome, each says why."
    if not summary.labelled:
        return "Nothing was evaluated: no image was attacked."
    return "Nothing was evaluated: no image was classified correctly, so none was attacked."


def _sentences(results: list[RuleResult], most: int = 3) -> str:
    said = " ".join(r.sentence for r in results[:most])
    more = len(results) - most
    return said + (f" And {more} more." if more > 0 else "")


def _diagnostics(found: Iterable[DiagnosisEntry]) -> Iterable[RuleResult]:
    for one in found:
        if one.status == FAIL:
            said = f"{one.id} {one.title}: {one.sentence}"
            yield RuleResult(
                one.id, DIAGNOSTIC, DIAGNOSTIC, None, None, None, None, None, None, said
            )
