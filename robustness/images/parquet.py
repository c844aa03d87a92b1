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

from robustness.errors import ImagesError, RobustnessError, SettingError
from robustness.files.places import ByteFile, ChangedFileError
from robustness.images.compact import TOO_LARGE, CompactSource, Listing, described, labels_of_words
from robustness.images.entries import Unreadable
from robustness.images.parquet_columns import MAX_FOOTER, Columns, class_labels, find_columns
from robustness.images.parquet_pages import expect_small_pages
from robustness.images.picture_index import MAX_INDEXED, Index, Words, unique_names
from robustness.images.png import MAX_BYTES
from robustness.images.shards import expect_no_page, in_turn
from robustness.images.spool import Spool
from robustness.text import plural

_ROWS, _NAMES, _LONGEST = 16, 4096, 1000
_SHORT = "The row group ends before this row does."


class _Raw(io.RawIOBase):
    """A `ByteFile` as a file object."""

    def __init__(self, file: ByteFile) -> None:
        self._file, self._at = file, 0
        self.chunks = False
        """Whether what is read are column chunks, as it is when the footer was read."""

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
        if self.chunks:
            expect_small_pages(data, self._file.name)
        return data


class _Pictures:
    """The pictures of one file by row. A row group is decoded once, and kept as far as the spool has room."""

    def __init__(self, file: Any, columns: Columns, spool: Spool) -> None:
        self._file, self._columns, self._spool = file, columns, spool
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
        if inside >= len(sizes):
            raise Unreadable(_SHORT)
        _expect_picture(sizes[inside])
        return self._spool.get(offsets[inside], sizes[inside])

    def _decode(self, group: int, wanted: int) -> bytes | None:
        """Copy the pictures of a row group; or return only the one in a row, where there is no more room."""
        offsets, sizes = array("q"), array("q")
        for size, data in self._rows(group):
            if not self._spool.has_room(len(data)):
                return self._one(group, wanted)
            offsets.append(self._spool.put(data))
            sizes.append(size)
        self._places[group] = offsets, sizes
        return None

    def _one(self, group: int, wanted: int) -> bytes:
        for number, (size, data) in enumerate(self._rows(group)):
            if number == wanted:
                _expect_picture(size)
                return data
        raise Unreadable(_SHORT)

    def _rows(self, group: int) -> Iterator[tuple[int, bytes]]:
        """The size of each picture file, -1 for none, and its bytes, b"" if it is too large."""
        try:
            for batch in self._file.iter_batches(
                batch_size=_ROWS,
                row_groups=[group],
                columns=[self._columns.leaf],
                use_threads=False,
            ):
                values = batch.column(batch.schema.names.index(self._columns.image))
                if self._columns.nested:
                    values = values.field("bytes")
                for value in values:
                    scalar = value.value if hasattr(value, "dictionary") else value
                    data = scalar.as_buffer() if scalar.is_valid else None
                    size = -1 if data is None else data.size
                    yield size, b"" if data is None or size > MAX_BYTES else data.to_pybytes()
        except ImagesError as error:
            raise Unreadable("Its pages unpack to far more bytes than they have.") from error
        except RobustnessError:
            raise
        except (ChangedFileError, FileNotFoundError) as error:
            raise Unreadable(f"The file cannot be read: {error}.") from error
        except Exception as error:  # pyarrow raises many types
            raise Unreadable(f"The row group is damaged ({str(error)[:100]}).") from error


