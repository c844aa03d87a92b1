"""Reports: a run folder in, a file out. Nothing here imports TensorFlow or Keras.

`write_html` writes the page, `summarise` gives its numbers as data. Whoever writes a kind of report
(entry point group `robustness.reports`) needs `Run`, `summarise`, `verdict_of`, `findings` and
`write_file`; whoever writes a section of the page (group `robustness.report_sections`) needs `PageData` and
`Section`. `docs/reports.md` shows both.

This package imports neither attacks nor models; the packages below it are:

- `summary`: the numbers of a report, from the run's tables
- `gate`: the rules of the gate, and the verdict
- `page`: the HTML page
- `formats`: JSON, CSV, Parquet, Markdown, JUnit, SARIF, GitHub annotations and PDF
- `comparison`: two runs, image by image
- `article`: the page of `robustness article`
- `solver_plots`: plots of `robustness solve`
"""

from robustness.numerics.intervals import Share
from robustness.reports.files import report_path, write_file
from robustness.reports.gate.verdict import Verdict, verdict_of
from robustness.reports.page.html import write_html
from robustness.reports.page.section import PageData, Section
from robustness.reports.summary.findings import Finding, findings
from robustness.reports.summary.summary import Summary, summarise
from robustness.runs.store import Run

__all__ = [
    "Finding",
    "PageData",
    "Run",
    "Section",
    "Share",
    "Summary",
    "Verdict",
    "findings",
    "report_path",
    "summarise",
    "verdict_of",
    "write_file",
    "write_html",
]
