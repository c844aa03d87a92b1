"""Remote places and files: read at offsets from a copy on this machine, or from the store where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from robustness.errors import FetchError
from robustness.files.places import MAX_FILES, ByteFile, ChangedFileError, Place, expanded
from robustness.files.remote.cache import BYTES, Cache, cache_folder, shared_cache
from robustness.files.remote.stores import Info, Store, store_for
from robustness.files.remote.urls import below, expect_plain, name_of, shown

THREADS = 16
"""The number of pictures that are fetched at the same time."""


@dataclass(frozen=True)
class RemoteFile:
    """A remote file.

    Parameters
    ----------
    info : its URL, size and version.
    store, cache : where it lies, and the copies on this machine.
    whole : whether it is copied as a whole at first use, or read in parts every time.
    """

    info: Info
    store: Store
    cache: Cache
    whole: bool = True
    threads: int = THREADS

    @property
    def name(self) -> str:
        """The name of the file without folders."""
        return name_of(self.info.url)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.info.size

    @property
    def version(self) -> str:
        """The URL and what the store calls its content; "" if the store states nothing."""
        return f"{self.info.url} {self.info.version}" if self.info.version else ""

    @property
    def chunk(self) -> int:
        """The number of bytes that are best read at a time."""
        return 1 << 16 if self.whole else 8 << 20

    def fetch(self) -> Path:
        """Return the path of a copy of the whole file."""
        return self.cache.path(self.info, self.store.download)

    def warm(self) -> None:
        """Fetch the whole file ahead of use, if it is copied at all."""
        if self.whole:
            self.fetch()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer only at the end of the file."""
        size = min(size, max(0, self.size - offset))
        if not self.whole:
            data = self.store.read(self.info, offset, offset + size)
            if len(data) < size:
                raise ChangedFileError("it is shorter than when it was listed")
            return data
        for _ in range(2):
            path = self.fetch()
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    return file.read(size)
            except FileNotFoundError:  # another process made room
                continue
        raise ChangedFileError("its copy on this machine is removed again and again")


@dataclass(frozen=True)
class RemotePlace(Place):
    """What is at a URL: a file, a folder, or the files of a range or pattern in a folder."""

    url: str
    store: Store
    cache: Cache
    members: tuple[str, ...] = field(default=())
    """The names of the files of a range; empty for a file or folder."""

    is_remote = True

    @cached_property
    def _info(self) -> Info:
        return self.store.stat(self.url)

    @cached_property
    def _children(self) -> dict[str, Info]:
        url = self._around if self.members else self.url
        return {name_of(info.url): info for info in self.store.children(url, deep=False)}

    @property
    def _around(self) -> str:
        return self.url.rpartition("/")[0]

    @property
    def text(self) -> str:
        """The URL."""
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return name_of(self.url)

    @property
    def is_file(self) -> bool:
        """Whether it is one file."""
        return not self.members and not self._info.is_folder

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return not self.members and self._info.is_folder

    def names(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the names of files and folders in it, hidden ones left out."""
        if self.members:
            return self.members, ()
        children = {n: i for n, i in self._children.items() if not n.startswith(".")}
        return (
            sorted(name for name, info in children.items() if not info.is_folder),
            sorted(name for name, info in children.items() if info.is_folder),
        )

    def files(self, names: Sequence[str] = ()) -> list[ByteFile]:
        """Return the file itself, or those of the folder or range.

        All are copied to this machine as they are used, if there is room; else they are read in parts.
        """
        if self.is_file:
            infos = [self._info]
        else:
            around = self._around if self.members else self.url
            infos = [
                self._children.get(name) or self.store.stat(f"{around}/{name}")
                for name in names or self.members
            ]
        whole = sum(info.size for info in infos) <= self.cache.most
        return [RemoteFile(info, self.store, self.cache, whole) for info in infos]

    def path(self) -> Path:
        """Return the path of a copy of the file, which stays as long as the process lives.

        Raises
        ------
        FetchError
            It cannot be fetched, or has changed meanwhile.
        """
        try:
            return self.cache.path(self._info, self.store.download, hold=True)
        except (FileNotFoundError, ChangedFileError) as error:
            raise FetchError(
                f"{shown(self.url)} was changed or removed while it was fetched ({error}). Try again."
            ) from error

    def below(self) -> list[tuple[str, RemoteFile]]:
        """Return all files below the folder, by their paths in it."""
        return [
            (info.url[len(self.url) + 1 :], RemoteFile(info, self.store, self.cache))
            for info in self.store.children(self.url, deep=True)
            if not info.is_folder
        ]

    def beside(self, path: str) -> RemoteFile | None:
        """Return the file at a path below the folder of this file; None if the path leads elsewhere.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        """
        url = below(self._around, path)
        if url is None:
            return None
        return RemoteFile(self.store.stat(url), self.store, self.cache)


def remote_place(url: str, most: int = BYTES) -> RemotePlace:
    """Return the place of a URL that the user gave.

    Parameters
    ----------
    url : the URL; of files also a range such as `s3://bucket/data-{000..255}.tar`, or a pattern with `*`.
    most : the most bytes of all copies on this machine.

    Raises
    ------
    SettingError
        The URL is not plain, or a package that it needs is not installed.
    FetchError
        There is nothing at the URL, or it cannot be read.
    """
    url = expect_plain(url)
    store, cache = store_for(url), shared_cache(cache_folder(), most)
    around, _, name = url.rpartition("/")
    if members := expanded(name):
        return RemotePlace(url, store, cache, tuple(members))
    try:
        if "*" in name:
            files = RemotePlace(around, store, cache).names()[0]
            members = [one for one in files if fnmatchcase(one, name)]
            if not members:
                raise FileNotFoundError(url)
            return RemotePlace(url, store, cache, tuple(members[: MAX_FILES + 1]))
        place = RemotePlace(url, store, cache)
        _ = place.is_file  # asks the store
    except FileNotFoundError as error:
        raise FetchError(
            f"There is nothing at {shown(url)}; expected a file, or a folder with files. Check the URL."
        ) from error
    return place


def fetched(url: str, most: int = BYTES) -> Path:
    """Return the path of a copy of a remote file.

    Raises
    ------
    SettingError, FetchError
        As for `remote_place`; or it is a folder, or larger than `most` bytes.
    """
    place = remote_place(url, most)
    if not place.is_file:
        raise FetchError(f"{shown(url)} is no single file; expected the URL of one.")
    return place.path()
