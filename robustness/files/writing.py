"""Writes files atomically: follows no link in the folder, and never leaves a partial file under the name.

The data goes to a new draft file with an unguessable name, in the folder of the target. The draft is never an
existing file. It is then renamed to the target in one step: an existing target, also a link, is replaced, not
written through.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from robustness.errors import RunError
from robustness.files.open_folder import Place, held, kind, parts_of, within


def replace(target: Path, data: bytes) -> Path:
    """Write a file so that a reader sees either the old file or the whole new one.

    Parameters
    ----------
    target : Path
        The file; its folder is made if it is missing. A link of that name is replaced.
    data : bytes
        The new content.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    RunError
        `target` is a folder.
    OSError
        The file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(target.parent) as place:
        _put(place, target.name, data)
    return target


def replace_within(folder: Path, name: str, data: bytes) -> None:
    """Write a file of a run: `name`, with slashes, below `folder`; no folder in it may be a link.

    Raises
    ------
    RunError
        A folder in `name` is a link or not a folder, or the target is a folder.
    OSError
        The file cannot be written.
    """
    *folders, last = parts_of(name)
    with within(folder, folders, make=True) as place:
        _put(place, last, data)


def own_folder(folder: Path) -> None:
    """Make a folder, unless it exists; RunError if a link or a file has that name."""
    with within(folder.parent, [folder.name], make=True):
        pass


def _put(place: Place, name: str, data: bytes) -> None:
    found = place.status(name)
    if found is not None and kind(found) == "a folder":
        raise RunError(
            f"{place.path / name} is a folder; expected a place for a file. Name another."
        )
    draft = f".{secrets.token_hex(16)}.part"
    with _named(place.path / name):
        descriptor = place.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            place.rename(draft, name)
        except BaseException:
            place.remove(draft)
            raise


@contextlib.contextmanager
def _named(target: Path) -> Iterator[None]:
    """Name `target` in errors, not the draft that is written in its place."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
