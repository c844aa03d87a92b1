"""The command `robustness report`: writes a report of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.cli.options import RunFolder
from robustness.errors import RobustnessError
from robustness.runs.progress import Listener, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustness.runs.result import AuditResult


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

    typer.echo(plugins.writer(kind)(run, out))


def written(
    result: AuditResult, kinds: Sequence[str], progress: Listener = lambda _: None
) -> tuple[list[Path], list[RobustnessError | OSError]]:
    """Write reports of these kinds; one that fails does not stop the others.

    Parameters
    ----------
    result : the finished run.
    kinds : the kinds of reports.
    progress : called with the number of reports that were written.

    Returns
    -------
    pages : paths of the written reports.
    failed : errors of the others.
    """
    pages: list[Path] = []
    failed: list[RobustnessError | OSError] = []
    for place, kind in enumerate(kinds):
        progress(Progress("reports", place, len(kinds), part=kind))
        try:
            pages.append(result.report(kind=kind))
        except (RobustnessError, OSError) as error:
            failed.append(error)
    progress(Progress("reports", len(kinds), len(kinds)))
    return pages, failed


def fail(errors: list[RobustnessError | OSError]) -> None:
    """Raise the last of these errors, if there are any; print the others before."""
    from robustness.cli.terminal import stderr
    from robustness.files.disk_errors import sentence

    for error in errors[:-1]:
        said = sentence(error) if isinstance(error, OSError) else error
        stderr().print(f"error: {said}", markup=False, highlight=False, soft_wrap=True)
    if errors:
        raise errors[-1]
