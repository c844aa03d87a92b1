"""A section of the report's page, and the data that every section is made from.

To add a section, write a function of `PageData` that returns a `Section`, and register it: ours in
`robustness.reports.page.sections`, one of a plug-in as an entry point of the group
`robustness.report_sections`. `docs/reports.md` shows an example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

from robustness.errors import SettingError
from robustness.reports.gate.verdict import Verdict
from robustness.reports.page.case_panels import CasePanel
from robustness.reports.page.templating import page_environment
from robustness.reports.summary.summary import Summary
from robustness.reports.summary.tables import ReadableRun

_ANCHOR = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class PageData:
    """What a section can be made from.

    Parameters
    ----------
    run
        The opened run folder, for tables and pictures that the summary leaves out.
    summary
        Every number of the report.
    verdict
        The verdict of the gate.
    panels
        The flips that the page shows in full, with their pictures.
    has_browser
        Whether the page has a case browser, so that links to cases lead somewhere.
    cases_left_out
        How many cases are beyond what the case browser holds.
    """

    run: ReadableRun
    summary: Summary
    verdict: Verdict
    panels: tuple[CasePanel, ...] = ()
    has_browser: bool = False
    cases_left_out: int = 0


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading, an anchor and an entry in the navigation.

    Parameters
    ----------
    anchor
        The id of the section: lower-case letters, digits and hyphens; unique on the page.
    title
        The heading.
    template
        Jinja source of what stands under the heading. Text is escaped; the filters of
        `robustness.reports.page.templating.page_environment` are known.
    data
        The variables of the template.
    link
        The word in the navigation; "" for no entry.
    layout
        "section" for a full-width section, "card" for one that stands beside its neighbours,
        "bare" if the template brings its own frame and heading.

    Raises
    ------
    SettingError
        If the anchor is not of that form, or the layout unknown.
    """

    anchor: str
    title: str
    template: str
    data: Mapping[str, object] = field(default_factory=dict)
    link: str = ""
    layout: Literal["section", "card", "bare"] = "section"

    def __post_init__(self) -> None:
        if not _ANCHOR.fullmatch(self.anchor):
            raise SettingError(
                f"The section {self.title!r} has the anchor {self.anchor!r}; expected lower-case "
                "letters, digits and hyphens, a letter first."
            )
        if self.layout not in ("section", "card", "bare"):
            raise SettingError(
                f"The section {self.title!r} has the layout {self.layout!r}; expected section, card "
                "or bare."
            )


SectionMaker = Callable[[PageData], Section | None]
"""A function that makes a section; None where the run gives no cause for it."""


def render_section(section: Section) -> Markup:
    """What stands under the heading of a section, as HTML."""
    body = page_environment().from_string(section.template).render(section.data)
    return Markup(body)  # noqa: S704  rendered with every text escaped
