"""The command `robustness merge`: makes one run of the runs of shards."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustness.cli.options import (
    AsJson,
    Imports,
    Preprocess,
    Quiet,
    RunArchitecture,
    RunAttacks,
    RunImages,
    RunMask,
    RunModel,
    RunSurrogate,
    TrustModel,
)
from robustness.errors import INCONCLUSIVE, RunUsageError

if TYPE_CHECKING:
    from robustness.runs.schema import Manifest


def merge(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="The run folders of the shards, in any order."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the merged run.")],
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Merge although shards are missing or unfinished; `robustness audit --resume` computes the "
            "rest.",
        ),
    ] = False,
    model: RunModel = None,
    architecture: RunArchitecture = None,
    images: RunImages = None,
    surrogate: RunSurrogate = None,
    mask: RunMask = None,
    attack: RunAttacks = None,
    imports: Imports = None,
    preprocess: Preprocess = None,
    trust_model: TrustModel = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make one run of the runs of shards (`robustness audit --shard`), as if the audit had not been divided.

    Outcomes and pictures are copied; medians, step pictures and diagnostics, which depend on all images, are
    computed with model and images, as by `robustness audit --resume`. Exit code: that of the audit; 4 for a
    run that is unfinished (--partial).

    \b
    Examples:
      robustness merge shard-0 shard-1 shard-2 --out merged
      robustness merge received/* --out merged --model model.keras --images photos/
    """
    from robustness.cli import audit, recorded_files
    from robustness.cli.terminal import Display, insisting, stderr
    from robustness.configuration.recorded import from_recorded
    from robustness.runs.merging import merge_rows

    given: dict[str, Any] = {"model": model, "images": images, "surrogate": surrogate, "mask": mask}
    given |= {"attack": attack, "architecture": architecture, "imports": imports}
    given |= {"preprocess": preprocess}
    chosen: dict[str, Any] = {}

    def choose(manifest: Manifest) -> None:
        """Decide which files will be loaded before anything is copied."""
        chosen.update(recorded_files.options_of(manifest.origin, runs[0], given, trust=trust_model))
        if not chosen:
            raise RunUsageError(
                f"{runs[0]} was not started from the command line, so it does not record how to load its "
                "model and images. Merge it in Python: robustness.merge(runs, out, model, images, ...)."
            )

    command = shlex.join(["robustness", *sys.argv[1:]])
    with insisting(), Display(stderr(), quiet=quiet) as display:
        merged = merge_rows(
            runs,
            out,
            partial=partial,
            command=command,
            progress=display,
            expect=(lambda _: None) if partial else choose,
        )
    if not merged.whole:
        stderr().print(merged.sentence, markup=False, soft_wrap=True)
        typer.echo(f"run: {out}")
        raise typer.Exit(INCONCLUSIVE)
    if partial:
        from robustness.runs.store import Run

        with Run.open(out) as run:
            choose(run.manifest)
    verdict = audit.perform(
        from_recorded(chosen), out, audit.Output(as_json, quiet), resume=True, command=command
    )
    raise typer.Exit(verdict.exit_code)
