"""The checks before the attack, as a report shows them."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.reports.summary.summary import Summary

_SEVERITIES = ("error", "warning", "note", "ok")


@dataclass(frozen=True)
class PreflightCheck:
    """One check before the attack; `severity` is error, warning, note or ok."""

    id: str
    severity: str
    sentence: str


def preflight_checks(summary: Summary) -> list[PreflightCheck]:
    """The checks before the attack that no diagnostic repeats, the most severe first."""
    repeated = {d.id for d in summary.diagnostics if d.status != "skipped"}
    checks = []
    for entry in summary.manifest.preflight:
        if entry.id.partition("-")[0] in repeated:
            continue
        severity = entry.severity if entry.severity in _SEVERITIES else "note"
        checks.append(PreflightCheck(id=entry.id, severity=severity, sentence=entry.sentence))
    return sorted(checks, key=lambda check: _SEVERITIES.index(check.severity))
