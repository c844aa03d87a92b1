"""The command `robustness init`: writes a commented audit.toml, or prints its JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robustness.configuration.schema import json_schema
from robustness.configuration.template import init_text
from robustness.errors import SettingError
from robustness.files import disk_errors, writing

NAME = "audit.toml"


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path(NAME),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON schema of audit.toml, and write no file."),
    ] = False,
) -> None:
    """Write a commented audit.toml with every option of an audit.

    \b
    Examples:
      robustness init
      robustness init ci/audit.toml
      robustness audit --config audit.toml
    """
    if schema:
        typer.echo(json.dumps(json_schema(), indent=2))
        return
    disk_errors.expect_place(path)
    if path.exists() and not force:
        raise SettingError(f"{path} exists already; expected a new file. --force replaces it.")
    writing.replace(path, init_text().encode())
    typer.echo(f"{path}: edit it, then run robustness audit --config {path}")
