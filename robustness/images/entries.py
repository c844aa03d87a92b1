"""What a source of pictures gives: entries, which are names, and pictures, which are pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

MAX_ENTRIES = 1_000_000

Shape = tuple[int, int, int]
Where = TypeVar("Where")


class Unreadable(Exception):  # noqa: N818 - an outcome of one picture, caught inside this package
    """One picture cannot be read; the message is the reason, one plain sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source knows of a picture without decoding it.

    key: unique and stable, a posix path inside the source or "row 17".
    name: the bare file name, shown to people.
    label: class index, None if unknown.
    """

    key: str
    name: str
    label: int | None


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    pixels: uint8 (height, width, channels) at the size asked for; None if unreadable.
    digest: SHA-256 (hex) of the bytes of `pixels`; "" if unreadable.
    note: what was converted; "" if nothing was.
    reason: why it is unreadable, one sentence; "" if it is not.
    """

    entry: Entry
    pixels: np.ndarray | None
    digest: str
    note: str = ""
    reason: str = ""


class Source(Protocol):
    """Pictures that can be listed, and read one at a time from any thread."""

    @property
    def description(self) -> str:
        """One line for the report: "folder photos, 2 classes, 300 images"."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names the labels index: those given, or those found, sorted; None if unknown."""

    def entries(self) -> list[Entry]:
        """All entries, in an order that is the same every time."""

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Decode one picture to `shape` (height, width, channels). A bad one has a reason."""


def readable(entry: Entry, pixels: np.ndarray, note: str = "") -> Picture:
    """The picture of sound `pixels`."""
    pixels = np.ascontiguousarray(pixels)
    return Picture(entry, pixels, hashlib.sha256(pixels.data).hexdigest(), note)


def unreadable(entry: Entry, reason: str) -> Picture:
    """The picture that could not be read."""
    return Picture(entry, None, "", reason=reason)


def key_of(path: str) -> str:
    """`path` as a key: text that any file or database can hold."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def bare(key: str) -> str:
    """The file name in a posix path."""
    return key.rsplit("/", 1)[-1]


class Library(Generic[Where]):
    """A Source over things found somewhere: `load` gets the pixels and the note from there.

    `load(where, entry, shape)` raises Unreadable for a bad picture. `items` are (entry, where,
    fault); a picture with a fault is unreadable for that reason and never loaded.
    """

    def __init__(
        self,
        description: str,
        class_names: Sequence[str] | None,
        items: Iterable[tuple[Entry, Where, str]],
        load: Callable[[Where, Entry, Shape], tuple[np.ndarray, str]],
    ) -> None:
        self.description = description
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
        """All entries, in an order that is the same every time."""
        return list(self._entries)

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Decode one picture to `shape`. A bad one has a reason and no pixels."""
        if fault := self._faults.get(entry.key):
            return unreadable(entry, fault)
        if entry.key not in self._places:
            return unreadable(entry, "The source holds no picture of this key.")
        try:
            return readable(entry, *self._load(self._places[entry.key], entry, shape))
        except Unreadable as problem:
            return unreadable(entry, str(problem))


def numbered(paths: Iterable[str]) -> list[str]:
    """A unique key for each path, in order: a path that was there before gets a number."""
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
