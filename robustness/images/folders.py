"""What lies in a folder that somebody names: pictures, also behind links, and what is passed over."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from robustness.errors import ImagesError
from robustness.images.decode import SUFFIXES
from robustness.images.entries import MAX_ENTRIES, Unreadable, key_of
from robustness.images.png import MAX_BYTES

_JUNK = {"__MACOSX", "Thumbs.db"}
MAX_FOLDERS = 100_000
"""Folders looked into, at most: a few links to each other make a tree without end of them."""
_ERRORS = (OSError, ValueError, RuntimeError)


def hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's pictures, by its name."""
    return name.startswith(".") or name in _JUNK


def walk(root: Path, others: Counter[str], faults: dict[str, str]) -> Iterator[str]:
    """Posix paths of the pictures below `root`, in order of folders; counts what is passed over.

    A folder below `root` that cannot be listed is a path too, and `faults` gets the reason.

    Links to files and folders are followed: whole data sets are made of them. One that leads back into a
    folder that it lies in is passed over, and a folder reached in two ways gives its pictures twice, under
    the paths they were reached by. ImagesError if `root` cannot be listed, and for too much.
    """
    count = folders = 0
    # Folders to look into: the path below the root, and the folders it lies in as the disk knows them.
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        place, above = waiting.pop()
        folders += 1
        if folders > MAX_FOLDERS:
            raise ImagesError(
                f"{root.name} holds more than {MAX_FOLDERS:,} folders, links to folders counted each time."
            )
        inner = []
        try:
            own = _identity(root / place)
            with os.scandir(root / place) as found:
                some = sorted(
                    (one for one in found if not hidden(one.name)), key=lambda one: one.name
                )
        except OSError as error:
            if not place:
                raise ImagesError(
                    f"Folder {root / place} cannot be listed ({error.strerror}); make it readable."
                ) from error
            faults[place] = f"The folder cannot be listed: {str(error.strerror).lower()}."
            yield place
            continue
        if own in above:
            others["link back to a folder around it"] += 1
            continue
        for one in some:
            path = f"{place}/{one.name}" if place else one.name
            if _is_folder(one):
                inner.append((path, above | {own}))
            elif PurePosixPath(one.name).suffix.lower() in SUFFIXES:
                count += 1
                if count > MAX_ENTRIES:
                    raise ImagesError(f"{root.name} holds more than {MAX_ENTRIES:,} pictures.")
                yield path
            else:
                others["other file"] += 1
        waiting += reversed(inner)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_folder(one: os.DirEntry[str]) -> bool:
    try:
        return one.is_dir()
    except OSError:  # a link in a ring
        return False


def reader(root: Path) -> Callable[[str], bytes]:
    """A function from a path below `root` to the file's bytes; Unreadable otherwise.

    The path itself must stay below `root`; links on the way are followed, wherever they lead. Only regular
    files are opened, of at most `MAX_BYTES`.
    """
    root = Path(os.path.normpath(root.absolute()))
    roots = (root, root.resolve())

    def read(place: str) -> bytes:
        try:
            target = Path(os.path.normpath(root / place))
            if not any(target.is_relative_to(one) for one in roots):
                raise Unreadable(
                    f"It lies outside the folder {key_of(root.name)}; only files below it are read."
                )
            return _bytes_of(target)
        except FileNotFoundError as error:
            if target.is_symlink():
                raise Unreadable("It is a link, and there is nothing where it leads.") from error
            raise Unreadable("There is no such file.") from error
        except _ERRORS as error:  # a NUL in the name, links in a ring
            words = getattr(error, "strerror", None) or "its path cannot be followed"
            raise Unreadable(f"The file cannot be opened: {words.lower()}.") from error

    return read


def _bytes_of(target: Path) -> bytes:
    if not stat.S_ISREG(target.stat().st_mode):  # a pipe would be waited for, a device may act
        raise Unreadable("It is not a regular file.")
    # What it is now: it may have been replaced since.
    number = os.open(
        target, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with os.fdopen(number, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("It is not a regular file.")
        # read(n) takes the memory for n at once
        data = file.read(min(found.st_size, MAX_BYTES) + 1)
    if len(data) > MAX_BYTES:
        raise Unreadable(f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read.")
    return data
