"""The command `robustness verify`: recomputes a run from its pictures and the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.cli.child_process import RAY_ENDED, continue_in_child
from robustness.cli.options import (
    AsJson,
    Imports,
    Preprocess,
    RunArchitecture,
    RunFolder,
    RunModel,
    TrustModel,
)

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from robustness.verification.rows import Inconsistency

SHOWN, LINES = 20, 6
"""The most images that are listed, and the most lines for each."""


def verify(
    run: RunFolder,
    model: RunModel = None,
    architecture: RunArchitecture = None,
    imports: Imports = None,
    preprocess: Preprocess = None,
    trust_model: TrustModel = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Let workers evaluate the pictures, with the same result: local:N for N processes on this "
            "machine, auto or HOST:PORT for a Ray cluster; with ,cpus=2 or ,gpus=1 for a worker and "
            ",workers=8 for the most of them. That of the run is not used.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every flip, distance, budget and hash of a run from its pictures and the model.

    Exit code 0: everything is as recorded; 1: something differs; 4: the picture of no flip was kept; 5:
    there is nothing to verify.

    \b
    Examples:
      robustness verify audit-run-20261123-101500
      robustness verify audit-run --model model.keras
      robustness verify audit-run --cluster local:4
    """
    from robustness.cli import recorded_files
    from robustness.cli.terminal import insisting, stderr, stdout, wake_backend
    from robustness.configuration.cluster_option import Cluster
    from robustness.runs.store import Run

    place = Cluster.of(cluster)
    if place is not None:
        continue_in_child(lambda: f"{RAY_ENDED}. Nothing was found out: repeat the command.")
    with insisting(), Run.open(run) as opened:
        manifest = opened.manifest
        given = {"model": model, "architecture": architecture, "imports": imports}
        given |= {"preprocess": preprocess}
        options = recorded_files.options_of(
            manifest.origin, run, given, trust=trust_model, roles=("model", "architecture")
        ) or {key: value for key, value in given.items() if value}
        stderr().print("Loading the model ...", markup=False)
        wake_backend()
        from robustness.auditing.recorded_model import RecordedModel
        from robustness.auditing.verify import verified

        result = verified(
            opened,
            RecordedModel(options, model, trust_model),
            preprocess=options.get("preprocess"),
            cluster=place,
        )
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        from rich.text import Text

        from robustness.cli.tables import print_table

        console = stdout()
        if result.faults:
            images = by_image(result.faults)
            for part in _listed(list(images.values())[:SHOWN]):
                if isinstance(part, Text):
                    console.print(part, soft_wrap=True)
                else:
                    print_table(console, part)
            if len(images) > SHOWN:
                console.print(f"and {len(images) - SHOWN} more images; --json lists all of them.")
            console.print()
        console.print(result.sentence, markup=False, soft_wrap=True)
        if result.evaluated:
            console.print(result.evaluated, markup=False, soft_wrap=True)
    raise typer.Exit(result.exit_code)


def by_image(faults: Iterable[Inconsistency]) -> dict[str, list[list[Inconsistency]]]:
    """Return the faults of each image, by its key; equal faults of several outcomes are one group.

    An image is often the flip of several attacks and budgets. Listed for each of them, one damaged file
    would fill the screen and hide the others.
    """
    images: dict[str, dict[tuple[str, str], list[Inconsistency]]] = {}
    for fault in faults:
        groups = images.setdefault(fault.image, {})
        groups.setdefault((fault.what, fault.sentence), []).append(fault)
    return {image: list(groups.values()) for image, groups in images.items()}


def _listed(images: Iterable[list[list[Inconsistency]]]) -> Iterator[Text | Table]:
    """Yield the faults image by image: the name, then the kind, sentence and outcome of each fault."""
    from rich.table import Table
    from rich.text import Text

    from robustness.text import shorten

    for groups in images:
        yield Text(shorten(groups[0][0].name) or "the run", style="bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=12)
        table.add_column(overflow="fold")
        for group in groups[:LINES]:
            sentence = shorten(group[0].sentence, 400)
            table.add_row(Text(f"  {group[0].what}"), Text(f"{sentence}{_where(group)}"))
        yield table
        if len(groups) > LINES:
            yield Text(f"  and {len(groups) - LINES} more for this image")


def _where(group: list[Inconsistency]) -> str:
    from robustness.text import shorten

    fault = group[0]
    if len(group) > 1:
        return f" (in {len(group)} outcomes)"
    return (
        "" if fault.epsilon is None else f" ({shorten(fault.attack)}, epsilon {fault.epsilon:.12g})"
    )
