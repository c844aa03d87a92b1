"""Keeps copies of images in an unnamed temporary file, within a bound."""

from __future__ import annotations

import tempfile
import threading
import weakref

from robustness.errors import ImagesError, StorageError
from robustness.files import disk_errors


class Spool:
    """An unnamed temporary file of copies, of at most `most` bytes; thread-safe."""

    def __init__(self, what: str, most: int) -> None:
        self._what, self._most, self._end = what, most, 0
        self._lock = threading.Lock()
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the source
        except OSError as error:
            raise StorageError(disk_errors.sentence(error)) from error
        weakref.finalize(self, self._file.close)

    def has_room(self, size: int) -> bool:
        """Return whether `size` more bytes fit."""
        with self._lock:
            return self._end + size <= self._most

    def put(self, data: bytes) -> int:
        """Append data and return its offset.

        Raises
        ------
        ImagesError
            The copies would be larger than the bound.
        StorageError
            The disk is full.
        """
        with self._lock:
            start = self._end
            if start + len(data) > self._most:
                raise ImagesError(
                    f"{self._what} gives more than {self._most:,} bytes of images, the most that is "
                    "copied to the disk. Raise --cache-bytes (cache_bytes= in Python), or give fewer images."
                )
            try:
                self._file.seek(start)
                self._file.write(data)
            except OSError as error:
                raise StorageError(disk_errors.sentence(error)) from error
            self._end = start + len(data)
            return start

    def get(self, start: int, size: int) -> bytes:
        """Return the copy at an offset."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)
