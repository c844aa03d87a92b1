"""Paths that a run has written down, found again from any directory.

A run writes down what was typed, and the directory it was typed in. A relative path is looked for there
first; then where it lies if run and material were moved together; then in the current directory, as for
runs that an older version wrote. Nothing is loaded here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustness.models.suffixes import ARCHITECTURE_SUFFIXES, is_model_file_name
from robustness.runs.schema import Origin

_DRAWN = re.compile(r"pets(:\d+)?|[\w-]+:.*")
"""Rendered pictures, and sources such as kaggle:."""


def directory(folder: Path) -> dict[str, str]:
    """What is written down when a run in `folder` begins: where relative paths are looked for."""
    return {"directory": str(Path.cwd()), "run": str(folder.absolute())}


def resolve_recorded(path: str, origin: Origin, folder: Path | None = None) -> str:
    """Return where a path of a run's options lies now; `path` as it is if it lies nowhere.

    Parameters
    ----------
    path : str
        As it was typed when the run began.
    origin : Origin
        The run's.
    folder : Path, optional
        Where the run is now; None if only its report is there.

    Returns
    -------
    str
        The first of the places where the path may lie that exists.
    """
    if not path or Path(path).is_absolute():
        return path
    before, was = origin.directory, origin.run
    places: list[Path] = []
    if before is not None:
        places.append(Path(before) / path)
        if was is not None and folder is not None:
            # Run and material were moved together.
            places.append(folder.absolute() / os.path.relpath(before, was) / path)
    for place in map(os.path.normpath, places):
        if os.path.exists(place):  # noqa: PTH110 - of a path that is too long it says False
            return place
    return path


def resolve_options(
    options: Mapping[str, Any], origin: Origin, folder: Path | None = None
) -> dict[str, Any]:
    """The options of a run, with every path in them where it lies now.

    Names of models, rendered pictures and sources such as `kaggle:` stay as they are.
    """

    def found(path: str) -> str:
        return resolve_recorded(path, origin, folder)

    made = dict(options)
    for name in ("model", "surrogate"):
        if isinstance(made.get(name), str) and is_model_file_name(made[name]):
            made[name] = found(made[name])
    architecture = made.get("architecture")
    if isinstance(architecture, str) and architecture.lower().endswith(ARCHITECTURE_SUFFIXES):
        made["architecture"] = found(architecture)
    if isinstance(made.get("images"), str) and not _DRAWN.fullmatch(made["images"]):
        made["images"] = found(made["images"])
    if isinstance(made.get("mask"), str):
        made["mask"] = found(made["mask"])
    if isinstance(made.get("attack"), list):
        made["attack"] = [_attack(text, found) for text in made["attack"]]
    return made


def _attack(text: Any, found: Any) -> Any:
    """An attack as it was typed, `universal:file=change.npz`, its file where it lies now."""
    if not isinstance(text, str):
        return text
    name, colon, rest = text.partition(":")
    parts = [
        f"file={found(part.removeprefix('file='))}" if part.startswith("file=") else part
        for part in rest.split(",")
    ]
    return f"{name}{colon}{','.join(parts)}"
