"""The diagnostics after the attack, and the checks before it."""

from __future__ import annotations

from robustness.reports import wording
from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.checks import preflight_checks
from robustness.reports.summary.summary import Summary


def section(page: PageData) -> Section:
    """Diagnostics and checks; those that passed are folded."""
    return Section(
        anchor="checks",
        title="Diagnostics",
        template=read_template("sections/diagnostics.html.j2"),
        data={
            "summary": page.summary,
            "checks": preflight_checks(page.summary),
            "unasked": unasked(page.summary),
        },
        link="Diagnostics",
    )


def unasked(summary: Summary) -> str:
    """Return what the diagnostics that did not run mean for the reliability, one sentence; "" without."""
    skipped = sum(diagnosis.status == "skipped" for diagnosis in summary.diagnostics)
    if not skipped:
        return ""
    verb, them = ("was", "it") if skipped == 1 else ("were", "them")
    return (
        f"{wording.plural(skipped, 'diagnostic')} {verb} not asked, so the reliability at the top says "
        f"nothing about {them}: it sums up only the checks that ran."
    )
