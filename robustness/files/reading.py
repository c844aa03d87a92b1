"""Reads files of untrusted run folders: only regular files of bounded size, and none through a link.

A run can be received from anybody. A link in it could expose files of the user who reads it, reading a pipe
could block forever, and a sparse file could fill the memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from robustness.errors import RunError
from robustness.files.bounded import read_bytes_bounded
from robustness.files.open_folder import Place, held, kind, parts_of, within

MOST_JSON = 64 << 20
"""The largest size of a `run.json` or `report.json` in bytes: a hundred times the largest known one."""
MOST_PICTURE = 128 << 20
"""The largest size of one picture of a run in bytes."""


def read_named(path: Path, most: int) -> bytes:
    """Read a file that the user named, as `read_bytes_bounded` does.

    Raises
    ------
    RunError
        The file is missing, not a regular file, or larger than `most` bytes.
    """
    try:
        return read_bytes_bounded(path, most)
    except (OSError, ValueError) as problem:
        why = reason(problem) if isinstance(problem, OSError) else str(problem)
        raise RunError(
            f"{path} cannot be read: {why}; expected a regular file of at most {most:,} bytes."
        ) from None


def read_within(folder: Path, name: str, most: int) -> bytes:
    """Read a file of a run.

    Parameters
    ----------
    folder : Path
        The run folder.
    name : str
        The name of the file in the folder, with slashes, as the run records it.
    most : int
        The largest size in bytes.

    Returns
    -------
    bytes
        The whole file.

    Raises
    ------
    RunError
        The file is missing, behind a link, not a regular file, or larger than `most` bytes.
    """
    *folders, last = parts_of(name)
    try:
        with within(folder, folders) as place:
            return read_in(place, last, most)
    except OSError as problem:
        raise RunError(
            f"{folder / name} is missing or cannot be read ({reason(problem)}); expected a file of this "
            "run."
        ) from None


def expect_file(folder: Path, name: str, most: int, *, optional: bool = False) -> int:
    """Check a file of a run that other code opens afterwards, and return its size in bytes.

    Parameters
    ----------
    folder : Path
        The run folder.
    name : str
        The name of the file in the folder.
    most : int
        The largest size in bytes.
    optional : bool
        Whether the file may be missing; its size is 0 then.

    Raises
    ------
    RunError
        The file is missing and not optional, not a regular file, or larger than `most` bytes.
    """
    with held(folder) as place:
        found = place.status(name)
    if found is None:
        if optional:
            return 0
        raise RunError(f"{folder / name} is missing; expected a file of this run.")
    _expect_regular(folder, name, found, most)
    return found.st_size


def read_in(place: Place, name: str, most: int) -> bytes:
    """Read a file of an open folder of a run; RunError unless it is regular and has at most `most` bytes."""
    before = place.status(name)
    if before is not None:
        # Opening a device may trigger an action, so its type is checked first.
        _expect_regular(place.path, name, before, most)
    descriptor = place.open(name)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _expect_regular(place.path, name, status, most)
        # As many bytes as are asked for are allocated.
        data = file.read(status.st_size + 1)
        if len(data) > status.st_size:  # it has grown
            data += file.read(most - status.st_size)
    if len(data) > most:
        raise _too_large(place.path / name, len(data), most)
    return data


def _expect_regular(folder: Path, name: str, status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RunError(
            f"{folder / name} is {kind(status)}; expected a regular file. It is not opened: the run may be "
            "tampered with."
        )
    if status.st_size > most:
        raise _too_large(folder / name, status.st_size, most)


def _too_large(path: Path, size: int, most: int) -> RunError:
    return RunError(
        f"{path} has {size:,} bytes; expected at most {most:,}. It is not read: the toolkit writes none "
        "that large."
    )


def reason(problem: OSError) -> str:
    """Return the system's message about why a file could not be opened."""
    return problem.strerror or str(problem)
