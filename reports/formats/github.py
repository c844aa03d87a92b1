"""Annotations for a GitHub workflow: lines that a step prints, and GitHub shows beside its checks.

robustness report RUN --kind github --out notes.txt; cat notes.txt
"""

from __future__ import annotations

from collections.abc import Iterable

from robustness.reports import wording
from robustness.reports.gate.verdict import PASS, Verdict
from robustness.reports.summary.findings import findings
from robustness.reports.summary.summary import Summary

MOST = 10
"""Most annotations of each kind; GitHub drops more of a step."""
_KINDS = {"critical": "warning", "high": "warning", "medium": "notice", "low": "notice"}


def workflow_annotations(summary: Summary, verdict: Verdict) -> str:
    """Return one line per annotation, the most severe first: verdict, rules and diagnostics, findings."""
    kept: dict[str, list[str]] = {"error": [], "warning": [], "notice": []}
    for kind, title, text in _annotations(summary, verdict):
        if len(kept[kind]) < MOST:
            kept[kind].append(f"::{kind} title={_property(title)}::{_data(text)}")
    return "\n".join(line for lines in kept.values() for line in lines) + "\n"


def _annotations(summary: Summary, verdict: Verdict) -> Iterable[tuple[str, str, str]]:
    head = "notice" if verdict.status == PASS else "error"
    yield head, f"Robustness: {verdict.label}", f"{verdict.sentence} {summary.sentence}"
    for rule in verdict.rules:
        if rule.passed is not True and not rule.suppressed:
            yield "error", f"{rule.scope}: {rule.name}", rule.sentence
    for diagnosis in summary.diagnostics:
        if diagnosis.status == "warn":
            yield "warning", f"{diagnosis.id} {diagnosis.title}", diagnosis.sentence
    for finding in findings(summary):
        name = finding.severity.name
        yield _KINDS[name], f"{name}: {finding.weakness.title}", finding.sentence


def _data(text: str) -> str:
    shown = wording.shorten(text, 1000)
    for character in "%\r\n":
        shown = shown.replace(character, f"%{ord(character):02X}")
    return shown


def _property(text: str) -> str:
    shown = _data(wording.shorten(text, 120))
    for character in ":,":
        shown = shown.replace(character, f"%{ord(character):02X}")
    return shown
