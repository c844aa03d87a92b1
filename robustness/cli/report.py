"""`robustness report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.errors import RobustnessError

if TYPE_CHECKING:
    from robustness.runs.result import AuditResult


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

    typer.echo(plugins.writer(kind)(run, out))


def written(
    result: AuditResult, kinds: list[str]
) -> tuple[list[Path], list[RobustnessError | OSError]]:
    """Where the reports of these kinds are, and what kept others from being written: none stops the next."""
    pages: list[Path] = []
    failed: list[RobustnessError | OSError] = []
    for kind in kinds:
        try:
            pages.append(result.report(kind=kind))
        except (RobustnessError, OSError) as error:
            failed.append(error)
    return pages, failed


def fail(errors: list[RobustnessError | OSError]) -> None:
    """Raise the last of these errors, if there are any, the others told before it."""
    from robustness.cli.terminal import stderr
    from robustness.files.disk_errors import sentence

    for error in errors[:-1]:
        said = sentence(error) if isinstance(error, OSError) else error
        stderr().print(f"error: {said}", markup=False, highlight=False, soft_wrap=True)
    if errors:
        raise errors[-1]
