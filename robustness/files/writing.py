"""Writing so that nothing planted in a folder is followed or half a file is seen.

The draft has a name nobody can guess, is made anew (never opened where something stands), in the folder of
the file it becomes, and takes its place in one step: what stood there, a link too, is replaced, not
written through.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from robustness.errors import RunError
from robustness.files.open_folder import Place, held, kind, parts_of, within


def replace(target: Path, data: bytes) -> Path:
    """Write a file so that a reader sees the old one or the whole new one.

    Parameters
    ----------
    target: where; its folder is made if it is missing. A link of that name is replaced.
    data: what.

    Returns
    -------
    `target`.

    Raises
    ------
    RunError: a folder stands there.
    OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(target.parent) as place:
        _put(place, target.name, data)
    return target


def replace_within(folder: Path, name: str, data: bytes) -> None:
    """Write a file of a run: `name`, with slashes, below `folder`; no part of it may be a link.

    Raises
    ------
    RunError: a part is a link or no folder.
    OSError: the file cannot be written.
    """
    *folders, last = parts_of(name)
    with within(folder, folders, make=True) as place:
        _put(place, last, data)


def own_folder(folder: Path) -> None:
    """Make a folder, unless there is one; RunError if a link or a file stands there."""
    with within(folder.parent, [folder.name], make=True):
        pass


def _put(place: Place, name: str, data: bytes) -> None:
    found = place.status(name)
    if found is not None and kind(found) == "a folder":
        raise RunError(
            f"{place.path / name} is a folder; expected a place for a file. Name another."
        )
    draft = f".{secrets.token_hex(16)}.part"
    descriptor = place.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        place.rename(draft, name)
    except BaseException:
        place.remove(draft)
        raise
