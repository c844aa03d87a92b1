"""`robustness rerun`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from robustness.bounded import parse_json, read_text_bounded
from robustness.errors import RunUsageError, SettingError


def rerun(
    run: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The new run folder. [default: rerun-DATE-TIME]"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the comparison as a page to this file.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Do an audit again with its own settings, in a new folder, and compare the two.

    Leaves with 1 if an image fares differently, else as the audit does.

    \b
    Examples:
      robustness rerun audit-run-20261123-101500
      robustness rerun report.json --out again
    """
    from robustness import recorded, storage
    from robustness.cli import audit, compare

    if html is not None:
        storage.expect_place(html)
    manifest = _manifest(run)
    options = manifest.get("origin", {}).get("options")
    if not options:
        raise SettingError(
            f"{run} was not started from the command line, so it does not say how to load its model "
            "and images. Repeat it in Python: robustness.audit(...)."
        )
    folder = out or Path(datetime.now().strftime("rerun-%Y%m%d-%H%M%S"))
    command = f"robustness rerun {run.name}"
    place = run if run.is_dir() else run.parent
    options = recorded.resolve_options(options, manifest, place)
    verdict = audit.perform(options, folder, quiet=quiet, command=command)
    from reports.comparison import compare as paired

    found = paired(run, folder)
    if html is not None:
        from reports.comparison_page import write_comparison

        write_comparison(found, html)
    compare.show(found)
    typer.echo(f"run: {folder}")
    raise typer.Exit(1 if found.differs else verdict.exit_code)


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder, or the one in a report."""
    if path.is_dir() or not path.exists():
        from robustness.store import Run

        with Run.open(path) as opened:
            return opened.manifest
    try:
        plain = parse_json(read_text_bounded(path))
        inner = plain.get("summary")
        return dict((inner if isinstance(inner, dict) else plain)["manifest"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunUsageError(
            f"{path} cannot be repeated ({error!r}); expected a run folder or its report.json."
        ) from None
