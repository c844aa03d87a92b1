"""`robustness verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from robustness.claims import Fault
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
        typer.echo(json.dumps(found.to_dict()))
    else:
        console = stdout()
        if found.faults:
            for part in _listed(found):
                console.print(part)
            if len(found.faults) > SHOWN:
                console.print(f"and {len(found.faults) - SHOWN} more; --json names all of them.")
            console.print()
        console.print(found.sentence, markup=False, soft_wrap=True)
    raise typer.Exit(found.exit_code)


def _listed(found: Verification) -> Iterator[Text | Table]:
    """What is wrong, outcome by outcome: a line that says which, then what and how."""
    from rich.table import Table
    from rich.text import Text

    from reports.words import shorten

    def outcome(fault: Fault) -> tuple[str, str, str]:
        epsilon = "" if fault.epsilon is None else f"epsilon {fault.epsilon:g}"
        return shorten(fault.name), shorten(fault.attack), epsilon

    for where, faults in groupby(found.faults[:SHOWN], outcome):
        yield Text(", ".join(filter(None, where)) or "the run", style="bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=12)
        table.add_column(overflow="fold")
        for fault in faults:
            table.add_row(Text(f"  {fault.what}"), Text(shorten(fault.sentence, 400)))
        yield table
