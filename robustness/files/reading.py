"""Reading what came from somewhere else: regular files of bounded size, and nothing through a link.

A run can be received from anybody. A link in it would show files of whoever reads it, a pipe would wait
for ever, a sparse file would fill the memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from robustness.errors import RunError
from robustness.files.bounded import read_bytes_bounded
from robustness.files.open_folder import Place, held, kind, parts_of, within

MOST_JSON = 64 << 20
"""Bytes of a `run.json` or `report.json`: a hundred times those of the largest ones there are."""
MOST_PICTURE = 128 << 20
"""Bytes of one picture of a run."""


def read_named(path: Path, most: int) -> bytes:
    """Read a file that the user named, as `read_bytes_bounded` does.

    Raises
    ------
    RunError
        It is missing, no regular file, or larger than `most` bytes.
    """
    try:
        return read_bytes_bounded(path, most)
    except (OSError, ValueError) as problem:
        why = reason(problem) if isinstance(problem, OSError) else str(problem)
        raise RunError(
            f"{path} cannot be read: {why}; expected a regular file of at most {most:,} bytes."
        ) from None


def read_within(folder: Path, name: str, most: int) -> bytes:
    """The bytes of a file of a run.

    Parameters
    ----------
    folder: the run.
    name: the file's name in it, with slashes, as the run says it.
    most: how many bytes it may have.

    Returns
    -------
    All of the file.

    Raises
    ------
    RunError: it is missing, behind a link, no regular file, or larger.
    """
    *folders, last = parts_of(name)
    try:
        with within(folder, folders) as place:
            return _read(place, last, most)
    except OSError as problem:
        raise RunError(
            f"{folder / name} is missing or cannot be read ({reason(problem)}); expected a file of this "
            "run."
        ) from None


def expect_file(folder: Path, name: str, most: int, *, optional: bool = False) -> int:
    """The size of a regular file of a run that somebody else is going to open; 0 if it may be absent.

    Raises
    ------
    RunError: it is no regular file, or larger than `most` bytes.
    """
    with held(folder) as place:
        found = place.status(name)
    if found is None:
        if optional:
            return 0
        raise RunError(f"{folder / name} is missing; expected a file of this run.")
    _expect_regular(folder / name, found, most)
    return found.st_size


def _read(place: Place, name: str, most: int) -> bytes:
    path = place.path / name
    before = place.status(name)
    if before is not None:
        # A device may act when it is opened, so it is not.
        _expect_regular(path, before, most)
    descriptor = place.open(name)
    with os.fdopen(descriptor, "rb") as file:
        _expect_regular(path, os.fstat(descriptor), most)
        data = file.read(most + 1)
    if len(data) > most:
        raise _too_large(path, len(data), most)
    return data


def _expect_regular(path: Path, status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RunError(
            f"{path} is {kind(status)}; expected a regular file. It is not opened: the run may be "
            "tampered with."
        )
    if status.st_size > most:
        raise _too_large(path, status.st_size, most)


def _too_large(path: Path, size: int, most: int) -> RunError:
    return RunError(
        f"{path} has {size:,} bytes; expected at most {most:,}. It is not read: the toolkit writes none "
        "that large."
    )


def reason(problem: OSError) -> str:
    """Why a file could not be opened, in the system's words."""
    return problem.strerror or str(problem)
