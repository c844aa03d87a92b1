"""Flips with their pictures: the case browser, and the stills that stand in for it without scripts."""

from __future__ import annotations

from robustness.reports.page.section import PageData, Section
from robustness.reports.page.templating import read_template


def section(page: PageData) -> Section:
    """The stills, and the frame of the case browser where the page has one."""
    return Section(
        anchor="pictures",
        title="Cases",
        template=read_template("sections/pictures.html.j2"),
        data={
            "panels": page.panels,
            "uploaded": page.summary.deployed is not None and page.summary.deployed.at_full_size,
            "has_browser": page.has_browser,
            "cases_left_out": page.cases_left_out,
        },
        link="Cases",
        layout="bare",
    )
