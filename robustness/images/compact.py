"""A source of millions of pictures in a few arrays: keys, and at which offset of which file each lies."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from robustness.errors import ImagesError
from robustness.files.places import ByteFile
from robustness.images.class_match import ClassTable
from robustness.images.decode import decode
from robustness.images.entries import (
    Entry,
    Picture,
    Shape,
    Unreadable,
    bare,
    key_of,
    readable,
    unreadable,
)
from robustness.images.labels import by_word
from robustness.images.png import MAX_BYTES
from robustness.text import plural

MAX_INDEXED = 16_000_000
"""The largest number of pictures in an index."""
MAX_WORDS = 1_000_000
"""The largest number of different labels."""
MAX_NAMES = 2 << 30
"""The most bytes of the names of all pictures."""
TOO_LARGE = f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read."
_PART = "The file ends before this picture does."

Extract = Callable[[bytes], bytes]
"""Returns the bytes of the picture file in a record; raises Unreadable."""


class Words:
    """Distinct texts by number, such as labels or sentences."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        """Return the number of a text, a new one for a new text; ImagesError if there are too many."""
        if len(self._numbers) >= MAX_WORDS and word not in self._numbers:
            raise ImagesError(
                f"The images have more than {MAX_WORDS:,} different labels, the most that are read. Is the "
                "label a text about each image? Name another with --label-column (label_column= in Python)."
            )
        return self._numbers.setdefault(word, len(self._numbers))

    def texts(self) -> list[str]:
        """Return the texts in the order of their numbers."""
        return list(self._numbers)


class Index:
    """Where pictures lie: a name, a file, an offset and a size each, 25 bytes beside the name.

    Attributes
    ----------
    faults : the sentences about pictures that are not read.
    """

    def __init__(self) -> None:
        self._names, self._ends = bytearray(), array("Q")
        self.file, self.offset, self.size = array("I"), array("Q"), array("Q")
        self.fault = array("B")
        self.faults = Words()
        self.faults.number("")

    COLUMNS: ClassVar[Mapping[str, str]] = {
        "names": "B",
        "ends": "Q",
        "files": "I",
        "offsets": "Q",
        "sizes": "Q",
        "faults": "B",
    }
    """The arrays of an index, and the type of each as in `array`."""

    @classmethod
    def of_columns(
        cls, columns: Mapping[str, np.ndarray], faults: Sequence[str], sizes: Sequence[int]
    ) -> Index:
        """Return the index with these `columns`, made by `columns()`.

        Parameters
        ----------
        columns : the arrays, by name.
        faults : the sentences about pictures that are not read, by number.
        sizes : the sizes of the files in bytes.

        Raises
        ------
        ValueError
            The arrays do not fit each other or the files.
        """
        for name, kind in cls.COLUMNS.items():
            if columns[name].dtype != np.dtype(kind) or columns[name].ndim != 1:
                raise ValueError(f"{name} is no column of an index")
        names, ends, file, offset, size, fault = (columns[name] for name in cls.COLUMNS)
        if any(len(one) != len(ends) for one in (file, offset, size, fault)) or not len(ends):
            raise ValueError("the columns have different lengths")
        if ends[-1] != len(names) or (np.diff(ends.astype(np.int64)) < 0).any():
            raise ValueError("the names end elsewhere")
        if file.max() >= len(sizes) or fault.max() >= len(faults):
            raise ValueError("a number is out of range")
        room = np.array(sizes, np.uint64)[file]
        if (size > room).any() or (offset > room - np.minimum(size, room)).any():
            raise ValueError("a picture lies outside its file")
        made = cls()
        made._names = bytearray(names.tobytes())
        arrays = (made._ends, made.file, made.offset, made.size, made.fault)
        for array_, column in zip(arrays, (ends, file, offset, size, fault), strict=True):
            array_.frombytes(column.tobytes())
        for sentence in faults:
            made.faults.number(sentence)
        return made

    def columns(self) -> dict[str, np.ndarray]:
        """Return the arrays, by name; `faults` is not among them."""
        arrays: tuple[Any, ...] = (
            *(self._names, self._ends),
            *(self.file, self.offset, self.size, self.fault),
        )
        columns = zip(self.COLUMNS.items(), arrays, strict=True)
        return {name: np.frombuffer(one, kind) for (name, kind), one in columns}

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, name: str, file: int, offset: int, size: int, fault: str = "") -> None:
        """Append a picture; `name` is a path or "" for a picture without name.

        Raises
        ------
        ImagesError
            The names of all pictures together are too long.
        """
        if len(self._names) > MAX_NAMES:
            raise ImagesError(
                f"The names of the pictures have more than {MAX_NAMES >> 20:,} MiB together, the most that "
                "is read. Give fewer pictures."
            )
        self._names += name.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._names))
        self.file.append(file)
        self.offset.append(offset)
        self.size.append(size)
        self.fault.append(self.faults.number(fault))

    def name(self, number: int) -> str:
        """Return the name of a picture."""
        start = self._ends[number - 1] if number else 0
        return self._names[start : self._ends[number]].decode("utf-8", "surrogateescape")

    def names(self) -> Iterator[str]:
        """Return the names of all pictures, in order."""
        if not self._names.isascii():
            return map(self.name, range(len(self)))
        # A character is a byte, so that all names are decoded at once.
        text = self._names.decode("ascii")
        return map(text.__getitem__, map(slice, chain((0,), self._ends), self._ends))

    def keys(self) -> Iterator[str]:
        """Return the names of all pictures as keys, in order; see `key_of`."""
        return self.names() if self._names.isascii() else map(key_of, self.names())

    def blame(self, number: int, fault: str) -> None:
        """Note why a picture is not read, unless there is a reason already."""
        if not self.fault[number]:
            self.fault[number] = self.faults.number(fault)

    def kept(self, keep: np.ndarray) -> Index:
        """Return an index of the pictures for which the mask `keep` is true."""
        if keep.all():
            return self
        made = Index()
        texts = self.faults.texts()
        for number in np.flatnonzero(keep).tolist():
            made.add(
                self.name(number),
                self.file[number],
                self.offset[number],
                self.size[number],
                texts[self.fault[number]],
            )
        return made

    def renamed(self, name: Callable[[int], str]) -> None:
        """Give every picture the name that `name` returns for its number."""
        names, ends = bytearray(), array("Q")
        for number in range(len(self)):
            names += name(number).encode("utf-8", "surrogateescape")
            ends.append(len(names))
        self._names, self._ends = names, ends

    def repeated(self) -> list[int]:
        """Return the numbers of the pictures whose name an earlier one has."""
        if not len(self):
            return []
        hashes = np.fromiter(map(hash, self.names()), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(np.diff(hashes[order]) == 0)
        suspects = sorted({*order[same].tolist(), *order[same + 1].tolist()})
        seen: set[str] = set()
        found = []
        for number in suspects:
            name = self.name(number)
            if name in seen:
                found.append(number)
            seen.add(name)
        return found


@dataclass(frozen=True, eq=False)
class Listing:
    """What one pass over the files of a source has found.

    Parameters
    ----------
    description : one line for the report.
    class_names : the class names by label; None if unknown.
    index : where the pictures lie; its names are the keys, each once.
    labels : ndarray of int, shape (pictures,), -1 for no label.
    table : which folder has which class, where folders were matched with known classes.
    """

    description: str
    class_names: Sequence[str] | None
    index: Index
    labels: np.ndarray
    table: ClassTable | None = None


_TRIED = 16
"""The number of files that are tried before all of them count as lost."""


class CompactSource:
    """Pictures of a listing.

    Parameters
    ----------
    listing : the pictures.
    files : the files that its index numbers.
    extract : returns the picture file in the bytes at an offset; None if they are the picture file.
    stored : returns the picture file in a file (its number) at an offset, where these are no bytes of files.
    """

    access: ClassVar[str] = "random"
    empty: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        listing: Listing,
        files: Sequence[ByteFile],
        *,
        extract: Extract | None = None,
        stored: Callable[[int, int], bytes] | None = None,
    ) -> None:
        self.listing, index, names = listing, listing.index, listing.class_names
        self.description, self.table = listing.description, listing.table
        self.class_names = None if names is None else tuple(names)
        self._index, self._labels, self._files = index, listing.labels.astype(np.int32), list(files)
        self._extract, self._stored, self._turned = extract, stored, True
        self._sentences = index.faults.texts()
        count = len(index)
        hashes = np.fromiter(map(hash, index.keys()), np.int64, count)
        self._order = np.argsort(hashes, kind="stable").astype(np.uint32)
        self._hashes = hashes[self._order]
        self.threads = max((getattr(file, "threads", 0) for file in self._files), default=0) or None

    def entries(self) -> list[Entry]:
        """Return all entries, always in the same order."""
        return [
            Entry(key, bare(key), None if label < 0 else label)
            for key, label in zip(self._index.keys(), self._labels.tolist(), strict=True)
        ]

    @property
    def count(self) -> int:
        """The number of entries."""
        return len(self._index)

    def unturned(self) -> CompactSource:
        """Return this source with pictures as they are stored, not turned as their EXIF orientation says."""
        other = copy.copy(self)
        other._turned = False
        return other

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Decode one picture to `shape`; a bad one has a reason and no pixels."""
        number = self._number(entry.key)
        if number is None:
            return unreadable(entry, "The source holds no picture of this key.")
        if fault := self._sentences[self._index.fault[number]]:
            return unreadable(entry, fault)
        try:
            data = self._bytes(number)
            return readable(entry, *decode(data, entry.name, shape, turned=self._turned))
        except Unreadable as problem:
            return unreadable(entry, str(problem))

    def lost(self) -> str:
        """Return why none of the files can be read any more, a phrase; "" if one can.

        Of many files the first are tried.
        """
        why = ""
        for file in self._files[:_TRIED]:
            try:
                file.read_at(0, 1)
            except OSError as error:
                why = why or f"{key_of(file.name)}: {_words(error)}"
            else:
                return ""
        return why

    def _bytes(self, number: int) -> bytes:
        index = self._index
        if self._stored is not None:
            return self._stored(index.file[number], index.offset[number])
        size, file = index.size[number], self._files[index.file[number]]
        try:
            data = file.read_at(index.offset[number], size)
        except OSError as error:
            raise Unreadable(f"{key_of(file.name)} cannot be read: {_words(error)}.") from error
        if len(data) < size:
            raise Unreadable(_PART)
        return data if self._extract is None else self._extract(data)

    def _number(self, key: str) -> int | None:
        wanted = hash(key)
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            number = int(self._order[place])
            if key_of(self._index.name(number)) == key:
                return number
            place += 1
        return None


