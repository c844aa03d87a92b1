"""Keeps copies of remote files on this machine: bounded in bytes, whole, the least recently used removed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

from robustness.errors import FetchError, StorageError
from robustness.files import disk_errors
from robustness.files.places import ChangedFileError
from robustness.files.remote.stores import Info
from robustness.files.remote.urls import name_of, shown

BYTES = 10 << 30
"""The most bytes of all copies by default."""
ENVIRONMENT = "ROBUSTNESS_CACHE"
"""The environment variable that names the folder of the copies."""
DRAFT_SECONDS = 3600
"""The age at which a half copy belongs to a dead process."""
_PART = ".part"
_PROCESS = secrets.token_hex(8)


def cache_folder() -> Path:
    """Return the folder of the copies: that of the environment, else one in the user's cache folder."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "robustness-toolkit" / "remote"


@cache
def shared_cache(folder: Path, most: int) -> Cache:
    """Return the one cache of this process in a folder."""
    return Cache(folder, most)


@contextlib.contextmanager
def _of_this_machine(folder: Path) -> Iterator[None]:
    """Turn errors of the folder of copies into StorageError: they say nothing about the remote file."""
    try:
        yield
    except OSError as error:
        said = disk_errors.sentence(error, error.filename or folder)
        raise StorageError(
            f"A remote file cannot be copied. {said} {ENVIRONMENT} names another folder."
        ) from error


class _Draft(io.FileIO):
    """A new file, whose errors are those of this machine."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self._folder = path.parent

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        size, at = len(view), 0
        with _of_this_machine(self._folder):
            while at < size:
                at += super().write(view[at:]) or 0
        return size


class Cache:
    """Copies of remote files, by URL, version and size.

    Parameters
    ----------
    folder : where they lie.
    most : the most bytes of all copies together.
    """

    def __init__(self, folder: Path, most: int = BYTES) -> None:
        self.folder, self.most = folder, most
        self._lock = threading.Lock()
        # Two files may share a lock; a lock for each of a million would take memory.
        self._busy = [threading.Lock() for _ in range(256)]
        self._held: set[str] = set()
        self._total: int | None = None

    def path(
        self, info: Info, download: Callable[[Info, IO[bytes]], None], *, hold: bool = False
    ) -> Path:
        """Return the path of a copy, which is fetched if there is none.

        Parameters
        ----------
        info : the file.
        download : writes it into an open file.
        hold : whether it must stay as long as the process lives.

        Raises
        ------
        FetchError
            It is larger than all copies may be, or cannot be fetched.
        FileNotFoundError, ChangedFileError
            It is gone, or another one than when it was listed.
        StorageError
            The copy cannot be written.
        """
        key = self._key(info)
        place = self.folder / key[:2] / key / _plain(name_of(info.url))
        with self._lock:
            if hold:
                self._held.add(key)
        with self._busy[int(key[:2], 16)]:
            if not self._is_there(place, info):
                self._fetch(place, info, download)
        with contextlib.suppress(OSError):
            os.utime(place)
        return place

    def has(self, info: Info) -> bool:
        """Return whether there is a copy."""
        key = self._key(info)
        return self._is_there(self.folder / key[:2] / key / _plain(name_of(info.url)), info)

    def _key(self, info: Info) -> str:
        # What states no version is fetched again by every process.
        version = info.version or _PROCESS
        return hashlib.sha256(f"{info.url}\0{version}\0{info.size}".encode()).hexdigest()

    def _is_there(self, place: Path, info: Info) -> bool:
        try:
            return place.stat().st_size == info.size and not place.is_symlink()
        except OSError:
            return False

    def _fetch(self, place: Path, info: Info, download: Callable[[Info, IO[bytes]], None]) -> None:
        if info.size > self.most:
            raise FetchError(
                f"{shown(info.url)} has {info.size:,} bytes; at most {self.most:,} bytes are copied to "
                f"{self.folder}. Raise --cache-bytes (cache_bytes= in Python)."
            )
        draft = self.folder / f"{secrets.token_hex(12)}{_PART}"
        try:
            with _of_this_machine(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._make_room(info.size)
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                file = _Draft(draft)
            with file:
                download(info, file)
                size = file.tell()
            if size != info.size:
                raise ChangedFileError("it has another size than when it was listed")
            with _of_this_machine(self.folder):
                draft.replace(place)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        with self._lock:
            self._total = (self._total or 0) + info.size

    def _make_room(self, size: int) -> None:
        """Remove the copies that were not used for longest until `size` more bytes fit."""
        with self._lock:
            if self._total is None:
                self._total = sum(one[1] for one in self._copies())
            if self._total + size <= self.most:
                return
            copies = sorted(self._copies())
            self._total = sum(one[1] for one in copies)
            # A tenth more than needed, so that the next files need not list the folder again.
            goal = max(0, min(self.most - size, self.most * 9 // 10))
            for used, bytes_, path in copies:
                if self._total <= goal:
                    break
                fresh = path.name.endswith(_PART) and time.time() - used < DRAFT_SECONDS
                if path.parent.name in self._held or fresh:
                    continue
                with contextlib.suppress(OSError):
                    path.unlink()
                    self._total -= bytes_
                    path.parent.rmdir()

    def _copies(self) -> list[tuple[float, int, Path]]:
        """When each copy was used, its size and its path; half copies of dead processes are old as well."""
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    found.append((status.st_mtime, status.st_size, path))
        return found


def _plain(name: str) -> str:
    """A name of letters, digits and dots, with the suffix of the file."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:].lstrip(".") or "file"
