"""Findings by weakness, with what they map to and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary import taxonomy
from robustness.reports.summary.findings import Finding, findings
from robustness.reports.summary.summary import Summary


@dataclass(frozen=True)
class FindingGroup:
    """All findings of one weakness; `rungs`: each finding with the address of its cases."""

    weakness: taxonomy.Weakness
    severity: str
    attacks: tuple[str, ...]
    spared: bool
    maps: tuple[tuple[taxonomy.Id, str], ...]
    rungs: tuple[tuple[Finding, str], ...]


def section(page: PageData) -> Section:
    """The findings, the most severe first."""
    return Section(
        anchor="findings",
        title="Findings",
        template=read_template("sections/findings.html.j2"),
        data={"findings": grouped(page.summary), "has_browser": page.has_browser},
        link="Findings",
    )


def grouped(summary: Summary) -> list[FindingGroup]:
    """The findings by weakness, the most severe first; ids and remedies once each."""
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings(summary):
        by_rule.setdefault(finding.weakness.rule, []).append(finding)
    return [_group(members, summary) for members in by_rule.values()]


def _group(members: list[Finding], summary: Summary) -> FindingGroup:
    worst, editions = members[0], taxonomy.sources()
    rungs = [(finding, _cases_address(finding, summary)) for finding in members]
    return FindingGroup(
        weakness=worst.weakness,
        severity=worst.severity.name,
        attacks=worst.attacks,
        spared=any(g.spared for g in summary.groups if g.attacks == worst.attacks),
        maps=tuple((entry, editions[entry.scheme]) for entry in worst.weakness.maps),
        rungs=tuple(sorted(rungs, key=lambda rung: rung[0].epsilon or 0.0)),
    )


def _cases_address(finding: Finding, summary: Summary) -> str:
    """The address in the page of the finding's cases; by attack where one of several made it."""
    if finding.epsilon is None or not finding.rate:
        return ""
    address = f"#status=flipped&epsilon={finding.epsilon:.12g}"
    if len(finding.attacks) == 1 and len(summary.attacks) > 1:
        address += f"&attack={summary.attacks.index(finding.attacks[0])}"
    return address
