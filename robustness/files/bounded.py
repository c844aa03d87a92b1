"""Reads untrusted text, JSON and TOML within limits on file size, nesting and number of values.

Only regular files are opened. Every error is a ValueError (or the OSError of the file) whose text completes
"FILE cannot be read (...)"; the caller names the file and the expected content.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import struct
import tomllib
from pathlib import Path
from typing import IO, Any, NoReturn

from robustness.files.open_folder import kind

MAX_JSON_BYTES = 256 << 20
MAX_TOML_BYTES = 1 << 20
MAX_DEPTH = 100
"""The largest number of nested levels of lists and tables."""
MAX_VALUES = 10_000_000
_ZIP_TAIL = 22 + (1 << 16)  # the last record, with the longest comment
_UNSAID = 0xFFFFFFFF
_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"
# The time of tomllib grows with the square of the number of parts of a dotted key.
_DOTTED = re.compile(rf"(?:[^\s.=#\[\]]{{1,200}}[ \t]*\.[ \t]*){{{MAX_DEPTH}}}")


class Oversized(ValueError):  # noqa: N818 - its text is the reason, as that of other ValueErrors
    """The content exceeds a limit."""


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a regular file for reading bytes, without blocking; links to it are followed.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        It is not a regular file: reading a pipe or a device may block or never end.
    """
    # Opening a device may trigger an action, so its type is checked first.
    _expect_regular(os.stat(path))  # noqa: PTH116 - also for paths given as text
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _expect_regular(os.fstat(file))
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def _expect_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"it is not a regular file but {kind(status)}")


def read_bytes_bounded(path: str | Path, limit: int) -> bytes:
    """Read a regular file that the user named; a link to it is followed.

    Parameters
    ----------
    path : str or Path
        The file.
    limit : int
        The largest number of bytes to read.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    ValueError
        It is larger than `limit`, or not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size  # read(n) allocates n bytes at once
        data = file.read(min(size, limit) + 1)
    if max(size, len(data)) > limit:
        raise Oversized(f"it is larger than {limit:,} bytes, the most that is read")
    return data


def read_text_bounded(path: str | Path, limit: int = MAX_JSON_BYTES) -> str:
    """Read the UTF-8 text of a regular file of at most `limit` bytes; errors as `read_bytes_bounded`.

    A byte order mark, which some editors write, is left out.
    """
    return read_bytes_bounded(path, limit).decode("utf-8-sig")


def zip_directory_bytes(file: IO[bytes]) -> int:
    """Return the size in bytes that a zip archive states for its list of members; 0 without such a list.

    `zipfile` reads the whole list and makes an object of each member before any limit can be applied.
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - _ZIP_TAIL))
    tail = file.read(_ZIP_TAIL)
    place = tail.rfind(b"PK\x05\x06")
    claimed = 0
    if 0 <= place <= len(tail) - 22:
        (claimed,) = struct.unpack_from("<L", tail, place + 12)
        locator = start + place - 20
        if locator >= 0:
            claimed = max(claimed if claimed < _UNSAID else 0, _zip64(file, locator, size))
    file.seek(0)
    return min(claimed, size)


def _zip64(file: IO[bytes], locator: int, size: int) -> int:
    file.seek(locator)
    words = file.read(20)
    if words[:4] != b"PK\x06\x07":
        return 0
    # `zipfile` reads the record directly before the locator, whatever offset the locator states.
    file.seek(max(0, locator - 56))
    record = file.read(56)
    return struct.unpack_from("<Q", record, 40)[0] if record[:4] == b"PK\x06\x06" else size


def parse_json(
    text: str | bytes,
    *,
    max_bytes: int = MAX_JSON_BYTES,
    max_values: int = MAX_VALUES,
    max_depth: int = MAX_DEPTH,
    finite: bool = True,
) -> Any:
    """Parse a JSON text, within limits on its size, number of values and nesting.

    Parameters
    ----------
    text : str or bytes
        The JSON; bytes in UTF-8, UTF-16 or UTF-32.
    max_bytes : int
        The largest length of `text`.
    max_values : int
        The largest number of commas and opening brackets, including those within strings; they are counted
        before the text is parsed.
    max_depth : int
        The largest number of nested levels.
    finite : bool
        Whether NaN and numbers beyond the largest float are refused.

    Raises
    ------
    ValueError
        The text is not JSON, or exceeds a limit.
    """
    if len(text) > max_bytes:
        raise Oversized(f"it is larger than {max_bytes:,} bytes, the most that is read")
    if sum(_count(text, sign) for sign in ",[{") > max_values:
        raise Oversized(f"it holds more than {max_values:,} values")
    try:
        value = json.loads(
            text,
            parse_constant=_not_finite if finite else None,
            parse_float=_finite if finite else None,
        )
    except RecursionError:
        raise Oversized(f"it is nested deeper than {max_depth} levels") from None
    expect_shallow(value, max_depth)
    return value


def parse_toml(text: str, *, max_bytes: int = MAX_TOML_BYTES) -> dict[str, Any]:
    """Parse a TOML text, within limits on its size and nesting.

    Raises
    ------
    ValueError
        The text is not TOML, or exceeds a limit.
    """
    if len(text) > max_bytes:
        raise Oversized(f"it is larger than {max_bytes:,} characters, the most that is read")
    if _DOTTED.search(text):
        raise Oversized(_DEEP)
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise Oversized(_DEEP) from None
    expect_shallow(table)
    return table


def expect_shallow(value: Any, max_depth: int = MAX_DEPTH) -> None:
    """Raise Oversized if lists and tables are nested more than `max_depth` levels deep."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(max_depth + 1):
        if not level:
            return
        insides = (one.values() if isinstance(one, dict) else one for one in level)
        level = [inner for inside in insides for inner in inside if isinstance(inner, (dict, list))]
    raise Oversized(f"it is nested deeper than {max_depth} levels")


def _count(text: str | bytes, sign: str) -> int:
    return text.count(sign) if isinstance(text, str) else text.count(sign.encode())


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text[:20])


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"it holds the number {text}, which is not finite")
