"""Reads the headers of untrusted tar files: one pass, nothing unpacked, no size believed.

`tarfile` keeps an object for each member, and resolves several names and sizes for one. Here a header that
could be read in two ways makes the file unusable.

References
----------
POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from robustness.errors import ImagesError
from robustness.files.places import ByteFile

BLOCK = 512
MAX_MEMBERS = 64_000_000
"""The largest number of members of all shards together."""
MAX_EXTENDED = 1 << 16
"""The largest header of a long name or of pax records, in bytes."""
_REGULAR = b"0\x007"
_SMALL, _FEW = 1 << 15, 1 << 12


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar file: its name, where its bytes lie, and whether it is a file that can be read."""

    name: str
    offset: int
    size: int
    is_folder: bool = False
    regular: bool = True
    sparse: bool = False


@dataclass
class _Extended:
    """What the headers before a member say about it."""

    name: bytes | None = None
    size: int | None = None
    sparse: bool = False
    seen: set[bytes] = field(default_factory=set)


class Blocks:
    """Reads a file at increasing offsets through a buffer, larger where members are small."""

    def __init__(self, file: ByteFile) -> None:
        self._file, self._start, self._buffer = file, 0, b""

    def get(self, offset: int, size: int, ahead: int = 0) -> bytes:
        """Return `size` bytes from `offset`, fewer at the end; read `ahead` more if the buffer is used up."""
        at = offset - self._start
        if at < 0 or at + size > len(self._buffer):
            self._start, at = offset, 0
            self._buffer = self._file.read_at(offset, max(size, ahead))
        return self._buffer[at : at + size]


def members(file: ByteFile, blocks: Blocks) -> Iterator[Member]:
    """Read the headers of a tar file.

    Parameters
    ----------
    file : the tar file, not compressed.
    blocks : a buffer over it.

    Yields
    ------
    Member
        Links and devices have `regular` False, files with holes `sparse` True.

    Raises
    ------
    ImagesError
        The file is compressed, damaged, cut short, or has a header that could be read in two ways.
    OSError
        It cannot be read.
    """
    offset, extended, ahead = 0, _Extended(), file.chunk
    _expect_plain(file, blocks.get(0, BLOCK, ahead))
    while True:
        header = blocks.get(offset, BLOCK, ahead)
        if offset == file.size and offset and not extended.seen:
            return  # some programs write no end mark
        if len(header) < BLOCK:
            part = "file" if offset > file.size else "header"
            raise _broken(file, offset, f"it ends within a {part}, as half a download does")
        if header.count(0) == BLOCK:
            if extended.seen:
                raise _broken(file, offset, "it ends after a header about a member")
            _expect_end(file, blocks, offset)
            return
        _expect_sum(file, header, offset)
        kind, size = header[156:157], _number(file, header[124:136], offset)
        data = offset + BLOCK
        if kind in b"xgLKX" and kind != b"":
            if size > MAX_EXTENDED:
                raise _broken(
                    file, offset, f"a name or note in it has more than {MAX_EXTENDED:,} bytes"
                )
            _extend(file, extended, kind, blocks.get(data, size, ahead), offset, size)
            offset = data + _padded(size)
            continue
        if extended.size is not None:
            if size not in (0, extended.size):
                raise _broken(file, offset, "its headers give two sizes for one file")
            size = extended.size
        regular = kind in _REGULAR
        if not regular and kind != b"S":
            size = size if kind not in b"123456" else 0
        if data + size > file.size:
            raise _broken(file, offset, "it ends within a file, as half a download does")
        name = _text(extended.name if extended.name is not None else _name(header))
        folder = kind == b"5" or (regular and name.endswith("/"))
        yield Member(name, data, size, folder, regular, kind == b"S" or extended.sparse)
        if extended.seen:
            extended = _Extended()
        offset = data + _padded(size)
        # Headers of large members are read alone.
        ahead = file.chunk if size < _SMALL or file.chunk > 1 << 16 else _FEW


