"""Reads untrusted zip archives in place: extracts nothing to disk by name, and trusts no size in a header."""

from __future__ import annotations

import contextlib
import io
import re
import stat
import struct
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from robustness.errors import ImagesError
from robustness.files import bounded
from robustness.images.entries import MAX_ENTRIES, Unreadable
from robustness.images.png import MAX_BYTES

MAX_RATIO = 100
"""The largest ratio of unpacked to packed bytes; no picture compresses better."""
RATIO_FLOOR = 1 << 20
"""Unpacked bytes up to which the ratio is not checked."""
MAX_DIRECTORY = 128 << 20
MAX_SPOOL = 16 << 30
SPOOL_FLOOR = 256 << 20
_CHUNK = 1 << 18
NO_FILE = "It is a link or a device in the archive, not a file."
TWICE = "The archive holds another file of this name."
_BROKEN = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,  # an encrypted member
    EOFError,
    OSError,
    ValueError,  # also names that are marked as UTF-8 and are not
    OverflowError,
    struct.error,
    zlib.error,
    IndexError,
    AssertionError,
)


class Window(io.RawIOBase):
    """A read-only view of `size` bytes of a file from `start`; closing it closes the file.

    Notes
    -----
    `zipfile.ZipExtFile` can seek too, but (before Python 3.13) only by reading everything again from the
    beginning, which takes a second for each picture of an archive in an archive.
    """

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0
        # A collection of a reference cycle may finalize the file before the window.
        weakref.finalize(self, file.close)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, relative to the start of the window."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it; ValueError if it lies before the start of the window."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError("A position before the beginning of the file.")
        self._at = at
        return at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Read into `buffer` up to the end of the window; return the number of bytes."""
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        count = self._file.readinto(view)  # type: ignore[attr-defined]
        self._at += count
        return count

    def close(self) -> None:
        """Close the window and its file."""
        self._file.close()
        super().close()


@contextlib.contextmanager
def sound(name: str, kind: str = "zip archive") -> Iterator[None]:
    """Convert the errors that zipfile or NumPy raise about the file `name` into ImagesError."""
    try:
        yield
    except _BROKEN as error:
        raise ImagesError(
            f"{name} cannot be read ({error}); expected a sound {kind}. Make it or fetch it again."
        ) from error


def member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Window:
    """Open a member of the archive at `path` as a file with cheap seeks.

    A stored member is read in place; a compressed one is unpacked into an unnamed temporary file.

    Raises
    ------
    ImagesError
        The member is encrypted or damaged, or unpacks to far more bytes than a data set has.
    """
    name = f"{info.filename} in {path.name}"
    if info.flag_bits & 1:
        raise ImagesError(f"{name} is encrypted; expected an archive without password.")
    if info.compress_type != zipfile.ZIP_STORED:
        return _spool(archive, info, name)
    with contextlib.ExitStack() as stack, sound(name):
        file = stack.enter_context(path.open("rb"))
        file.seek(info.header_offset)
        magic, name_size, extra_size = struct.unpack("<4s22xHH", file.read(30))
        if magic != b"PK\x03\x04":
            raise zipfile.BadZipFile("no member where the list says one is")
        end = info.header_offset + 30 + name_size + extra_size + info.file_size
        if end > file.seek(0, io.SEEK_END) or info.file_size != info.compress_size:
            raise zipfile.BadZipFile("the list says that a member is longer than it is")
        stack.pop_all()  # from here on the window closes the file
    return Window(file, info.header_offset + 30 + name_size + extra_size, info.file_size)


def opened(path: Path) -> zipfile.ZipFile:
    """Open the archive at `path`.

    Raises
    ------
    ImagesError
        The file is not a zip archive, or its list of members exceeds `MAX_DIRECTORY` bytes.
    """
    with sound(path.name), path.open("rb") as file:
        claimed = bounded.zip_directory_bytes(file)
    if claimed > MAX_DIRECTORY:
        raise ImagesError(
            f"{path.name} lists its files in {claimed:,} bytes; at most {MAX_DIRECTORY:,} are read, "
            f"enough for {MAX_ENTRIES:,} files."
        )
    with sound(path.name):
        return zipfile.ZipFile(path)


def _spool(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Window:
    most = min(MAX_SPOOL, max(SPOOL_FLOOR, MAX_RATIO * info.compress_size))
    with contextlib.ExitStack() as stack, sound(name):
        file = stack.enter_context(tempfile.TemporaryFile())
        _expect_bounded(info)
        packed = stack.enter_context(archive.open(info))
        while chunk := packed.read(_CHUNK):
            file.write(chunk)
            if file.tell() > most:
                raise ImagesError(
                    f"{name} unpacks to more than {most:,} bytes from {info.compress_size:,}, as "
                    "only archives made to do harm do."
                )
        size = file.tell()
        packed.close()
        stack.pop_all()
    return Window(file, 0, size)


def _expect_bounded(info: zipfile.ZipInfo) -> None:
    """NotImplementedError unless stored or deflated: only these return no more bytes than requested."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError("it is packed otherwise than by deflate, which is not read")


def members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """List the members that are not folders; ImagesError for more than `MAX_ENTRIES` members."""
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise ImagesError(f"{name} holds {len(infos):,} files; at most {MAX_ENTRIES:,} are read.")
    return [info for info in infos if not info.filename.endswith("/")]


def posix(info: zipfile.ZipInfo) -> str:
    """Return the member's name with backslashes replaced by slashes."""
    return info.filename.replace("\\", "/")


def fault(info: zipfile.ZipInfo) -> str:
    """Return why a member is not read, as one sentence; "" if its header is acceptable."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    faults = {
        NO_FILE: kind not in (0, stat.S_IFREG),
        "It is encrypted.": info.flag_bits & 1,
    }
    named = name_fault(info.orig_filename)  # `filename` is cut at a NUL
    return named or next((sentence for sentence, wrong in faults.items() if wrong), "")


def name_fault(name: str) -> str:
    """Return why a member of this name is not read, as one sentence; "" for an acceptable name."""
    name = name.replace("\\", "/")
    faults = {
        "Its name in the archive has a control character.": re.search(r"[\x00-\x1f\x7f]", name),
        "Its name in the archive is an absolute path.": re.match(r"/|[A-Za-z]:", name),
        "Its name in the archive leads out of the archive.": ".." in name.split("/"),
    }
    return next((sentence for sentence, wrong in faults.items() if wrong), "")


def reader(archive: zipfile.ZipFile) -> Callable[[zipfile.ZipInfo], bytes]:
    """Return a thread-safe function that reads the bytes of a member.

    The function raises Unreadable for a member that is damaged or exceeds `MAX_BYTES` or `MAX_RATIO`.
    """
    lock = threading.Lock()

    def read(info: zipfile.ZipInfo) -> bytes:
        with lock:
            try:
                _expect_bounded(info)
                with archive.open(info) as packed:
                    return _bounded(packed, info.compress_size)
            except _BROKEN as error:
                raise Unreadable(f"The archive is damaged here ({error}).") from error

    return read


def _bounded(packed: IO[bytes], compressed: int) -> bytes:
    """All bytes, counted while they are read: the size in the header may be false."""
    out = io.BytesIO()
    while chunk := packed.read(_CHUNK):
        out.write(chunk)
        size = out.tell()
        if size > MAX_BYTES:
            raise Unreadable(f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read.")
        if size > RATIO_FLOOR and size > MAX_RATIO * compressed:
            raise Unreadable(
                f"It unpacks to more than {MAX_RATIO} times its size, as no photograph does."
            )
    return out.getvalue()
