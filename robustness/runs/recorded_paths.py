"""Resolves the relative paths that a run has recorded, from any directory.

A run records the paths as they were typed, and the directory in which they were typed. A relative path is
searched in that directory first; then at the same place relative to the run folder, in case both were moved
together; then in the current directory, as for runs of older versions. Nothing is loaded here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robustness.files.joined import parts_of
from robustness.files.places import local_place
from robustness.files.remote.urls import is_remote
from robustness.models.suffixes import ARCHITECTURE_SUFFIXES, is_model_file_name
from robustness.runs.schema import Origin

_DRAWN = re.compile(r"pets(:\d+)?|[\w-]+:.*")
"""Matches what is not a path: rendered pictures, and sources such as `kaggle:`."""


def directory(folder: Path) -> dict[str, str]:
    """Return what a new run in `folder` records: the current directory and the run folder, both absolute."""
    return {"directory": str(Path.cwd()), "run": str(folder.absolute())}


def resolve_recorded(path: str, origin: Origin, folder: Path | None = None) -> str:
    """Resolve a path of a run's options.

    Parameters
    ----------
    path : str
        The path as it was typed when the run was started; or several, joined by `::`.
    origin : Origin
        The origin that the run records.
    folder : Path, optional
        The run folder as it lies now; None if only its report is available.

    Returns
    -------
    str
        The first candidate that exists; `path` unchanged if none does.
    """
    if len(parts := parts_of(path)) > 1 and local_place(Path(path)) is None:
        return "::".join(resolve_recorded(part, origin, folder) for part in parts)
    if not path or Path(path).is_absolute() or is_remote(path):
        return path
    before, was = origin.directory, origin.run
    places: list[Path] = []
    if before is not None:
        places.append(Path(before) / path)
        if was is not None and folder is not None:
            # Run and material were moved together.
            places.append(folder.absolute() / os.path.relpath(before, was) / path)
    for place in map(os.path.normpath, places):
        if _is_there(Path(place)):
            return place
    return path


def _is_there(path: Path) -> bool:
    """Whether a path leads to a file or folder, or is a range whose first file is there."""
    place = local_place(path)
    if place is None or place.is_file or place.is_folder:
        return place is not None
    first = next(iter(place.names()[0]), path.name)
    return (path.parent / first).exists()


def resolve_options(
    options: Mapping[str, Any], origin: Origin, folder: Path | None = None
) -> dict[str, Any]:
    """Resolve every path in the options of a run.

    Parameters
    ----------
    options : mapping
        The options as the run records them.
    origin, folder
        As for `resolve_recorded`.

    Returns
    -------
    dict
        The options with resolved paths. Names of models, rendered pictures and sources such as `kaggle:`
        are unchanged.
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
    if isinstance(made.get("imports"), list):
        made["imports"] = [_module(text, found) for text in made["imports"]]
    if isinstance(made.get("attack"), list):
        made["attack"] = [_attack(text, found) for text in made["attack"]]
    return made


def _module(text: Any, found: Callable[[str], str]) -> Any:
    """A file of Python code, or the name of a module in the directory of then, as the path of its file."""
    if not isinstance(text, str):
        return text
    file = text if text.endswith(".py") else f"{text}.py"
    place = found(file)
    return text if place == file else place


def _attack(text: Any, found: Any) -> Any:
    """The text of an attack, such as `universal:file=change.npz`, with its file resolved."""
    if not isinstance(text, str):
        return text
    name, colon, rest = text.partition(":")
    parts = [
        f"file={found(part.removeprefix('file='))}" if part.startswith("file=") else part
        for part in rest.split(",")
    ]
    return f"{name}{colon}{','.join(parts)}"