def _extend(
    file: ByteFile, extended: _Extended, kind: bytes, data: bytes, offset: int, size: int
) -> None:
    if len(data) < size:
        raise _broken(file, offset, "it ends within a header, as half a download does")
    if kind in extended.seen:
        raise _broken(file, offset, "two headers of one kind say what the next file is called")
    if kind == b"g":
        for key, _ in _records(file, data, offset):
            if key in (b"path", b"size", b"linkpath") or key.startswith(b"GNU.sparse"):
                raise _broken(file, offset, "a header gives one name or size to all files")
        return
    extended.seen.add(kind)
    if kind == b"K":
        return  # the target of a link, which is not followed
    if kind == b"L":
        extended.name = _once(file, extended, data.split(b"\0", 1)[0], offset)
        return
    _take_records(file, extended, data, offset)


def _take_records(file: ByteFile, extended: _Extended, data: bytes, offset: int) -> None:
    """What the pax records before a member say about it."""
    keys: set[bytes] = set()
    for key, value in _records(file, data, offset):
        if key in keys:
            raise _broken(file, offset, "a header has two values for one thing")
        keys.add(key)
        if key == b"path":
            extended.name = _once(file, extended, value, offset)
        elif key == b"size":
            if not value.isdigit() or len(value) > 19:
                raise _broken(file, offset, "a header gives a size that is no number")
            extended.size = int(value)
        elif key.startswith(b"GNU.sparse") or key == b"SCHILY.realsize":
            extended.sparse = True


def _once(file: ByteFile, extended: _Extended, name: bytes, offset: int) -> bytes:
    if extended.name is not None and extended.name != name:
        raise _broken(file, offset, "its headers give two names to one file")
    return name


def _records(file: ByteFile, data: bytes, offset: int) -> Iterator[tuple[bytes, bytes]]:
    """The records "LENGTH KEY=VALUE" of a pax header."""
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 8].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[at : at + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if length < 5 or len(record) < length or record[-1:] != b"\n" or not equals:
            raise _broken(file, offset, "a pax header is malformed")
        yield key, value
        at += length


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _number(file: ByteFile, digits: bytes, offset: int) -> int:
    """A size: octal digits, or a number of 95 bits that begins with the byte 0x80 (GNU)."""
    if digits[0] == 0x80:
        value = int.from_bytes(digits[1:], "big")
    else:
        text = digits.split(b"\0", 1)[0].strip()
        if text.strip(b"01234567"):
            raise _broken(file, offset, "a size in it is no number")
        value = int(text or b"0", 8)
    if value > file.size:
        raise _broken(file, offset, "it ends within a file, as half a download does")
    return value


def _expect_plain(file: ByteFile, start: bytes) -> None:
    """ImagesError for a file that is compressed as a whole."""
    packed = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd", b"PK": "zip"}
    if (kind := packed.get(start[:2])) and start[257:262] != b"ustar":
        raise ImagesError(
            f"{file.name} is packed by {kind} as a whole, so its pictures cannot be read at their places; "
            "expected a plain .tar. Unpack it once (gunzip, or `tar` again without -z)."
        )


def _expect_sum(file: ByteFile, header: bytes, offset: int) -> None:
    field_ = header[148:156].split(b"\0", 1)[0].strip()
    total = sum(header) - sum(header[148:156]) + 8 * 32  # as if the field were spaces
    if field_ and not field_.strip(b"01234567"):
        stated = int(field_, 8)
        if stated == total:
            return
        # Some old programs added signed bytes.
        if stated == total - 256 * sum(one > 127 for one in header):
            return
    raise _broken(file, offset, "a header's checksum is wrong")


def _expect_end(file: ByteFile, blocks: Blocks, offset: int) -> None:
    """Refuse what follows the end mark: readers disagree on whether it belongs to the file."""
    at = offset + BLOCK
    while at < file.size:
        block = blocks.get(at, min(file.chunk, file.size - at))
        if block.count(0) != len(block) or not block:
            raise _broken(file, at, "there is more after its end mark, as if tar files were joined")
        at += len(block)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _broken(file: ByteFile, offset: int, why: str) -> ImagesError:
    return ImagesError(
        f"{file.name} cannot be read ({why}, at byte {offset:,}); expected a sound .tar. Make it or fetch it "
        "again."
    )
