"""The report as one HTML file: no request, openable from a folder.

Text of users and models reaches the page only through Jinja's autoescape or, in the case browser, as
text nodes, every hidden character of it shown by `words.visible`; pictures only as data URIs. The one
style sheet and the scripts are known to the page's content security policy by their hashes.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from robustness.files.writing import own_folder
from robustness.reports import wording
from robustness.reports.files import replace, target_of
from robustness.reports.gate.verdict import verdict_of
from robustness.reports.page import charts, details, headline, sections
from robustness.reports.page.case_browser import Spill, gallery
from robustness.reports.page.case_panels import exhibit
from robustness.reports.page.explanations import explained
from robustness.reports.page.templating import environment, hashed, ours
from robustness.reports.summary.summary import summarise
from robustness.reports.summary.tables import ReadableRun
from robustness.runs.store import Run

NAME = "report.html"
MOST_FATES = 200
"""Most images in the table of the worst case."""
FILES = ".files"
"""Ending of the folder beside a page for the pictures that do not fit into it."""


def write_html(run: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of the run folder `run`; into it as report.html, or to `path`. Where it is.

    Where the pictures of all cases would make the page larger than some 20 MB they go into a folder
    beside it, which has to travel with the page. Reads the run only, so it can be written again at
    any time. RunError if it is no run.
    """
    target = target_of(run, path, NAME)
    folder = target.with_name(target.stem + FILES)
    with Run.open(run) as opened:
        beside = _Beside(folder)
        page = render(opened, beside.keep, folder.name)
    replace(target, page)
    beside.tidy()
    return target


def render(run: ReadableRun, spill: Spill | None = None, folder: str = "") -> str:
    """The whole page of a run; pictures that do not fit go to `spill`, into `folder` beside it."""
    summary = summarise(run)
    exhibits = [exhibit(run, case, summary.class_names) for case in summary.cases]
    shown = gallery(run, summary, spill)
    style, tables, script = ours("report.css"), ours("tables.js"), ours("browser.js")
    has_cases = bool(shown["cases"])
    ruling = headline.verdict(summary, verdict_of(summary))
    template = _environment().get_template("report.html.j2")
    return template.render(
        s=summary,
        style=Markup(style),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        tables=Markup(tables),  # noqa: S704  our own file
        gallery=_data(shown | {"folder": folder if shown["files"] else ""}) if has_cases else None,
        policy=_policy(style, [tables] + [script] * has_cases, beside=bool(shown["files"])),
        exhibits=exhibits,
        verdict=ruling,
        findings=sections.found(summary),
        figures=headline.figures(summary, ruling["tally"]),
        basis=headline.basis(summary),
        parts=headline.parts(ruling["tally"], reached=ruling["reached"]),
        clean=sections.clean(summary),
        curve=sections.curve(summary),
        medians=sections.medians(summary),
        convergence=sections.convergence(summary),
        settled=sections.spared(summary),
        baselines=sections.baselines(summary),
        images=sections.images(summary),
        by_class=sections.classes(summary),
        fates=sections.fates(summary),
        most_fates=MOST_FATES,
        matrix=sections.matrix(summary.pairs, summary.class_names),
        rows=sections.rate_rows(summary),
        confidences=sections.confidences(summary),
        deltas=sections.deltas(exhibits),
        cards=details.cards(summary),
        checks=details.checks(summary),
        limits=details.limits(summary),
        command=summary.manifest.command,
        title=details.title(summary),
        created=details.moment(summary.manifest.created),
    )


@cache
def _environment() -> Environment:
    return environment(
        percent=lambda share: wording.together(wording.percent(share)),
        percents=lambda low, high: wording.together(wording.percents(low, high)),
        signed=wording.signed,
        together=wording.together,
        interval=charts.interval,
        acts_as=lambda epsilon, norm: wording.acts_as(norm, epsilon),
        explained=explained,
        visible=wording.visible,
        fate=lambda status: wording.FATES.get(status, status),
        coded=_coded,
    )


def _coded(text: str) -> Markup:
    """Our own prose, what stands in backticks as code."""
    parts = text.split("`")
    marks = [
        Markup("<code>{}</code>") if place % 2 else Markup("{}") for place in range(len(parts))
    ]
    return Markup("").join(mark.format(part) for mark, part in zip(marks, parts, strict=True))


def _data(value: Any) -> Markup:
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
    rules = ["default-src 'none'", "img-src data:", f"style-src {hashed(style)}"]
    rules += [f"script-src {' '.join(map(hashed, scripts))}"]
    rules += ["frame-src 'self' file:"] * beside
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


_HAND_OVER = 'parent.postMessage(JSON.parse(document.getElementById("pictures").textContent), "*");'


class _Beside:
    """The folder of picture files beside a page, named by their content; made when first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._kept = folder, set[str]()

    def keep(self, pictures: dict[int, str]) -> str:
        """Write a page that hands these pictures over when it is framed; its name."""
        policy = f"default-src 'none'; script-src {hashed(_HAND_OVER)}"
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            "<title>Pictures of a robustness report</title></head><body>"
            f'<script type="application/json" id="pictures">{_data(pictures)}</script>'
            f"<script>{_HAND_OVER}</script></body></html>\n"
        )
        name = f"pictures-{hashlib.sha256(page.encode()).hexdigest()[:16]}.html"
        own_folder(self._folder)
        replace(self._folder / name, page)
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
