"""The command `robustness fetch`: downloads a model or data from Kaggle into the cache."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robustness.model_zoo.downloads.download import Progress


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="kaggle:OWNER/NOTEBOOK, kaggle-model:OWNER/MODEL/FRAMEWORK/VARIATION/VERSION or "
            "kaggle-competition:NAME."
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Download again, even if the cache has it.")
    ] = False,
    max_mb: Annotated[
        int | None,
        typer.Option("--max-mb", help="Refuse a download larger than N megabytes.", min=1),
    ] = None,
) -> None:
    """Download a model or data from Kaggle into the cache, and print where it is.

    \b
    Examples:
      robustness fetch kaggle:uysimty/keras-cnn-dog-or-cat-classification
      robustness fetch kaggle-competition:dogs-vs-cats
    """
    from robustness.model_zoo import fetch as get

    limit = None if max_mb is None else max_mb * 1_000_000
    typer.echo(get(source, force=force, max_bytes=limit, progress=_Lines()))


class _Lines:
    """Prints every note, and the progress every 3 seconds, to standard error."""

    def __init__(self) -> None:
        self._printed = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.note:
            typer.echo(progress.note, err=True)
        if time.monotonic() - self._printed > 3:
            self._printed = time.monotonic()
            total = f" of {progress.total / 1e6:.1f}" if progress.total else ""
            typer.echo(f"{progress.done / 1e6:.1f}{total} MB", err=True)
