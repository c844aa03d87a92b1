"""Where millions of pictures lie, in a few arrays: names, and at which offset of which file each begins."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from robustness.errors import ImagesError
from robustness.files.places import ByteFile
from robustness.images.entries import key_of

MAX_INDEXED = 16_000_000
"""The largest number of pictures in an index."""
MAX_WORDS = 1_000_000
"""The largest number of different labels."""
MAX_NAMES = 2 << 30
"""The most bytes of the names of all pictures."""


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

    def names(self, places: np.ndarray | None = None) -> Iterator[str]:
        """Return the names of all pictures, or of those at `places`, in order."""
        if not self._names.isascii():
            return map(self.name, range(len(self)) if places is None else places.tolist())
        # A character is a byte, so that all names are decoded at once.
        text, starts, ends = self._names.decode("ascii"), chain((0,), self._ends), iter(self._ends)
        if places is not None:
            bounds = np.concatenate([[0], np.frombuffer(self._ends, np.uint64)]).astype(np.int64)
            starts, ends = iter(bounds[places].tolist()), iter(bounds[places + 1].tolist())
        return map(text.__getitem__, map(slice, starts, ends))

    def keys(self, places: np.ndarray | None = None) -> Iterator[str]:
        """Return the names of all pictures, or of those at `places`, as keys, in order; see `key_of`."""
        names = self.names(places)
        return names if self._names.isascii() else map(key_of, names)

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
