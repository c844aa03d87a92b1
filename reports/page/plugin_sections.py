"""Sections of the page that plug-ins bring, by entry points of the group `robustness.report_sections`.

Whatever such a section does wrong is one sentence in its place; the rest of the page stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from markupsafe import Markup

from robustness import plugins
from robustness.errors import SettingError
from robustness.reports.page.section import PageData, Section, render_section

_PROBLEM = '  <p class="lead">This section of a plug-in cannot be shown: {{ problem }}</p>\n'


def plugin_sections(page: PageData, anchors: Iterable[str]) -> list[tuple[Section, Markup]]:
    """The sections of all installed plug-ins in order of their names, each with its rendered body.

    Parameters
    ----------
    page
        What the sections are made from.
    anchors
        The anchors that the page uses already.
    """
    used, sections = set(anchors), []
    for name in plugins.names(plugins.REPORT_SECTIONS):
        try:
            section = _made(name, page)
            if section is None:
                continue
            if section.anchor in used:
                raise SettingError(f"its anchor {section.anchor!r} is taken; choose another one.")
            body = render_section(section)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plug-in may raise anything, SystemExit included
            section = _problem(name, error, used)
            body = render_section(section)
        used.add(section.anchor)
        sections.append((section, body))
    return sections


def _made(name: str, page: PageData) -> Section | None:
    make = plugins.load(plugins.REPORT_SECTIONS, name)
    if not callable(make):
        raise SettingError(f"{name} is {type(make).__name__}; expected a function of PageData.")
    section = make(page)
    if section is not None and not isinstance(section, Section):
        raise SettingError(f"{name} returned {type(section).__name__}; expected a Section or None.")
    return section


def _problem(name: str, error: BaseException, used: set[str]) -> Section:
    anchor = "plugin-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "section")
    while anchor in used:
        anchor += "-2"
    text = f"{type(error).__name__}: {error}" if not isinstance(error, SettingError) else str(error)
    return Section(anchor, name, _PROBLEM, {"problem": text})
