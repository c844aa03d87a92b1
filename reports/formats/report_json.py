"""`report.json`: the verdict, the findings and the whole summary, under a published schema.

The schema is generated from the models and published as `schemas/report-3.schema.json`, so that a field that
changes shows, and the version with it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from robustness.numerics.intervals import Share
from robustness.reports.gate.rule_results import RuleResult
from robustness.reports.gate.verdict import Verdict
from robustness.reports.summary.findings import Finding, findings
from robustness.reports.summary.summary import Summary, finite
from robustness.reports.summary.taxonomy import Severity, Weakness
from robustness.runs.json_schema import schema_of

VERSION = 3
ID = f"urn:robustness-toolkit:report:{VERSION}"
PUBLISHED = Path(__file__).parent / "schemas" / f"report-{VERSION}.schema.json"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class VerdictEntry(_Entry):
    """Pass, fail, inconclusive or nothing evaluated; `label` is NO GATE where nothing was demanded."""

    status: str
    exit_code: int
    sentence: str
    rules: tuple[RuleResult, ...]
    label: str
    gated: bool

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictEntry:
        """Return the entry of a verdict."""
        return cls(**{name: getattr(verdict, name) for name in cls.model_fields})


class FindingEntry(_Entry):
    """A weakness within a budget; `fingerprint` is the same for the same weakness in any run of a model."""

    weakness: Weakness
    epsilon: float | None
    severity: Severity
    sentence: str
    rate: Share | None
    attacks: tuple[str, ...]
    fingerprint: str
    id: str

    @classmethod
    def of(cls, finding: Finding) -> FindingEntry:
        """Return the entry of a finding."""
        return cls(**{name: getattr(finding, name) for name in cls.model_fields})


class Report(_Entry):
    """What an audit of an image classifier found. Shares are 0..1, distances counts."""

    schema_: Literal["urn:robustness-toolkit:report:3"] = Field(alias="$schema")
    version: Literal[3]
    verdict: VerdictEntry
    findings: tuple[FindingEntry, ...]
    summary: Summary


MOST_RESULTS = 100_000
"""Most images that are listed one by one; a longer file could not be read again (`MOST_JSON`)."""


def document(summary: Summary, verdict: Verdict) -> dict[str, Any]:
    """Everything a report says, JSON-able; without `results` if there are more than `MOST_RESULTS` images."""
    if len(summary.results) > MOST_RESULTS:
        left_out = (
            f"The {len(summary.results):,} images are not listed one by one here, since there are more than "
            f"{MOST_RESULTS:,}; outcomes.csv and outcomes.parquet list them."
        )
        summary = replace(summary, results=(), warnings=(*summary.warnings, left_out))
    report = Report.model_validate(
        {
            "$schema": ID,
            "version": VERSION,
            "verdict": VerdictEntry.of(verdict),
            "findings": tuple(map(FindingEntry.of, findings(summary))),
            "summary": summary,
        }
    )
    # A manifest says what its run wrote, not what this version would have written besides.
    return finite(report.model_dump(by_alias=True, exclude_unset=True, warnings=False))


def dumps(summary: Summary, verdict: Verdict) -> str:
    """`document` as text; every character outside ASCII as its code, so that nothing hides."""
    return json.dumps(document(summary, verdict), indent=1, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema of `document`."""
    return schema_of(Report, ID, "Robustness report")


def published() -> str:
    """The text of `PUBLISHED`."""
    return json.dumps(schema(), indent=1) + "\n"
