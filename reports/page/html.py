"""The report as one HTML file that makes no request and opens from a folder.

Text of users and models reaches the page only through Jinja's autoescape or, in the case browser, as
text nodes; `robustness.text.visible` shows its hidden characters as codes. Pictures are data URIs. The
content security policy allows the style sheet and the scripts by their hashes.
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
from robustness.reports.page.case_browser import WritePictures, browser_data
from robustness.reports.page.case_panels import case_panel
from robustness.reports.page.plugin_sections import plugin_sections
from robustness.reports.page.section import PageData, Section, render_section
from robustness.reports.page.sections import SECTIONS
from robustness.reports.page.templating import csp_hash, page_environment, read_template
from robustness.reports.page.triptychs import triptychs
from robustness.reports.summary.cases import worst_cases
from robustness.reports.summary.summary import summarise
from robustness.reports.summary.tables import ReadableRun, ReadOnce, complete
from robustness.runs.store import Run

NAME = "report.html"
TOP = "top"
"""The anchor of the verdict, above the sections."""
FILES = ".files"
"""Ending of the name of the folder beside a page, for pictures that do not fit into it."""


def write_html(run: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of a run as an HTML page.

    Parameters
    ----------
    run
        The run folder. It is only read, so the page can be written again at any time.
    path
        The file to write; by default report.html in the run folder.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    RunError
        If the folder is not a run, or the page cannot be written.

    Notes
    -----
    If the pictures of all cases would make the page larger than about 20 MB, they go into a folder
    beside it (`report.files`). Copy that folder together with the page.
    """
    target = report_path(run, path, NAME)
    folder = target.with_name(target.stem + FILES)
    with Run.open(run) as opened:
        beside = _PictureFolder(folder)
        page = render(opened, beside.write, folder.name)
    write_file(target, page)
    beside.remove_old()
    return target


def render(run: ReadableRun, write_pictures: WritePictures | None = None, folder: str = "") -> str:
    """Return the page of a run.

    Parameters
    ----------
    run
        The opened run.
    write_pictures
        Writes pictures that do not fit into the page; without it all stay in the page.
    folder
        Name of the folder beside the page that `write_pictures` writes to.
    """
    run = ReadOnce(run)
    summary = summarise(run)
    verdict = verdict_of(summary)
    browser = browser_data(run, summary, write_pictures)
    has_browser, has_files = bool(browser["cases"]), bool(browser["files"])
    panels = tuple(case_panel(run, case, summary.class_names) for case in summary.cases)
    left_out = browser.pop("left_out")
    sections = _sections(PageData(run, summary, verdict, panels, has_browser, left_out))
    style, tables = read_template("report.css"), read_template("tables.js")
    export, script = read_template("export.js"), read_template("browser.js")
    worst = worst_cases(
        complete(run.images(), "images"),
        complete(run.outcomes(), "outcomes", summary.norm),
        complete(run.strips(), "strips"),
        summary.norm,
    )
    template = page_environment().get_template("report.html.j2")
    return template.render(
        **headline.top(summary, verdict),
        summary=summary,
        title=summary.model_name,
        triptychs=triptychs(run, worst, summary.class_names, summary.norm),
        has_browser=has_browser,
        created=wording.date_time(summary.manifest.created),
        sections=sections,
        style=Markup(style),  # noqa: S704  our own file
        tables_script=Markup(tables),  # noqa: S704  our own file
        export_script=Markup(export),  # noqa: S704  our own file
        browser_script=Markup(script),  # noqa: S704  our own file
        browser_data=_data(browser | {"folder": folder * has_files}) if has_browser else None,
        policy=_policy(style, [tables] + [export, script] * has_browser, beside=has_files),
    )


def _sections(page: PageData) -> list[tuple[Section, Markup]]:
    """Every section with its rendered body: ours in order, then those of plug-ins."""
    ours = [section for make in SECTIONS if (section := make(page)) is not None]
    anchors = [TOP, *(section.anchor for section in ours)]
    return [*((s, render_section(s)) for s in ours), *plugin_sections(page, anchors)]


def _data(value: object) -> Markup:
    """JSON that cannot end the script element around it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  no character of markup is left in it


def _policy(style: str, scripts: list[str], *, beside: bool) -> str:
    """The content security policy: pictures in the file, our style, our scripts, and nothing else.

    Frames are allowed only if there are files `beside` the page. "file:" is listed besides 'self',
    since not every browser counts the files beside a page opened from disk as its own.
    """
    rules = ["default-src 'none'", "img-src data:", f"style-src {csp_hash(style)}"]
    rules += [f"script-src {' '.join(map(csp_hash, scripts))}"]
    rules += ["frame-src 'self' file:"] * beside
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


_SEND_PICTURES = (
    'parent.postMessage(JSON.parse(document.getElementById("pictures").textContent), "*");'
)


class _PictureFolder:
    """The folder of picture files beside a page, made when first needed; names follow from the content."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._names = folder, set[str]()

    def write(self, pictures: dict[int, str]) -> str:
        """Write a page that sends these pictures to the report that frames it; return its name."""
        policy = f"default-src 'none'; script-src {csp_hash(_SEND_PICTURES)}"
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            "<title>Pictures of a robustness report</title></head><body>"
            f'<script type="application/json" id="pictures">{_data(pictures)}</script>'
            f"<script>{_SEND_PICTURES}</script></body></html>\n"
        )
        name = f"pictures-{hashlib.sha256(page.encode()).hexdigest()[:16]}.html"
        own_folder(self._folder)
        write_file(self._folder / name, page)
        self._names.add(name)
        return name

    def remove_old(self) -> None:
        """Remove the files of an earlier page."""
        if not self._folder.is_dir() or self._folder.is_symlink():
            return
        for old in self._folder.glob("pictures-*.html"):
            if old.name not in self._names:
                old.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()
