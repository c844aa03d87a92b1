"""`robustness report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to; into the run if not given.")
    ] = None,
    kind: Annotated[str, typer.Option(help="An installed kind of report.")] = "html",
) -> None:
    """Write a run's report again, from what the run kept. Needs no TensorFlow.

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
