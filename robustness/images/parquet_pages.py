"""Reads the headers of Parquet pages, to refuse those that would take far more memory than they have bytes.

A page states how large it is when it is unpacked, up to 2 GiB, and a few bytes of zstd or snappy can become
that much. pyarrow believes it.

References
----------
Apache Parquet, parquet.thrift, `PageHeader`. Apache Thrift, "Thrift Compact protocol encoding".
"""

from __future__ import annotations

from robustness.errors import ImagesError

MOST = 256 << 20
"""Pages that are not larger in bytes when they are unpacked are always read."""
MOST_TIMES = 20
"""Larger ones are read if they are not larger than their bytes in the file times this."""
_PADDING = 128
"""Bytes that old writers leave behind the last page, at most."""
_DEEPEST = 8
_STOP, _BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY = 0, (1, 2), 3, (4, 5, 6), 7, 8
_STRUCT = 12


def expect_small_pages(data: bytes, name: str) -> None:
    """Check the pages of a column chunk.

    Parameters
    ----------
    data : all bytes of the chunk.
    name : the file, for the message.

    Raises
    ------
    ImagesError
        A page would be much larger when it is unpacked.
    ValueError
        A header is malformed.
    """
    view, at = memoryview(data), 0
    while at < len(view):
        try:
            unpacked, packed, after = _sizes(view, at)
        except (IndexError, ValueError) as error:
            if len(view) - at <= _PADDING:
                return
            raise ValueError("the header of a page is malformed") from error
        if unpacked > max(MOST, MOST_TIMES * packed):
            raise ImagesError(
                f"{name} cannot be read: {packed:,} bytes of it unpack to {unpacked:,} bytes, as no pictures "
                "do. Expected a Parquet file of pictures."
            )
        at = after + packed


def _sizes(view: memoryview, at: int) -> tuple[int, int, int]:
    """The unpacked and packed size in the page header at an offset, and the offset after the header."""
    found: dict[int, int] = {}
    field = 0
    while True:
        field, kind, at = _field(view, at, field)
        if kind == _STOP:
            break
        if kind in _INTEGERS:
            value, at = _varint(view, at)
            found[field] = value >> 1 if not value & 1 else -(value + 1 >> 1)
        else:
            at = _skipped(view, at, kind, 0)
    if not {2, 3} <= found.keys() or min(found[2], found[3]) < 0:
        raise ValueError("no sizes")
    return found[2], found[3], at


def _field(view: memoryview, at: int, before: int) -> tuple[int, int, int]:
    """The number and type of a field, and the offset after its header."""
    head, at = view[at], at + 1
    if head >> 4 or not head:
        return before + (head >> 4), head & 15, at
    number, at = _varint(view, at)
    return number >> 1, head & 15, at


def _skipped(view: memoryview, at: int, kind: int, depth: int) -> int:
    """The offset after a value."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if kind in _BOOLEANS:
        return at
    if kind == _BYTE:
        return at + 1
    if kind in _INTEGERS:
        return _varint(view, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        size, at = _varint(view, at)
        return at + size
    if kind == _STRUCT:
        field, inner, at = _field(view, at, 0)
        while inner != _STOP:
            at = _skipped(view, at, inner, depth + 1)
            field, inner, at = _field(view, at, field)
        return at
    # A page header has no lists and no maps.
    raise ValueError("unknown type")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte, at = view[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("too long a number")
