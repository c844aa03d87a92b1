"""How to repeat the run."""

from __future__ import annotations

from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template


def section(page: PageData) -> Section:
    """The command, and every setting."""
    summary = page.summary
    return Section(
        anchor="again",
        title="Reproduce",
        template=read_template("sections/reproduce.html.j2"),
        data={"summary": summary, "command": summary.manifest.command},
        link="Reproduce",
    )
