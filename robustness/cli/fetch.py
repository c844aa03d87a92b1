"""`robustness fetch`."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    source: Annotated[
        str,
        typer.Argument(help="kaggle:OWNER/NOTEBOOK, kaggle-model:OWNER/MODEL/FRAMEWORK/VARIATION/VERSION or kaggle-competition:NAME."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Again, even if it is there already.")] = False,
) -> None:
    """Download a model or data from Kaggle into the cache, and print where it is.

    \b
    Examples:
      robustness fetch kaggle:uysimty/keras-cnn-dog-or-cat-classification
      robustness fetch kaggle-competition:dogs-vs-cats
    """
    from model_zoo import fetch as get

    typer.echo(get(source, force=force))
