"""Accesses files relative to an open folder, so that no name follows a link or leaves the folder.

Where the system supports it (everywhere but on Windows) every operation is relative to the descriptor of the
open folder, so that no link can be inserted into the path between a check and the operation after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness.errors import RunError

_HELD = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_PLAIN = (
    getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
"""Flags that open a pipe without waiting for its writer; the type of the file is checked afterwards."""


@dataclass(frozen=True)
class Place:
    """A folder, open as `descriptor`; None where the system does not support that."""

    path: Path
    descriptor: int | None

    def _at(self, name: str) -> tuple[Any, dict[str, Any]]:
        if self.descriptor is None:
            return self.path / name, {}
        return name, {"dir_fd": self.descriptor}

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of `name`, links not followed; None if it does not exist."""
        where, held = self._at(name)
        try:
            return os.stat(where, follow_symlinks=False, **held)  # noqa: PTH116  dir_fd
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, name: str, flags: int = os.O_RDONLY, *, links: bool = False) -> int:
        """Open a file and return its descriptor; OSError for a link unless `links` is true."""
        if not links and not _NO_LINK:
            found = self.status(name)
            if found is not None and stat.S_ISLNK(found.st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.path / name))
        where, held = self._at(name)
        return os.open(where, flags | _PLAIN | (0 if links else _NO_LINK), 0o666, **held)

    def make(self, name: str) -> None:
        """Make a folder called `name`, unless that name exists already."""
        where, held = self._at(name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(where, **held)  # noqa: PTH102  dir_fd

    def rename(self, name: str, other: str) -> None:
        """Rename `name` to `other`, replacing it, in one atomic step."""
        if self.descriptor is None:
            (self.path / name).replace(self.path / other)
            return
        os.replace(name, other, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        where, held = self._at(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(where, **held)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Place]:
    """Open a folder that the user named; its path may contain links."""
    if not _HELD:
        yield Place(folder, None)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_CLOEXEC", 0))
    try:
        yield Place(folder, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def within(folder: Path, parts: Sequence[str], *, make: bool = False) -> Iterator[Place]:
    """Open a folder below one that the user named; no part of the path between them may be a link.

    Parameters
    ----------
    folder : Path
        The folder that the user named.
    parts : sequence of str
        Names of folders, each inside the one before.
    make : bool
        Whether to make missing folders.

    Raises
    ------
    RunError
        A part is a link or not a folder.
    OSError
        A part is missing or cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(held(folder))
        for part in parts:
            if make:
                place.make(part)
            found = place.status(part)
            if found is None:
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT), str(place.path / part)
                )
            if not stat.S_ISDIR(found.st_mode):
                raise _no_folder(place.path / part, found)
            place = stack.enter_context(_below(place, part, found))
        yield place


@contextlib.contextmanager
def _below(place: Place, name: str, found: os.stat_result) -> Iterator[Place]:
    if place.descriptor is None:
        yield Place(place.path / name, None)
        return
    try:
        descriptor = place.open(name, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        raise _no_folder(place.path / name, found) from None
    try:
        yield Place(place.path / name, descriptor)
    finally:
        os.close(descriptor)


def parts_of(name: str) -> tuple[str, ...]:
    """Split a file name recorded in a run at its slashes; RunError if it could lead out of the run folder."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    odd = name.startswith("/") or ".." in parts or any(mark in name for mark in "\\:\0")
    if not parts or odd or len(name) > 1000:
        raise RunError(
            f"{name[:200]!r} is not a file of this run; expected a name within its folder. The run may "
            "be tampered with."
        )
    return parts


def kind(found: os.stat_result) -> str:
    """Return the type of a file in words, such as "a link"."""
    for test, word in (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, "a file"),
    ):
        if test(found.st_mode):
            return word
    return "a device"


def _no_folder(path: Path, found: os.stat_result) -> RunError:
    return RunError(
        f"{path} is {kind(found)}; expected a folder of the run itself. The run may be tampered with: "
        "get it anew, or audit again."
    )
