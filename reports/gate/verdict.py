"""The verdict: whether a run passes its gate. Page, JSON, JUnit and exit code all show it."""

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
"""2 (usage) and 3 (run error) are for commands that end without a verdict."""

DIAGNOSTIC = "diagnostic"


@dataclass(frozen=True)
class Verdict:
    """Pass, fail, inconclusive or nothing evaluated, with the exit code of the process."""

    status: str
    exit_code: int
    sentence: str
    rules: tuple[RuleResult, ...] = field(default=())

    @property
    def gated(self) -> bool:
        """Whether there is a gate: without one a "pass" only says that the run is reliable."""
        return any(rule.scope != DIAGNOSTIC for rule in self.rules)

    @property
    def label(self) -> str:
        """The word for a badge: PASS only if there is a gate."""
        return "NO GATE" if self.status == PASS and not self.gated else self.status.upper()

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-able data."""
        return asdict(self) | {"label": self.label, "gated": self.gated}


def verdict_of(summary: Summary) -> Verdict:
    """Return the verdict by the gate and the diagnostics in `run.json`."""
    gate = summary.manifest.gate
    return decide(summary, Gate.of(gate) if gate else None, summary.manifest.diagnostics)


def decide(
    summary: Summary,
    gate: Gate | None,
    diagnostics: Sequence[DiagnosisEntry],
    today: date | None = None,
) -> Verdict:
    """Decide whether a run passes `gate`; without one, only whether it is reliable.

    The first that applies: nothing evaluated; inconclusive, for a failed diagnostic or an unfinished run;
    fail, for a rule that failed; inconclusive, for an undecided rule; pass.

    Parameters
    ----------
    summary
        The summary of the run.
    gate
        Its rules, suppressions and baseline.
    diagnostics
        The diagnostics of the run, as in `run.json`.
    today
        The day on which suppressions are judged; by default the day of the run, so that the report of a
        run is the same on any day.
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
    time = summary.manifest.finished or summary.manifest.created
    try:
        return date.fromisoformat(str(time)[:10])
    except ValueError:
        return date.today()


def _status(summary: Summary, every: list[RuleResult]) -> tuple[str, str]:
    results = [r for r in every if not r.suppressed]
    if not summary.overall.flip_rate.total:
        return NOTHING, _nothing(summary)
    if doubt := _doubt(summary, [r for r in results if r.scope == DIAGNOSTIC]):
        return INCONCLUSIVE, doubt
    rules = [r for r in results if r.scope != DIAGNOSTIC]
    for status, value, word in ((FAIL, False, "failed"), (INCONCLUSIVE, None, "undecided")):
        if matching := [r for r in rules if r.passed is value]:
            head = f"{len(matching)} of {wording.plural(len(rules), 'rule')} {word}: "
            return status, head + _sentences(matching)
    return PASS, _pass_sentence(rules, has_gate=any(r.scope != DIAGNOSTIC for r in every))


def _pass_sentence(rules: list[RuleResult], *, has_gate: bool) -> str:
    """Why the run passes: the `rules` that count; `has_gate` says whether any was set."""
    if not rules:
        return (
            "Every rule is suppressed, so no rule was checked."
            if has_gate
            else "No gate is set, so no rule was checked."
        )
    if len(rules) == 1:
        return f"The rule passed: {rules[0].sentence}"
    return f"All {len(rules)} rules passed."


def _doubt(summary: Summary, failed: list[RuleResult]) -> str:
    """Why the rules cannot be judged; "" if the run is reliable."""
    if failed:
        verb = "diagnostic says" if len(failed) == 1 else "diagnostics say"
        also = f" Also {wording.listed([r.name for r in failed[1:]])}." if failed[1:] else ""
        return f"{len(failed)} {verb} that the numbers are not reliable: {failed[0].sentence}{also}"
    return "" if summary.finished else "The run is not finished, so there is no verdict yet."


def _nothing(summary: Summary) -> str:
    images, failed = summary.images, summary.overall.failed
    if not images.readable:
        why = reasons(summary.skipped, images.selected)
        return f"Nothing was evaluated: no image could be read{f' ({why})' if why else ''}."
    if failed:
        where = "the image, which" if failed == 1 else f"all {failed:,} images; each"
        return f"Nothing was evaluated: the attacks failed on {where} has its reason."
    if not summary.labelled:
        return "Nothing was evaluated: no image was attacked."
    return "Nothing was evaluated: no image was classified correctly, so none was attacked."


def _sentences(results: list[RuleResult], most: int = 3) -> str:
    text = " ".join(r.sentence for r in results[:most])
    more = len(results) - most
    return text + (f" And {more} more." if more > 0 else "")


def _diagnostics(diagnostics: Iterable[DiagnosisEntry]) -> Iterable[RuleResult]:
    for entry in diagnostics:
        if entry.status == FAIL:
            sentence = f"{entry.id} {entry.title}: {entry.sentence}"
            yield RuleResult(
                entry.id,
                DIAGNOSTIC,
                DIAGNOSTIC,
                None,
                None,
                None,
                None,
                None,
                None,
                sentence,
            )
