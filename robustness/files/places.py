"""Names where data lies (a file, a folder, a numbered range of files) and reads files at offsets.

A `Place` is what the user named; it may be local or remote (`robustness.files.remote`), and those who read it
need not know which. A `ByteFile` is one file of it, read at offsets from any thread and never as a whole.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from robustness.files.bounded import open_regular

MAX_FILES = 100_000
"""The largest number of files of one range, pattern or folder of shards."""
FRESH_NS = 2_000_000_000
"""The age in nanoseconds below which a file may have been written twice at the same time of its clock."""
_BRACES = re.compile(r"\{(?:(\d{1,12})\.\.(\d{1,12})|([^{},/]*(?:,[^{},/]*)+))\}")
"""A range of numbers, or words with commas."""
_OF = re.compile(r"(.*?)(\d{4,6})-of-(\d{4,6})(.*)")


class ChangedFileError(OSError):
    """A file is another one than when it was listed."""


class ByteFile(Protocol):
    """A file that is read at offsets, from any thread."""

    @property
    def name(self) -> str:
        """The name of the file without folders."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    @property
    def version(self) -> str:
        """A text that is another one for any other content and any other place; "" if there is none."""

    @property
    def chunk(self) -> int:
        """The number of bytes that are best read at a time."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer only at the end of the file.

        Raises
        ------
        OSError
            The file cannot be read, or is another one than when it was listed.
        """


