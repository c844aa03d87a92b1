"""A source of millions of pictures: a listing of where they lie, and the files that hold them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

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
    bare_names,
    entries_of,
    key_of,
    readable,
    unreadable,
)
from robustness.images.labels import by_word
from robustness.images.picture_index import Index
from robustness.images.png import MAX_BYTES
from robustness.text import plural

TOO_LARGE = f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read."
_PART = "The file ends before this picture does."

Extract = Callable[[bytes], bytes]
"""Returns the bytes of the picture file in a record; raises Unreadable."""


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
        return self.entries_at(None)

    def entries_at(self, places: np.ndarray | None) -> list[Entry]:
        """Return the entries at these places in the order of all entries; all for None."""
        numbers = self._labels if places is None else self._labels[places]
        keys, labels = list(self._index.keys(places)), numbers.astype(object)
        labels[numbers < 0] = None
        return entries_of(keys, bare_names(keys), labels.tolist())

    def keys(self) -> Iterator[str]:
        """Return the keys of all entries, in their order."""
        return self._index.keys()

    @property
    def labels(self) -> np.ndarray:
        """The label of each entry, int32; -1 for none."""
        return self._labels

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