def _words(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    return text.rstrip(".")


def described(what: str, labels: np.ndarray, notes: Sequence[str], left_out: int = 0) -> str:
    """Return one line such as "tar shards data, 2 classes, 300 images (4 without label)"."""
    classes = len(np.unique(labels[labels >= 0]))
    missing = int((labels < 0).sum()) if classes else 0
    named = plural(classes, "class", "classes") if classes else "no labels"
    partly = f" ({missing:,} without label)" if missing else ""
    out = [f"{plural(left_out, 'image')} left out"] if left_out else []
    return ", ".join([what, named, plural(len(labels), "image") + partly, *notes, *out])


def labels_of_words(
    texts: Sequence[str], words: np.ndarray, known: Sequence[str] | None, what: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the labels of pictures whose labels are texts, and the class names.

    Parameters
    ----------
    texts : the distinct texts.
    words : ndarray of int, shape (pictures,), the number of the text of each picture; -1 for none.
    known : the class names; None if they are not known.
    what : the source, for the message.

    Raises
    ------
    ImagesError
        A text is not a class; see `labels.by_word`.

    Notes
    -----
    -1 is no label where no other is one below 0 and 0 is a label, or where there is no other: so TensorFlow's
    and Hugging Face's data sets write it. With 1 alone it may be the other of two classes.
    """
    words = np.where(np.isin(words, _no_labels(texts, words)), -1, words)
    used, counts = np.unique(words[words >= 0], return_counts=True)
    try:
        labelling = by_word([texts[number] for number in used], known, counts.tolist())
    except ImagesError as error:
        raise ImagesError(f"{what}: {error}") from error
    label_of = np.full(len(texts) + 1, -1)
    label_of[used] = [-1 if label is None else label for label in labelling.labels]
    return label_of[words], labelling.class_names


def _no_labels(texts: Sequence[str], words: np.ndarray) -> list[int]:
    """The texts that are -1 and mean no label; see `labels_of_words`."""
    used = [number for number in np.unique(words[words >= 0]).tolist() if texts[number]]
    minus = [number for number in used if texts[number] == "-1"]
    others = [texts[number] for number in used if texts[number] != "-1"]
    plain = "0" in others and not any(text.startswith("-") for text in others)
    return minus if plain or not others else []


def unique_names(index: Index, files: Sequence[ByteFile], again: str = "") -> None:
    """Make the names of an index keys: unique, and the same whatever other files there are, if possible.

    Where files repeat each other's names, every name begins with that of its file.

    Parameters
    ----------
    index : the pictures.
    files : the files that the index numbers.
    again : why a later picture of a name that one file repeats is not read. If "" it is read, and the keys
        of all pictures are their positions, "row 17".
    """
    repeated = index.repeated()
    if not repeated:
        return
    if len(files) > 1:
        index.renamed(lambda number: f"{files[index.file[number]].name}/{index.name(number)}")
        repeated = index.repeated()
    if repeated and not again:
        index.renamed(lambda number: f"row {number}")
        return
    times: dict[str, int] = {}
    new: dict[int, str] = {}
    for number in repeated:
        index.blame(number, again)
        name = index.name(number)
        times[name] = times.get(name, 1) + 1
        new[number] = f"{name} ({times[name]})"
    index.renamed(lambda number: new.get(number) or index.name(number))
    # A picture may itself be called "a.png (2)".
    for number in index.repeated():
        index.blame(number, again)
        new[number] = (
            f"{index.name(number)} at {index.offset[number]} of {files[index.file[number]].name}"
        )
    index.renamed(lambda number: new.get(number) or index.name(number))
