"""Every kind of report but the page: the same `Summary` and `Verdict`, written for others to read.

Each writer takes the run's folder and where to write; without that, into the run. It returns the
file. RunError if the folder is no run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from robustness.reports.files import report_path, write_file
from robustness.reports.formats import (
    github,
    junit,
    markdown,
    outcome_table,
    pdf,
    report_json,
    sarif,
)
from robustness.reports.gate.verdict import Verdict, verdict_of
from robustness.reports.page.html import write_html
from robustness.reports.summary.summary import Summary, summarise
from robustness.reports.summary.tables import ReadableRun
from robustness.runs.store import Run

Where = str | Path | None


def _told(run: str | Path, path: Where, name: str, tell: Callable[[Summary, Verdict], str]) -> Path:
    def text(opened: ReadableRun) -> str:
        summary = summarise(opened)
        return tell(summary, verdict_of(summary))

    return _written(run, path, name, text)


def _written(
    run: str | Path, path: Where, name: str, make: Callable[[ReadableRun], str | bytes]
) -> Path:
    with Run.open(run) as opened:
        content = make(opened)
    return write_file(report_path(run, path, name), content)


def write_json(run: str | Path, path: Where = None) -> Path:
    """report.json, to the schema that `robustness.reports.formats.report_json` publishes."""
    return _told(run, path, "report.json", report_json.dumps)


def write_csv(run: str | Path, path: Where = None) -> Path:
    """outcomes.csv: a row for each image x attack x epsilon."""
    return _written(run, path, "outcomes.csv", outcome_table.to_csv)


def write_parquet(run: str | Path, path: Where = None) -> Path:
    """outcomes.parquet: the same table."""
    return _written(run, path, "outcomes.parquet", outcome_table.to_parquet)


def write_markdown(run: str | Path, path: Where = None) -> Path:
    """summary.md, for a pull request or a step's summary."""
    return _told(run, path, "summary.md", markdown.markdown)


def write_junit(run: str | Path, path: Where = None) -> Path:
    """junit.xml."""
    return _told(run, path, "junit.xml", junit.junit)


def write_sarif(run: str | Path, path: Where = None) -> Path:
    """report.sarif, for code scanning."""
    return _told(run, path, "report.sarif", sarif.sarif)


def write_github(run: str | Path, path: Where = None) -> Path:
    """annotations.txt, to be printed in a step of a GitHub workflow."""
    return _told(run, path, "annotations.txt", github.notes)


def write_pdf(run: str | Path, path: Where = None) -> Path:
    """report.pdf, the page as a browser prints it. SettingError without a Chromium."""
    pdf.browser()
    with tempfile.TemporaryDirectory(prefix="robustness-page-") as folder:
        content = pdf.print_page(write_html(run, Path(folder) / "report.html"))
    return write_file(report_path(run, path, "report.pdf"), content)
