"""Reading what came from somewhere else: regular files of bounded size, and nothing through a link.

A run can be received from anybody. A link in it would show files of whoever reads it, a pipe would wait
for ever, a sparse file would fill the memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from robustness.errors import RobustnessError, RunError
from robustness.files.open_folder import Place, held, kind, parts_of, within

MOST_JSON = 64 << 20
"""Bytes of a `run.json` or `report.json`: a hundred times those of the largest ones there are."""
MOST_PICTURE = 128 << 20
"""Bytes of one picture of a run."""


def read_named(path: Path, most: int, *, error: type[RobustnessError] = RunError) -> bytes:
    """The bytes of a file that the user named; a link to it is followed.

    Parameters
    ----------
    path: the file.
    most: how many bytes it may have.
    error: what is raised.

    Returns
    -------
    All of the file.

    Raises
    ------
    RobustnessError: it is missing, no regular file, or larger.
    """
    try:
        with held(path.parent) as place:
            return _read(place, path.name, most, error, links=True)
    except OSError as problem:
        raise error(f"{path} cannot be read: {reason(problem)}; expected a file.") from None


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
            return _read(place, last, most, RunError, links=False)
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
    _expect_regular(folder / name, found, most, RunError)
    return found.st_size


def _read(
    place: Place, name: str, most: int, error: type[RobustnessError], *, links: bool
) -> bytes:
    path = place.path / name
    before = place.status(name)
    if before is not None and not (links and stat.S_ISLNK(before.st_mode)):
        # A device may act when it is opened, so it is not.
        _expect_regular(path, before, most, error)
    descriptor = place.open(name, links=links)
    with os.fdopen(descriptor, "rb") as file:
        _expect_regular(path, os.fstat(descriptor), most, error)
        data = file.read(most + 1)
    if len(data) > most:
        raise _too_large(path, len(data), most, error)
    return data


def _expect_regular(
    path: Path, found: os.stat_result, most: int, error: type[RobustnessError]
) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise error(
            f"{path} is {kind(found)}; expected a regular file. It is not opened: the run may be "
            "tampered with."
        )
    if found.st_size > most:
        raise _too_large(path, found.st_size, most, error)


def _too_large(path: Path, size: int, most: int, error: type[RobustnessError]) -> RobustnessError:
    return error(
        f"{path} has {size:,} bytes; expected at most {most:,}. It is not read: the toolkit writes none "
        "that large."
    )


def reason(problem: OSError) -> str:
    """Why a file could not be opened, in the system's words."""
    return problem.strerror or str(problem)
