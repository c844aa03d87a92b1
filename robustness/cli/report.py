"""`robustness report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustness.cli.options import RunFolder


def report(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write; in the run folder if not given."),
    ] = None,
    kind: Annotated[str, typer.Option(help="The kind of report; an installed name.")] = "html",
) -> None:
    """Write a report of a finished run again. Needs no TensorFlow.

    \b
    Examples:
      robustness report audit-run-20261123-101500
      robustness report audit-run-20261123-101500 --out report.html
    """
    from robustness import plugins
    from robustness.files import disk_errors

    if out is not None:
        disk_errors.expect_place(out)
    typer.echo(plugins.writer(kind)(run, out))