class Place(ABC):
    """What the user named: a file, a folder, or a range of files; local or remote."""

    is_remote = False

    @property
    @abstractmethod
    def text(self) -> str:
        """The name as it was typed."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the name, for messages."""

    @property
    @abstractmethod
    def is_file(self) -> bool:
        """Whether it is one regular file."""

    @property
    @abstractmethod
    def is_folder(self) -> bool:
        """Whether it is a folder."""

    @abstractmethod
    def names(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the names of the files and of the folders directly in it, sorted; hidden ones left out."""

    @abstractmethod
    def files(self, names: Sequence[str] = ()) -> list[ByteFile]:
        """Return the file itself, the files of the range, or the files of these names in the folder.

        Raises
        ------
        OSError, ValueError
            One of them cannot be opened, or is not a regular file.
        """

    @abstractmethod
    def path(self) -> Path:
        """Return the path of the file or folder on this machine; a remote file is fetched first."""


@dataclass(frozen=True)
class LocalFile:
    """A regular file on this machine. Every read opens it anew and checks that it is the same file."""

    path: Path
    size: int
    identity: tuple[int, int, int]
    chunk: int = 1 << 16

    @classmethod
    def of(cls, path: Path) -> LocalFile:
        """Describe the file at a path; OSError or ValueError if it cannot be opened or is not regular."""
        with open_regular(path) as file:
            found = os.fstat(file.fileno())
        return cls(path, found.st_size, _identity(found))

    @property
    def name(self) -> str:
        """The name of the file without folders."""
        return self.path.name

    @property
    def version(self) -> str:
        """The path, and when the file was written; "" for one that is too new to tell two contents apart."""
        inode, _, written = self.identity
        fresh = abs(time.time_ns() - written) < FRESH_NS
        return "" if fresh else f"{self.path.resolve()} {inode} {written}"

    def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer only at the end of the file."""
        try:
            with open_regular(self.path) as file:
                if _identity(os.fstat(file.fileno())) != self.identity:
                    raise ChangedFileError("it has changed since it was listed")
                file.seek(offset)
                return file.read(min(size, max(0, self.size - offset)))
        except ValueError as error:
            raise ChangedFileError(str(error)) from error


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class LocalPlace(Place):
    """A file or folder on this machine."""

    where: Path

    @property
    def text(self) -> str:
        """The path as text."""
        return str(self.where)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.where.name or self.where.resolve().name

    @property
    def is_file(self) -> bool:
        """Whether it is one regular file; a pipe is none."""
        return self.where.is_file()

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.where.is_dir()

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of files and folders in it; both empty if it cannot be listed."""
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(self.where) as found:
                for one in found:
                    if not one.name.startswith("."):
                        (folders if one.is_dir() else files).append(one.name)
        except OSError:
            return [], []
        return sorted(files), sorted(folders)

    def files(self, names: Sequence[str] = ()) -> list[ByteFile]:
        """Return the file itself, or the files of these names in the folder."""
        paths = [self.where / name for name in names] if self.is_folder else [self.where]
        return [LocalFile.of(path) for path in paths]

    def path(self) -> Path:
        """Return the path."""
        return self.where


class SeveralFiles(Place):
    """A place that is neither a file nor a folder, but a choice of files."""

    @property
    def is_file(self) -> bool:
        """False: it is several files."""
        return False

    @property
    def is_folder(self) -> bool:
        """False: it is several files."""
        return False


@dataclass(frozen=True)
class LocalRange(SeveralFiles):
    """The files of a range such as `data-{000..255}.tar` or a pattern such as `data/test-*.parquet`."""

    where: Path
    """The path as it was typed."""
    members: tuple[str, ...]

    @property
    def text(self) -> str:
        """The range as it was typed."""
        return str(self.where)

    @property
    def name(self) -> str:
        """The last part of the range."""
        return self.where.name

    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the files, and no folders."""
        return self.members, ()

    def files(self, names: Sequence[str] = ()) -> list[ByteFile]:
        """Return all files of the range."""
        return [LocalFile.of(self.where.parent / name) for name in names or self.members]

    def path(self) -> Path:
        """Return the path as it was typed, which is no file."""
        return self.where


def local_place(path: Path) -> LocalPlace | LocalRange | None:
    """Return the place of a path, range or pattern; None if nothing is there.

    A file of that very name has precedence over what its braces or stars mean.
    """
    try:
        path.stat()
    except (OSError, ValueError):
        return _local_range(path)
    return LocalPlace(path)


def _local_range(path: Path) -> LocalRange | None:
    if members := expanded(path.name):
        return LocalRange(path, tuple(members))
    if "*" in path.name and path.parent.is_dir():
        files = LocalPlace(path.parent).names()[0]
        members = [name for name in files if fnmatchcase(name, path.name)]
        return LocalRange(path, tuple(members[: MAX_FILES + 1])) if members else None
    return None


def expanded(name: str) -> list[str]:
    """Return the names of a range such as `a-{000..012}.tar` or `{train,test}.tar`.

    None if it is no range, or has too many. Several braces give every combination, in their order.
    """
    names = [name]
    while match := _BRACES.search(names[0]):
        low, high, listed = match.groups()
        if listed is not None:
            words = listed.split(",")
        else:
            first, last, width = int(low), int(high), len(low) if low.startswith("0") else 0
            if not 0 <= last - first < MAX_FILES // len(names):
                return []
            words = [f"{number:0{width}}" for number in range(first, last + 1)]
        if len(names) * len(words) > MAX_FILES:
            return []
        # Every name has the braces at its own place, after words of other lengths.
        names = [_filled(one, word) for one in names for word in words]
    return [] if names == [name] else names


def _filled(name: str, word: str) -> str:
    """The name with a word in place of its first braces."""
    match = _BRACES.search(name)
    return name if match is None else f"{name[: match.start()]}{word}{name[match.end() :]}"


def incomplete(names: Sequence[str]) -> str:
    """Return what is wrong with files such as `train-00000-of-00004.parquet`, a sentence; "" if nothing is.

    All numbers of each split must be there, and the files must be of one split.
    """
    splits: dict[tuple[str, str, str], set[int]] = {}
    for name in names:
        if match := _OF.fullmatch(name):
            before, number, total, after = match.groups()
            splits.setdefault((before, total, after), set()).add(int(number))
    for (before, total, after), numbers in splits.items():
        missing = sorted(set(range(min(int(total), MAX_FILES))) - numbers)
        if missing:
            one = f"{before}{missing[0]:0{len(total)}}-of-{total}{after}"
            more = f" and {len(missing) - 1:,} more are" if len(missing) > 1 else " is"
            return f"{one}{more} missing. Fetch all files, or name those that you mean."
    starts = sorted({before.rstrip("-_.") for before, _, _ in splits})
    if len(starts) > 1:
        return (
            f"They are of several splits ({', '.join(starts[:6])}). Name the files of one, such as "
            f"{starts[0]}-*."
        )
    return ""
