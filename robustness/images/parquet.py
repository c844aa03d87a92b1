"""Opens Parquet files with a column of pictures, as Hugging Face's data sets are: one, a folder, or a range.

The labels and names are read at once; pictures by row group, a few rows at a time. What was decoded is kept
in a temporary file within a bound, so that pictures can be read in any order.
"""

from __future__ import annotations

import io
import struct
import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robustness.errors import ImagesError, SettingError
from robustness.files.bounded import parse_json
from robustness.files.places import ByteFile
from robustness.images import csv_columns
from robustness.images.compact import (
    MAX_INDEXED,
    TOO_LARGE,
    CompactSource,
    Index,
    Words,
    described,
    labels_of_words,
    unique_names,
)
from robustness.images.entries import Unreadable
from robustness.images.png import MAX_BYTES
from robustness.images.shards import in_turn
from robustness.images.spool import Spool
from robustness.text import plural

MAX_FOOTER = 256 << 20
"""The largest description of a file's columns and row groups in bytes."""
_ROWS, _NAMES = 16, 4096
_NO_LABEL = {"", "-1"}


@dataclass(frozen=True)
class _Columns:
    """Which columns hold pictures, names and labels, and the class names that the file states."""

    image: str
    path: str
    label: str
    class_names: tuple[str, ...] | None


