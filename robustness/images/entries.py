"""Defines sources of pictures, their entries (names) and their pictures (decoded pixels)."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from robustness.images.class_match import ClassTable

MAX_ENTRIES = 1_000_000

Shape = tuple[int | None, int | None, int]
"""A wanted shape (height, width, channels); height and width are None for a picture as large as it is."""
Where = TypeVar("Where")


class Unreadable(Exception):  # noqa: N818 - an outcome of one picture, caught inside this package
    """One picture cannot be read; the message is the reason, one sentence."""


class Entry(NamedTuple):
    """The name and label of a picture, known without decoding it; a tuple, since there may be a million.

    Parameters
    ----------
    key : str
        Unique and stable: a POSIX path inside the source, or "row 17".
    name : str
        The file name without folders, for display.
    label : int or None
        The class index; None if unknown.
    """

    key: str
    name: str
    label: int | None


_new_entry: Callable[[Iterable[object]], Entry] = partial(tuple.__new__, Entry)
"""Makes an entry from its fields, or from another entry."""


def entries_of(
    keys: Iterable[str], names: Iterable[str], labels: Iterable[int | None]
) -> list[Entry]:
    """Return an entry for each key, name and label: a million in a third of the time of their constructor."""
    return list(map(_new_entry, zip(keys, names, labels, strict=True)))


def in_order(entries: Sequence[Entry], places: Iterable[int]) -> list[Entry]:
    """Return the entries at `places`, in this order.

    They are equal entries that lie in memory in this order: later passes over a million take less time. Those
    of a class of its own, which may have more than the fields, stay the same objects.
    """
    ordered = map(entries.__getitem__, places)
    return list(map(_new_entry, ordered) if set(map(type, entries)) == {Entry} else ordered)


def labels_of(entries: Iterable[Entry]) -> Iterator[int | None]:
    """Return the label of each entry."""
    return map(attrgetter("label"), entries)


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, or the reason why it is unreadable.

    Parameters
    ----------
    entry : Entry
        The entry of the picture.
    pixels : ndarray or None
        uint8 (height, width, channels) of the requested shape; None if unreadable.
    digest : str
        SHA-256 (hex) of the bytes of `pixels`; "" if unreadable.
    note : str
        The conversions made; "" if none.
    reason : str
        Why the picture is unreadable, one sentence; "" if it is readable.
    """

    entry: Entry
    pixels: np.ndarray | None
    digest: str
    note: str = ""
    reason: str = ""


class Source(Protocol):
    """A collection of pictures that can be listed, and read one at a time from any thread, in any order.

    What only gives one picture after the other is a `robustness.images.streams.Stream`, which is copied to
    the disk first.
    """

    access: ClassVar[str] = "random"
    """How pictures are read: "random" for any order, "stream" for a `Stream`."""

    @property
    def description(self) -> str:
        """One line for the report, such as "folder photos, 2 classes, 300 images"."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The class names by label: those given, or those found, sorted; None if unknown."""

    def entries(self) -> list[Entry]:
        """Return all entries, always in the same order."""

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Decode one picture to `shape`; a bad one has a reason and no pixels.

        Parameters
        ----------
        entry : the picture.
        shape : (height, width, channels); (None, None, channels) for a picture that is not resized.
        """


def count_of(source: Source) -> int:
    """Return the number of entries of a source; a million need not be made to be counted (`count`)."""
    count = getattr(source, "count", None)
    return count if isinstance(count, int) else len(source.entries())


def readable(entry: Entry, pixels: np.ndarray, note: str = "") -> Picture:
    """Make the picture of an entry from its decoded `pixels`."""
    pixels = np.ascontiguousarray(pixels)
    return Picture(entry, pixels, hashlib.sha256(pixels.data).hexdigest(), note)


def unreadable(entry: Entry, reason: str) -> Picture:
    """Make the picture of an entry that could not be read."""
    return Picture(entry, None, "", reason=reason)


def key_of(path: str) -> str:
    """Convert `path` to a key: valid UTF-8, with other characters escaped by backslashes."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def bare(key: str) -> str:
    """Return the last part of a POSIX path."""
    return key.rsplit("/", 1)[-1]


def bare_names(keys: Sequence[str]) -> Iterable[str]:
    """Return the last part of each of these POSIX paths; the paths themselves if none has a folder."""
    return map(bare, keys) if "/" in "".join(keys) else keys


class Library(Generic[Where]):
    """A source made of a list of entries, their locations, and a function that loads a location.

    Parameters
    ----------
    description : str
        One line for the report.
    class_names : sequence of str or None
        The class names by label; None if unknown.
    items : iterable of tuple
        (entry, location, fault) of each picture. One whose fault is not "" is unreadable for that reason and
        never loaded.
    load : callable
        `load(location, entry, shape)` returns the pixels and the note, or raises Unreadable.
    table : ClassTable, optional
        Which folder has which class, where folders were matched with known classes.
    empty : sequence of str
        Folders beside those of the classes that hold no pictures.
    threads : int
        How many pictures are best read at the same time.
    """

    access: ClassVar[str] = "random"

    def __init__(
        self,
        description: str,
        class_names: Sequence[str] | None,
        items: Iterable[tuple[Entry, Where, str]],
        load: Callable[[Where, Entry, Shape], tuple[np.ndarray, str]],
        *,
        table: ClassTable | None = None,
        empty: Sequence[str] = (),
        threads: int = 2,
    ) -> None:
        self.description, self.threads = description, threads
        self.table, self.empty = table, tuple(empty)
        self.class_names = None if class_names is None else tuple(class_names)
        self._places: dict[str, Where] = {}
        self._faults: dict[str, str] = {}
        self._entries: list[Entry] = []
        self._load = load
        for entry, where, fault in items:
            self._entries.append(entry)
            self._places[entry.key] = where
            if fault:
                self._faults[entry.key] = fault

    def entries(self) -> list[Entry]:
        """Return all entries, always in the same order."""
        return list(self._entries)

    @property
    def count(self) -> int:
        """The number of entries."""
        return len(self._entries)

    def unturned(self) -> Library[Where]:
        """Return this source with pictures as they are stored, not turned as their EXIF orientation says."""
        other = copy.copy(self)
        if hasattr(self._load, "unturned"):
            other._load = self._load.unturned()
        return other

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Decode one picture to `shape`; a bad one has a reason and no pixels."""
        if fault := self._faults.get(entry.key):
            return unreadable(entry, fault)
        if entry.key not in self._places:
            return unreadable(entry, "The source holds no picture of this key.")
        try:
            return readable(entry, *self._load(self._places[entry.key], entry, shape))
        except Unreadable as problem:
            return unreadable(entry, str(problem))


def numbered(paths: Iterable[str]) -> list[str]:
    """Return a unique key for each path, in order; a repeated path gets a number, such as "a.png (2)"."""
    seen: set[str] = set()
    times: dict[str, int] = {}
    keys = []
    for path in paths:
        key = first = key_of(path)
        while key in seen:
            times[first] = times.get(first, 1) + 1
            key = f"{first} ({times[first]})"
        seen.add(key)
        keys.append(key)
    return keys
