"""`robustness verify`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from robustness.verification.rows import Inconsistency

SHOWN, LINES = 20, 6
"""Most images named, and most lines on each."""


def verify(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model; if not given the one the run names, where you started it here.",
        ),
    ] = None,
    trust_model: Annotated[
        bool,
        typer.Option("--trust-model", help="Load a file that could run code or take all memory."),
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
    from robustness.cli import named
    from robustness.cli.terminal import stderr, stdout, wake_backend
    from robustness.runs.store import Run

    with Run.open(run) as opened:
        manifest = opened.manifest
        options = named.options_of(
            manifest.origin, run, {"model": model}, trust=trust_model, roles=("model",)
        )
        stderr().print("Loading the model ...", markup=False)
        wake_backend()
        from robustness.cli.target import model_of
        from robustness.verification.verify import verify as recompute

        found = recompute(opened, model_of(manifest, options, model, trust_model))
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        console = stdout()
        if found.faults:
            images = by_image(found.faults)
            for part in _listed(list(images.values())[:SHOWN]):
                console.print(part)
            if len(images) > SHOWN:
                console.print(f"and {len(images) - SHOWN} images more; --json names all of them.")
            console.print()
        console.print(found.sentence, markup=False, soft_wrap=True)
    raise typer.Exit(found.exit_code)


def by_image(faults: Iterable[Inconsistency]) -> dict[str, list[list[Inconsistency]]]:
    """The faults of each image, by its key; those that say the same of several outcomes together.

    A picture is often the flip of several attacks and budgets. Told for each of them, one damaged
    file would fill the screen and hide the others.
    """
    found: dict[str, dict[tuple[str, str], list[Inconsistency]]] = {}
    for fault in faults:
        mine = found.setdefault(fault.image, {})
        mine.setdefault((fault.what, fault.sentence), []).append(fault)
    return {image: list(mine.values()) for image, mine in found.items()}


def _listed(images: Iterable[list[list[Inconsistency]]]) -> Iterator[Text | Table]:
    """What is wrong, image by image: its name, then what, how, and in which outcome."""
    from rich.table import Table
    from rich.text import Text

    from robustness.reports.wording import shorten

    for told in images:
        yield Text(shorten(told[0][0].name) or "the run", style="bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=12)
        table.add_column(overflow="fold")
        for alike in told[:LINES]:
            said = shorten(alike[0].sentence, 400)
            table.add_row(Text(f"  {alike[0].what}"), Text(f"{said}{_where(alike)}"))
        yield table
        if len(told) > LINES:
            yield Text(f"  and {len(told) - LINES} more of this image")


def _where(alike: list[Inconsistency]) -> str:
    from robustness.reports.wording import shorten

    one = alike[0]
    if len(alike) > 1:
        return f" (in {len(alike)} outcomes)"
    return f" ({shorten(one.attack)}, epsilon {one.epsilon:g})" if one.epsilon is not None else ""