class _Raw(io.RawIOBase):
    """A `ByteFile` as a file object."""

    def __init__(self, file: ByteFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        )
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._file.size - self._at)
        data = self._file.read_at(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data


class _Pictures:
    """The pictures of one file by row. A row group is decoded once, and kept as far as the spool has room."""

    def __init__(self, file: Any, column: str, spool: Spool) -> None:
        self._file, self._column, self._spool = file, column, spool
        self._lock = threading.Lock()
        counts = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._places: dict[int, tuple[array[int], array[int]]] = {}

    def read(self, row: int) -> bytes:
        """Return the picture file in a row."""
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        inside = row - int(self._starts[group])
        with self._lock:
            if group not in self._places and (found := self._decode(group, inside)) is not None:
                return found
        offsets, sizes = self._places[group]
        if sizes[inside] < 0:
            raise Unreadable("The row holds no picture.")
        if sizes[inside] > MAX_BYTES:
            raise Unreadable(TOO_LARGE)
        return self._spool.get(offsets[inside], sizes[inside])

    def _decode(self, group: int, wanted: int) -> bytes | None:
        """Copy the pictures of a row group; or return only the one in a row, where there is no more room."""
        offsets, sizes = array("q"), array("q")
        for data in self._rows(group):
            size = -1 if data is None else len(data)
            kept = b"" if data is None or size > MAX_BYTES else data
            if not self._spool.has_room(len(kept)):
                return self._one(group, wanted)
            offsets.append(self._spool.put(kept))
            sizes.append(size)
        self._places[group] = offsets, sizes
        return None

    def _one(self, group: int, wanted: int) -> bytes:
        for number, data in enumerate(self._rows(group)):
            if number == wanted:
                if data is None:
                    raise Unreadable("The row holds no picture.")
                if len(data) > MAX_BYTES:
                    raise Unreadable(TOO_LARGE)
                return data
        raise Unreadable("The row group ends before this row does.")

    def _rows(self, group: int) -> Iterator[bytes | None]:
        try:
            for batch in self._file.iter_batches(
                batch_size=_ROWS, row_groups=[group], columns=[self._column], use_threads=False
            ):
                values = batch.column(0)
                if self._column.endswith(".bytes"):
                    values = values.field(0)
                for value in values:
                    yield value.as_py()
        except (OSError, ValueError, MemoryError) as error:  # also the errors of pyarrow
            raise Unreadable(f"The row group is damaged ({str(error)[:100]}).") from error


@dataclass
class _Scan:
    index: Index = field(default_factory=Index)
    words: Words = field(default_factory=Words)
    labels: array[int] = field(default_factory=lambda: array("q"))
    named: bool = True


def open_parquet(
    files: Sequence[ByteFile],
    what: str,
    known: Sequence[str] | None,
    label_column: str | None,
    cache_bytes: int,
) -> CompactSource:
    """Open Parquet files as one source.

    Parameters
    ----------
    files : the files, in the order of their names.
    what : what they are, for the report.
    known : the class names; None for those that the schema states.
    label_column : the column of labels; "none" for no labels; None to find it.
    cache_bytes : the most bytes of pictures that are kept on the disk.

    Raises
    ------
    ImagesError
        A file is damaged, its columns are not clear, or a label is not a class.
    SettingError
        pyarrow is not installed.
    """
    scan, spool, pictures = _Scan(), Spool(what, cache_bytes), []
    first: _Columns | None = None
    for number, file in enumerate(in_turn(files)):
        table = _opened(file)
        columns = _columns(file.name, table, label_column)
        if first is not None and columns != first:
            raise ImagesError(
                f"{file.name} has other columns or classes than {files[0].name}; expected files of one data "
                "set."
            )
        first = columns
        if len(scan.index) + table.metadata.num_rows > MAX_INDEXED:
            raise ImagesError(f"{what} holds more than {MAX_INDEXED:,} pictures.")
        _index(scan, number, file, table, columns)
        pictures.append(_Pictures(table, columns.image, spool))
    if first is None or not len(scan.index):
        raise ImagesError(f"{what} holds no rows; expected a picture in each.")
    if not scan.named:
        scan.index.renamed(lambda number: f"row {number}")
    unique_names(scan.index, files)
    texts, words = scan.words.texts(), np.frombuffer(scan.labels, np.int64)
    if not first.label:
        labels, names = np.full(len(words), -1), known or first.class_names
    elif first.class_names is not None:
        labels, names = _class_labels(what, texts, words, first.class_names, known)
    else:
        labels, names = labels_of_words(texts, words, known, what)
    notes = [plural(len(files), "file")] * (len(files) > 1)
    notes += [f"labels of the column {first.label}"] if first.label else []

    def stored(file: int, row: int) -> bytes:
        return pictures[file].read(row)

    return CompactSource(
        described(what, labels, notes), names, scan.index, labels, files, stored=stored
    )


def _opened(file: ByteFile) -> Any:
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingError(
            "Parquet needs pyarrow, which is not installed. Install it with "
            "`pip install 'robustness-toolkit[parquet]'`."
        ) from error
    tail = file.read_at(max(0, file.size - 8), 8)
    footer = struct.unpack("<I", tail[:4])[0] if len(tail) == 8 else 0
    if tail[4:] != b"PAR1" or not 0 < footer <= min(MAX_FOOTER, file.size):
        raise ImagesError(
            f"{file.name} does not end like a Parquet file, as half a download does not; fetch it again."
        )
    try:
        return pq.ParquetFile(
            _Raw(file),
            pre_buffer=False,
            thrift_string_size_limit=MAX_FOOTER,
            thrift_container_size_limit=10_000_000,
        )
    except (OSError, ValueError) as error:  # also the errors of pyarrow
        raise _damaged(file, error) from error


def _damaged(file: ByteFile, error: Exception) -> ImagesError:
    return ImagesError(
        f"{file.name} cannot be read ({str(error)[:200]}); expected a sound Parquet file. Fetch it again."
    )


def _columns(name: str, table: Any, asked: str | None) -> _Columns:
    """Find the columns, by Hugging Face's description in the schema, by their types, and by their names."""
    schema = table.schema_arrow
    features = _features(schema)
    typed = [f.name for f in schema if _holds_pictures(f.type)]
    marked = [n for n in typed if features.get(n, {}).get("_type") == "Image"]
    known = [n for n in typed if csv_columns.is_one(n, csv_columns.PATHS)]
    images = next((some for some in (marked, typed, known) if len(some) == 1), [])
    held = f"{name} has the columns {', '.join(schema.names[:20])}"
    if not images:
        number = "several" if len(typed) > 1 else "none"
        raise ImagesError(
            f"{held}, and {number} of them may hold the pictures; expected one of bytes, or of bytes and "
            "path, such as `image`."
        )
    image = images[0]
    kind = schema.field(image).type
    inner = {kind.field(n).name for n in range(kind.num_fields)}
    label = _label(held, schema, features, asked, image)
    stated = features.get(label, {})
    names = stated.get("names") if stated.get("_type") == "ClassLabel" else None
    classes = tuple(map(str, names)) if isinstance(names, list) and names else None
    return _Columns(
        f"{image}.bytes" if inner else image,
        f"{image}.path" if "path" in inner else "",
        label,
        classes,
    )


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What Hugging Face's description in the schema says about each column."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found = parse_json(text, max_bytes=MAX_FOOTER).get("info", {}).get("features", {})
        return {str(k): v for k, v in found.items() if isinstance(v, dict)}
    except (ValueError, AttributeError):
        return {}


def _holds_pictures(kind: Any) -> bool:
    import pyarrow.types as types  # noqa: PLC0415, PLR0402 - an extra

    def binary(one: Any) -> bool:
        return bool(types.is_binary(one) or types.is_large_binary(one))

    if not types.is_struct(kind):
        return binary(kind)
    inner = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
    return "bytes" in inner and binary(inner["bytes"])


def _label(
    held: str, schema: Any, features: dict[str, dict[str, Any]], asked: str | None, image: str
) -> str:
    """The column of labels; "" for none. ImagesError if it is not clear."""
    others = [name for name in schema.names if name != image]
    if asked is not None:
        if asked.casefold() == csv_columns.NONE:
            return ""
        if asked not in others:
            raise ImagesError(f"{held}; expected the label column {asked!r} to be one of them.")
        return asked
    marked = [name for name in others if features.get(name, {}).get("_type") == "ClassLabel"]
    known = [name for name in others if csv_columns.is_one(name, csv_columns.LABELS)]
    for some in (["label"] if "label" in others else [], marked, known):
        if len(some) == 1:
            return some[0]
    if len(marked) > 1 or len(known) > 1:
        raise ImagesError(
            f"{held}; {', '.join(marked or known)} may each be the label. Say which: --label-column NAME on "
            "the command line, label_column=NAME in Python."
        )
    return ""


def _index(scan: _Scan, number: int, file: ByteFile, table: Any, columns: _Columns) -> None:
    wanted = [name for name in (columns.path, columns.label) if name]
    row = 0
    if not wanted:
        for row in range(table.metadata.num_rows):
            _add(scan, number, row, None, None)
        return
    try:
        for batch in table.iter_batches(batch_size=_NAMES, columns=wanted, use_threads=False):
            count = batch.num_rows
            paths, labels = [None] * count, [None] * count
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                if columns.path and name == columns.path.removesuffix(".path"):
                    paths = values.field(0).to_pylist()
                elif name == columns.label:
                    labels = values.to_pylist()
            for path, label in zip(paths, labels, strict=True):
                _add(scan, number, row, path, label)
                row += 1
    except (OSError, ValueError) as error:  # also the errors of pyarrow
        raise _damaged(file, error) from error


def _add(scan: _Scan, number: int, row: int, path: Any, label: Any) -> None:
    name = path[:1000] if isinstance(path, str) else ""
    scan.named = scan.named and bool(name)
    scan.index.add(name or f"row {len(scan.index)}", number, row, 0)
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    text = "" if label is None else str(int(label) if isinstance(label, bool) else label).strip()
    scan.labels.append(scan.words.number(text[:1000]) if text else -1)


def _class_labels(
    what: str,
    texts: list[str],
    words: np.ndarray,
    names: tuple[str, ...],
    known: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels of numbers whose names the schema states; -1 is no label, as in Hugging Face's test splits."""
    numbers = [int(text) if text.lstrip("-").isdigit() else None for text in texts]
    wrong = [
        t for t, n in zip(texts, numbers, strict=True) if n is None or not -1 <= n < len(names)
    ]
    if wrong:
        raise ImagesError(
            f"{what}: label {wrong[0][:60]!r} is not a class; expected a number from 0 to {len(names) - 1}, "
            "as the schema states."
        )
    of_text = np.array([-1 if n is None or n < 0 else n for n in numbers] + [-1])
    labels = of_text[words]
    if known is None or tuple(known) == names:
        return labels, names
    return labels_of_words(names, labels, known, what)
