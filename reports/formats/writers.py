"""Writes every kind of report but the page; all show the same `Summary` and `Verdict`.

Each writer takes the run folder and the path of the file (by default a file in the run folder), and
returns that path. It raises RunError if the folder is not a run.
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


def _write_text(
    run: str | Path, path: Where, name: str, make: Callable[[Summary, Verdict], str]
) -> Path:
    def text(opened: ReadableRun) -> str:
        summary = summarise(opened)
        return make(summary, verdict_of(summary))

    return _write(run, path, name, text)


def _write(
    run: str | Path, path: Where, name: str, make: Callable[[ReadableRun], str | bytes]
) -> Path:
    with Run.open(run) as opened:
        content = make(opened)
    return write_file(report_path(run, path, name), content)


def write_json(run: str | Path, path: Where = None) -> Path:
    """Write report.json, following the schema that `robustness.reports.formats.report_json` publishes."""
    return _write_text(run, path, "report.json", report_json.dumps)


def write_csv(run: str | Path, path: Where = None) -> Path:
    """Write outcomes.csv: a row for each image x attack x epsilon."""
    return _write(run, path, "outcomes.csv", outcome_table.to_csv)


def write_parquet(run: str | Path, path: Where = None) -> Path:
    """Write outcomes.parquet: the same table as outcomes.csv."""
    return _write(run, path, "outcomes.parquet", outcome_table.to_parquet)


def write_markdown(run: str | Path, path: Where = None) -> Path:
    """Write summary.md, for a pull request or the summary of a workflow step."""
    return _write_text(run, path, "summary.md", markdown.markdown)


def write_junit(run: str | Path, path: Where = None) -> Path:
    """Write junit.xml, for the test reports of a pipeline."""
    return _write_text(run, path, "junit.xml", junit.junit)


def write_sarif(run: str | Path, path: Where = None) -> Path:
    """Write report.sarif, for code scanning."""
    return _write_text(run, path, "report.sarif", sarif.sarif)


def write_github(run: str | Path, path: Where = None) -> Path:
    """Write annotations.txt, to be printed in a step of a GitHub workflow."""
    return _write_text(run, path, "annotations.txt", github.workflow_annotations)


def write_pdf(run: str | Path, path: Where = None) -> Path:
    """Write report.pdf, the page as a browser prints it.

    Raises
    ------
    SettingError
        If no Chromium is installed, or it fails.
    """
    pdf.browser()
    with tempfile.TemporaryDirectory(prefix="robustness-page-") as folder:
        content = pdf.print_page(write_html(run, Path(folder) / "report.html"))
    return write_file(report_path(run, path, "report.pdf"), content)
