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
            "skipped_sentence": skipped_sentence(page.summary),
        },
        link="Diagnostics",
    )


def skipped_sentence(summary: Summary) -> str:
    """Return what the skipped diagnostics mean for the reliability, one sentence; "" without any."""
    skipped = sum(diagnosis.status == "skipped" for diagnosis in summary.diagnostics)
    if not skipped:
        return ""
    verb, they = ("was", "it does") if skipped == 1 else ("were", "they do")
    return (
        f"{wording.plural(skipped, 'diagnostic')} {verb} skipped, because {they} not apply here or must "
        "be asked for with --thorough; the reliability at the top covers only the checks that ran."
    )
