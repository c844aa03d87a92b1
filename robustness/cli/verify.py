"""`robustness verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from robustness.verification import Verification

SHOWN = 50


def verify(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The model; the one the run names if not given."),
    ] = None,
    trust_model: Annotated[
        bool, typer.Option("--trust-model", help="Load a file that could run code.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The result as JSON, and nothing else there.")
    ] = False,
) -> None:
    """Recompute every flip, distance, budget and hash of a run from its pictures and the model.

    Leaves with 0 if all holds, 1 if something does not, 4 if no flip kept its picture, 5 if there
    is nothing to verify.

    \b
    Examples:
      robustness verify audit-run-20261123-101500
      robustness verify audit-run --model model.keras
    """
    from robustness.cli.terminal import stderr, stdout, wake_backend
    from robustness.store import Run

    with Run.open(run) as opened:
        manifest = opened.manifest
        stderr().print("Loading the model ...", markup=False)
        wake_backend()
        from robustness.cli.target import model_of
        from robustness.verification import verify as recompute

        found = recompute(opened, model_of(manifest, model, trust_model))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        console = stdout()
        if found.faults:
            console.print(_table(found))
            if len(found.faults) > SHOWN:
                console.print(f"and {len(found.faults) - SHOWN} more; --json names all of them.")
            console.print()
        console.print(found.sentence, markup=False, soft_wrap=True)
    raise typer.Exit(found.exit_code)


def _table(found: Verification) -> Table:
    from rich.table import Table
    from rich.text import Text

    from reports.words import shorten

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("image", "attack", "epsilon", "what", "how"):
        table.add_column(title, overflow="fold")
    for fault in found.faults[:SHOWN]:
        epsilon = "" if fault.epsilon is None else f"{fault.epsilon:g}"
        row = (shorten(fault.name), shorten(fault.attack), epsilon, fault.what)
        table.add_row(*map(Text, row), Text(shorten(fault.sentence, 400)))
    return table
