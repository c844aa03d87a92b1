"""The report as one HTML file: no request, openable from a folder.

Text of users and models reaches the page only through Jinja's autoescape or, in the case browser, as
text nodes, every hidden character of it shown by `words.visible`; pictures only as data URIs. The one
style sheet and the scripts are known to the page's content security policy by their hashes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from markupsafe import Markup

from robustness.files.writing import own_folder
from robustness.reports import wording
from robustness.reports.files import report_path, write_file
from robustness.reports.gate.verdict import verdict_of
from robustness.reports.page import headline
from robustness.reports.page.case_browser import Spill, gallery
from robustness.reports.page.case_panels import case_panel
from robustness.reports.page.plugin_sections import plugin_sections
from robustness.reports.page.section import PageData, Section, render_section
from robustness.reports.page.sections import SECTIONS
from robustness.reports.page.templating import csp_hash, page_environment, read_template
from robustness.reports.summary.summary import summarise
from robustness.reports.summary.tables import ReadableRun
from robustness.runs.store import Run

NAME = "report.html"
TOP = "top"
"""The anchor of the verdict, above the sections."""
FILES = ".files"
"""Ending of the folder beside a page for the pictures that do not fit into it."""


def write_html(run: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of the run folder `run`; into it as report.html, or to `path`. Where it is.

    Where the pictures of all cases would make the page larger than some 20 MB they go into a folder
    beside it, which has to travel with the page. Reads the run only, so it can be written again at
    any time. RunError if it is no run.
    """
    target = report_path(run, path, NAME)
    folder = target.with_name(target.stem + FILES)
    with Run.open(run) as opened:
        beside = _Beside(folder)
        page = render(opened, beside.keep, folder.name)
    write_file(target, page)
    beside.tidy()
    return target


def render(run: ReadableRun, spill: Spill | None = None, folder: str = "") -> str:
    """The whole page of a run; pictures that do not fit go to `spill`, into `folder` beside it."""
    summary = summarise(run)
    verdict = verdict_of(summary)
    browser = gallery(run, summary, spill)
    has_browser, has_files = bool(browser["cases"]), bool(browser["files"])
    panels = tuple(case_panel(run, case, summary.class_names) for case in summary.cases)
    sections = _sections(PageData(run, summary, verdict, panels, has_browser))
    style, tables, script = map(read_template, ("report.css", "tables.js", "browser.js"))
    template = page_environment().get_template("report.html.j2")
    return template.render(
        **headline.top(summary, verdict),
        summary=summary,
        title=summary.model_name,
        created=wording.date_time(summary.manifest.get("created")),
        sections=sections,
        style=Markup(style),  # noqa: S704  our own file
        tables_script=Markup(tables),  # noqa: S704  our own file
        browser_script=Markup(script),  # noqa: S704  our own file
        browser_data=_data(browser | {"folder": folder * has_files}) if has_browser else None,
        policy=_policy(style, [tables] + [script] * has_browser, beside=has_files),
    )


def _sections(page: PageData) -> list[tuple[Section, Markup]]:
    """Every section with its rendered body: ours in order, then those of plug-ins."""
    ours = [section for make in SECTIONS if (section := make(page)) is not None]
    anchors = [TOP, *(section.anchor for section in ours)]
    return [*((s, render_section(s)) for s in ours), *plugin_sections(page, anchors)]


def _data(value: object) -> Markup:
    """JSON that cannot leave the script element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  no character of markup is left in it


def _policy(style: str, scripts: list[str], *, beside: bool) -> str:
    """Nothing may load but the pictures in the file, our style, our scripts, the files beside it.

    Frames are allowed only where there are such files. "file:" is said besides 'self', since not
    every browser takes the files beside a page that was opened from disk for its own.
    """
    rules = ["default-src 'none'", "img-src data:", f"style-src {csp_hash(style)}"]
    rules += [f"script-src {' '.join(map(csp_hash, scripts))}"]
    rules += ["frame-src 'self' file:"] * beside
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


_HAND_OVER = 'parent.postMessage(JSON.parse(document.getElementById("pictures").textContent), "*");'


class _Beside:
    """The folder of picture files beside a page, named by their content; made when first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._kept = folder, set[str]()

    def keep(self, pictures: dict[int, str]) -> str:
        """Write a page that hands these pictures over when it is framed; its name."""
        policy = f"default-src 'none'; script-src {csp_hash(_HAND_OVER)}"
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            "<title>Pictures of a robustness report</title></head><body>"
            f'<script type="application/json" id="pictures">{_data(pictures)}</script>'
            f"<script>{_HAND_OVER}</script></body></html>\n"
        )
        name = f"pictures-{hashlib.sha256(page.encode()).hexdigest()[:16]}.html"
        own_folder(self._folder)
        write_file(self._folder / name, page)
        self._kept.add(name)
        return name

    def tidy(self) -> None:
        """Remove what an earlier page left here."""
        if not self._folder.is_dir() or self._folder.is_symlink():
            return
        for old in self._folder.glob("pictures-*.html"):
            if old.name not in self._kept:
                old.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()