def _expect_picture(size: int) -> None:
    if size < 0:
        raise Unreadable("The row holds no picture.")
    if size > MAX_BYTES:
        raise Unreadable(TOO_LARGE)


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
    cache_bytes : the most bytes on the disk, of copies of remote files and of decoded pictures together.

    Raises
    ------
    ImagesError
        A file is damaged, its columns are not clear, or a label is not a class.
    SettingError
        pyarrow is not installed.
    """
    copied = sum(file.size for file in files if getattr(file, "whole", False))
    scan, spool, pictures = _Scan(), Spool(what, max(0, cache_bytes - copied)), []
    first: Columns | None = None
    for number, file in enumerate(in_turn(files)):
        table = _opened(file, ())
        columns = find_columns(file.name, table, label_column)
        table = _opened(file, _texts(table, columns))
        if first is not None and columns != first:
            raise ImagesError(
                f"{file.name} has other columns or classes than {files[0].name}; expected files of one data "
                "set."
            )
        first = columns
        if table.metadata.num_rows > file.size:
            raise ImagesError(
                f"{file.name} states {table.metadata.num_rows:,} rows and has {file.size:,} bytes; "
                "expected a picture in each row."
            )
        if len(scan.index) + table.metadata.num_rows > MAX_INDEXED:
            raise ImagesError(f"{what} holds more than {MAX_INDEXED:,} pictures.")
        _index(scan, number, file, table, columns)
        pictures.append(_Pictures(table, columns, spool))
    if first is None or not len(scan.index):
        raise ImagesError(f"{what} holds no rows; expected a picture in each.")
    if not scan.named:
        scan.index.renamed(lambda number: f"row {number}")
    unique_names(scan.index, files)
    texts, words = scan.words.texts(), np.frombuffer(scan.labels, np.int64)
    if not first.label:
        labels, names = np.full(len(words), -1), known or first.class_names
    elif first.class_names is not None:
        labels, names = class_labels(what, texts, words, first.class_names, known)
    else:
        labels, names = labels_of_words(texts, words, known, what)
    notes = [plural(len(files), "file")] * (len(files) > 1)
    notes += [f"labels of the column {first.label}"] if first.label else []

    def stored(file: int, row: int) -> bytes:
        return pictures[file].read(row)

    listing = Listing(described(what, labels, notes), names, scan.index, labels)
    return CompactSource(listing, files, stored=stored)


def _opened(file: ByteFile, texts: Sequence[str]) -> Any:
    """The file; what repeats in the columns `texts` is held once, as in the file."""
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingError(
            "Parquet needs pyarrow, which is not installed. Install it with "
            "`pip install 'robustness-toolkit[parquet]'`."
        ) from error
    tail = file.read_at(max(0, file.size - 8), 8)
    footer = struct.unpack("<I", tail[:4])[0] if len(tail) == 8 else 0
    if tail[4:] != b"PAR1":
        expect_no_page(file, file.read_at(0, 64))
    if tail[4:] != b"PAR1" or not 0 < footer <= min(MAX_FOOTER, file.size):
        raise ImagesError(
            f"{file.name} does not end like a Parquet file, as half a download does not; fetch it again."
        )
    raw = _Raw(file)
    try:
        table = pq.ParquetFile(
            raw,
            pre_buffer=False,
            read_dictionary=list(texts),
            thrift_string_size_limit=MAX_FOOTER,
            thrift_container_size_limit=10_000_000,
        )
    except RobustnessError:
        raise
    except Exception as error:  # pyarrow raises many types
        raise _damaged(file, error) from error
    raw.chunks = True
    return table


def _texts(table: Any, columns: Columns) -> list[str]:
    """The columns that are read whose values are bytes or text."""
    schema = table.metadata.schema
    wanted = {columns.leaf, columns.label} | ({f"{columns.image}.path"} if columns.path else set())
    found = (schema.column(number) for number in range(len(schema)))
    return [one.path for one in found if one.path in wanted and one.physical_type == "BYTE_ARRAY"]


def _damaged(file: ByteFile, error: Exception | str) -> ImagesError:
    why = str(error)[:200] or type(error).__name__
    return ImagesError(
        f"{file.name} cannot be read ({why}); expected a sound Parquet file. Fetch it again."
    )


def _index(scan: _Scan, number: int, file: ByteFile, table: Any, columns: Columns) -> None:
    wanted = [f"{columns.image}.path"] * columns.path + [columns.label] * bool(columns.label)
    metadata, row = table.metadata, 0
    for group in range(metadata.num_row_groups):
        count, first = metadata.row_group(group).num_rows, row
        for path, label in _names(file, table, group, wanted, columns) if wanted else ():
            _add(scan, number, row, path, label)
            row += 1
        if not wanted:
            for row in range(first, first + count):
                _add(scan, number, row, None, None)
            row = first + count
        if row - first != count:
            raise _damaged(file, f"a group of {count:,} rows has {row - first:,}")


def _names(
    file: ByteFile, table: Any, group: int, wanted: list[str], columns: Columns
) -> Iterator[tuple[Any, Any]]:
    """The path and the label of each row of a group."""
    try:
        for batch in table.iter_batches(
            batch_size=_NAMES, row_groups=[group], columns=wanted, use_threads=False
        ):
            found: dict[str, list[Any]] = {}
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                if name == columns.image and columns.path:
                    found["path"] = _values(values.field("path"))
                elif name == columns.label:
                    found["label"] = _values(values)
            gaps: list[Any] = [None] * batch.num_rows
            yield from zip(found.get("path", gaps), found.get("label", gaps), strict=True)
    except RobustnessError:
        raise
    except Exception as error:  # pyarrow raises many types
        raise _damaged(file, error) from error


def _values(values: Any) -> list[Any]:
    """The values of an array; those of texts that repeat are made once, and none is longer than a name."""
    if not hasattr(values, "dictionary"):
        return list(map(_cut, values))
    words = [_cut(word) for word in values.dictionary]
    return [None if place is None else words[place] for place in values.indices.to_pylist()]


def _cut(scalar: Any) -> Any:
    value = scalar.as_py()
    return value[:_LONGEST] if isinstance(value, (str, bytes)) else value


def _add(scan: _Scan, number: int, row: int, path: Any, label: Any) -> None:
    name = path if isinstance(path, str) else ""
    scan.named = scan.named and bool(name)
    scan.index.add(name or f"row {len(scan.index)}", number, row, 0)
    if isinstance(label, bytes):
        label = label.decode("utf-8", "backslashreplace")
    text = "" if label is None else str(int(label) if isinstance(label, bool) else label).strip()
    scan.labels.append(scan.words.number(text) if text else -1)
