"""SARIF 2.1.0: a result for each finding, as code scanning reads it."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from robustness.reports import wording
from robustness.reports.gate.verdict import Verdict
from robustness.reports.page.details import title
from robustness.reports.summary import taxonomy
from robustness.reports.summary.findings import Finding, findings
from robustness.reports.summary.summary import Summary

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
_MOST_TAGS = 10
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(summary: Summary, verdict: Verdict) -> str:
    """The findings as a log with one run; see `_uri` for where they stand."""
    found = findings(summary)
    rules = list(dict.fromkeys(one.weakness.rule for one in found))
    tool = summary.manifest.tool
    driver = {
        "name": "robustness-toolkit",
        "version": _plain(tool.version or "unknown"),
        "rules": [_rule(rule, found) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        # A category of its own for each model, so that one upload does not close the other's.
        "automationDetails": {"id": f"robustness/{quote(wording.shorten(title(summary), 80))}/"},
        "invocations": [
            {
                "executionSuccessful": summary.finished,
                "exitCode": verdict.exit_code,
                "exitCodeDescription": _plain(verdict.sentence),
            }
        ],
        "results": [_result(summary, one, rules) for one in found],
        "columnKind": "unicodeCodePoints",
        "properties": {"verdict": verdict.status, "reliability": summary.reliability},
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1, allow_nan=False) + "\n"


def _rule(rule: str, found: tuple[Finding, ...]) -> dict[str, Any]:
    mine = [one for one in found if one.weakness.rule == rule]
    weakness, editions = mine[0].weakness, taxonomy.sources()
    maps = "; ".join(f"{m.id} {m.name} ({editions[m.scheme]})" for m in weakness.maps)
    fixes = " ".join(f"{fix.says} ({fix.id})" for fix in weakness.fix)
    return {
        "id": rule,
        "name": "".join(part.capitalize() for part in rule.split("-")),
        "shortDescription": {"text": weakness.title},
        "fullDescription": {"text": weakness.means},
        "help": {"text": f"{fixes} Maps to {maps}."},
        "defaultConfiguration": {"level": _LEVELS[mine[0].severity.name]},
        "properties": {
            "security-severity": f"{max(one.severity.score for one in mine):.1f}",
            "tags": ["security", *(m.id for m in weakness.maps)][:_MOST_TAGS],
        },
    }


def _result(summary: Summary, one: Finding, rules: list[str]) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": _uri(summary)}, "region": {"startLine": 1}}
    rate = one.rate
    return {
        "ruleId": one.weakness.rule,
        "ruleIndex": rules.index(one.weakness.rule),
        "level": _LEVELS[one.severity.name],
        "message": {"text": _plain(one.sentence)},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"primaryLocationLineHash": f"{one.fingerprint}:1"},
        "rank": 10 * one.severity.score,
        "properties": {
            "severity": one.severity.name,
            "epsilon": one.epsilon,
            "flipped": rate.count if rate else None,
            "of": rate.total if rate else None,
            "attacks": [wording.visible(name) for name in one.attacks],
        },
    }


def _uri(summary: Summary) -> str:
    """What a reader finds in the repository: the configuration, which holds the gate; else the model's file.

    Folders outside are left out, which may be private. Where there is neither, the run's manifest.
    """
    named = summary.manifest.origin.configuration
    path = PurePath(named or summary.manifest.model.file or "run.json")
    inside = named and not path.is_absolute() and ".." not in path.parts
    return quote(wording.visible(path.as_posix() if inside else path.name) or "run.json")


def _plain(text: str) -> str:
    """A message without placeholders and links, which SARIF's text can hold."""
    shown = wording.visible(text).replace("{", "{{").replace("}", "}}")
    return shown.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
