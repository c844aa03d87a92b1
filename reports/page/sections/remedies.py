"""How the remedies that the findings name are done."""

from __future__ import annotations

from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary import taxonomy
from robustness.reports.summary.findings import findings


def section(page: PageData) -> Section | None:
    """The remedies of all findings, once each; None without findings."""
    named = [fix.id for finding in findings(page.summary) for fix in finding.weakness.fix]
    known = taxonomy.remedies()
    shown = [known[name] for name in dict.fromkeys(named) if name in known]
    if not shown:
        return None
    return Section(
        anchor="remedies",
        title="Remedies",
        template=read_template("sections/remedies.html.j2"),
        data={"remedies": shown},
        link="Remedies",
    )
