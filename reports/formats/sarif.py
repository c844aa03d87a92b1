"""SARIF 2.1.0: a result for each finding, as code scanning reads it."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from robustness.reports import wording
from robustness.reports.gate.verdict import Verdict
from robustness.reports.summary import taxonomy
from robustness.reports.summary.findings import Finding, findings
from robustness.reports.summary.summary import Summary

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
_MOST_TAGS = 10
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(summary: Summary, verdict: Verdict) -> str:
    """Return the findings as a log with one run; `_uri` gives their location."""
    every = findings(summary)
    rules = list(dict.fromkeys(finding.weakness.rule for finding in every))
    tool = summary.manifest.tool
    driver = {
        "name": "robustness-toolkit",
        "version": _plain(tool.version or "unknown"),
        "rules": [_rule(rule, every) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        # A category for each model, so that an upload does not close the findings of another model.
        "automationDetails": {
            "id": f"robustness/{quote(wording.shorten(summary.model_name, 80))}/"
        },
        "invocations": [
            {
                "executionSuccessful": summary.finished,
                "exitCode": verdict.exit_code,
                "exitCodeDescription": _plain(verdict.sentence),
            }
        ],
        "results": [_result(summary, finding, rules) for finding in every],
        "columnKind": "unicodeCodePoints",
        "properties": {
            "verdict": verdict.status,
            "reliability": summary.reliability,
            **_pipeline(summary),
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=1, allow_nan=False) + "\n"


def _pipeline(summary: Summary) -> dict[str, str]:
    """The deployed pipeline, as properties of the run."""
    said = summary.deployed.properties() if summary.deployed else {}
    return {name: wording.visible(text) for name, text in said.items()}


def _rule(rule: str, every: tuple[Finding, ...]) -> dict[str, Any]:
    findings_of_rule = [f for f in every if f.weakness.rule == rule]
    weakness, editions = findings_of_rule[0].weakness, taxonomy.sources()
    maps = "; ".join(f"{m.id} {m.name} ({editions[m.scheme]})" for m in weakness.maps)
    fixes = " ".join(f"{fix.says} ({fix.id})" for fix in weakness.fix)
    return {
        "id": rule,
        "name": "".join(part.capitalize() for part in rule.split("-")),
        "shortDescription": {"text": weakness.title},
        "fullDescription": {"text": weakness.means},
        "help": {"text": f"{fixes} Maps to {maps}."},
        "defaultConfiguration": {"level": _LEVELS[findings_of_rule[0].severity.name]},
        "properties": {
            "security-severity": f"{max(f.severity.score for f in findings_of_rule):.1f}",
            "tags": ["security", *(m.id for m in weakness.maps)][:_MOST_TAGS],
        },
    }


def _result(summary: Summary, finding: Finding, rules: list[str]) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": _uri(summary)}, "region": {"startLine": 1}}
    rate = finding.rate
    return {
        "ruleId": finding.weakness.rule,
        "ruleIndex": rules.index(finding.weakness.rule),
        "level": _LEVELS[finding.severity.name],
        "message": {"text": _plain(finding.sentence)},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"primaryLocationLineHash": f"{finding.fingerprint}:1"},
        "rank": 10 * finding.severity.score,
        "properties": {
            "severity": finding.severity.name,
            "epsilon": finding.epsilon,
            "flipped": rate.count if rate else None,
            "of": rate.total if rate else None,
            "attacks": [wording.visible(name) for name in finding.attacks],
        },
    }


def _uri(summary: Summary) -> str:
    """The file of the repository that findings refer to: the configuration with the gate, or the model.

    Folders outside the repository are left out, since they may be private. Without either file, run.json.
    """
    configuration = summary.manifest.origin.configuration
    path = PurePath(configuration or summary.manifest.model.file or "run.json")
    inside = configuration and not path.is_absolute() and ".." not in path.parts
    return quote(wording.visible(path.as_posix() if inside else path.name) or "run.json")


def _plain(text: str) -> str:
    """A message in which SARIF finds no placeholders or links."""
    shown = wording.visible(text).replace("{", "{{").replace("}", "}}")
    return shown.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
