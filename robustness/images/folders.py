"""Lists the pictures below a folder, links included, and reads their files within limits."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from robustness.errors import ImagesError
from robustness.images.decode import SUFFIXES
from robustness.images.entries import MAX_ENTRIES, Unreadable, key_of
from robustness.images.png import MAX_BYTES
from robustness.text import first_few

_JUNK = {"__MACOSX", "Thumbs.db"}
MAX_FOLDERS = 100_000
"""The largest number of folders listed; a few links to each other can make an endless tree."""
_ERRORS = (OSError, ValueError, RuntimeError)


def hidden(name: str) -> bool:
    """Return whether a file or folder is ignored because of its name."""
    return name.startswith(".") or name in _JUNK


def walk(root: Path, others: Counter[str], faults: dict[str, str]) -> Iterator[str]:
    """Find the pictures below a folder, folder by folder.

    Links to files and folders are followed, since some data sets consist of them. A link back to a folder
    that contains it is skipped. A folder that is reached by two paths yields its pictures twice, under
    both paths.

    Parameters
    ----------
    root : Path
        The folder.
    others : Counter
        Receives the number of other files, and of skipped links, by kind.
    faults : dict
        Receives the reason for each folder below `root` that cannot be listed; its path is yielded too.

    Yields
    ------
    str
        The POSIX path of a picture, relative to `root`.

    Raises
    ------
    ImagesError
        `root` cannot be listed, or holds more than `MAX_FOLDERS` folders or `MAX_ENTRIES` pictures.
    """
    count = folders = 0
    # Folders to list: the path below the root, and (device, inode) of the folders that contain it.
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


def names_below(folder: Path, most: int = 10_000) -> set[str]:
    """Return the names of the folders in a folder, hidden ones left out; none if it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            some = [one.name for one in islice(found, most) if _is_folder(one)]
    except OSError:
        return set()
    return {key_of(name) for name in some if not hidden(name)}


def one_of_several(root: Path, paths: Iterable[str], most: int = 1_000) -> list[str]:
    """Return what to do about a folder of a single class: a sentence, or nothing.

    It is taken to be one if its pictures are all in it directly, and a folder beside it holds some as well.

    Parameters
    ----------
    root : the folder, without links.
    paths : its pictures.
    most : the largest number of names that are read beside it, and in each folder there.
    """
    if root.parent == root or any("/" in path for path in paths):
        return []
    beside = names_below(root.parent, most) - {key_of(root.name)}
    others = [name for name in sorted(beside)[:20] if _has_picture(root.parent / name, most)]
    if not others:
        return []
    return [
        f"the folder around it ({key_of(root.parent.name)}) also holds pictures in "
        f"{first_few(others)}: if these are classes, give that folder as the images, for labels"
    ]


def _has_picture(folder: Path, most: int) -> bool:
    try:
        with os.scandir(folder) as found:
            names = [one.name for one in islice(found, most)]
    except OSError:
        return False
    return any(PurePosixPath(n).suffix.lower() in SUFFIXES for n in names if not hidden(n))


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_folder(one: os.DirEntry[str]) -> bool:
    try:
        return one.is_dir()
    except OSError:  # a cycle of links
        return False


def reader(root: Path) -> Callable[[str], bytes]:
    """Return a function that reads the file at a path below `root`, and raises Unreadable if it cannot.

    The path itself must stay below `root`; links in it are followed, wherever they lead. Only regular files
    of at most `MAX_BYTES` bytes are read.
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
        except _ERRORS as error:  # a NUL in the name, or a cycle of links
            words = getattr(error, "strerror", None) or "its path cannot be followed"
            raise Unreadable(f"The file cannot be opened: {words.lower()}.") from error

    return read


def _bytes_of(target: Path) -> bytes:
    if not stat.S_ISREG(
        target.stat().st_mode
    ):  # a pipe may block, opening a device may trigger an action
        raise Unreadable("It is not a regular file.")
    # Checked again after opening: the file may have been replaced since.
    number = os.open(
        target, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with os.fdopen(number, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("It is not a regular file.")
        # read(n) allocates n bytes at once
        data = file.read(min(found.st_size, MAX_BYTES) + 1)
    if len(data) > MAX_BYTES:
        raise Unreadable(f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read.")
    return data
