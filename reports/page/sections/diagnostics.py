"""The diagnostics after the attack, and the checks before it."""

from __future__ import annotations

from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template
from robustness.reports.summary.checks import preflight_checks


def section(page: PageData) -> Section:
    """Diagnostics and checks; those that passed are folded."""
    return Section(
        anchor="checks",
        title="Diagnostics",
        template=read_template("sections/diagnostics.html.j2"),
        data={"summary": page.summary, "checks": preflight_checks(page.summary)},
        link="Diagnostics",
    )
