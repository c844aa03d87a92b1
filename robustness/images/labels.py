"""Class labels from names: a folder per class, Kaggle's file names, or the words of a list."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from robustness.errors import ImagesError
from robustness.images.entries import bare

_KAGGLE = re.compile(r"([^.]+)\.\d+\.[^.]+")
_INTEGER = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True)
class Labelling:
    """The label of each picture, and the names the labels index (None if there are none)."""

    class_names: tuple[str, ...] | None
    labels: list[int | None]

    def describe(self, what: str, passed_over: Sequence[str] = ()) -> str:
        """One line: "folder photos, 2 classes, 300 images (4 without label)"."""
        found = {label for label in self.labels if label is not None}
        missing = self.labels.count(None) if found else 0
        classes = counted(len(found), "class", "classes") if found else "no labels"
        partly = f" ({missing:,} without label)" if missing else ""
        return ", ".join([what, classes, counted(len(self.labels), "image") + partly, *passed_over])


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 image", "1,000 images"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def by_path(paths: Sequence[str], known: Sequence[str] | None, *, archive: bool) -> Labelling:
    """Labels from posix paths inside a source.

    - A folder per class: the first part of the path. Folders below it do not matter; pictures
      outside the class folders have no label.
    - No folders: Kaggle's names, `cat.17.jpg`. Without `known`, at least two words must be there.
    - A single folder around everything (`train/cat.17.jpg`) is looked through, if it is not itself
      a known class. If neither rule holds inside, there are no labels.

    ImagesError for a folder that is none of the `known` classes. Capitals need not agree.
    """
    index = _index(known)
    around = _shared(paths)
    if (own := [n for n, part in enumerate(around) if _find(index, part) is not None]) and known:
        around = around[: own[0]]
    inner = [path.split("/", len(around))[-1] for path in paths]
    folders = sorted({path.split("/", 1)[0] for path in inner if "/" in path})
    if not folders:
        labelling = _by_name(inner, known)
        if around and known and not archive and not any(n is not None for n in labelling.labels):
            raise _unknown(around[0], known)
        return labelling
    if known is None:
        index = {folder: number for number, folder in enumerate(folders)}
    for folder in folders:
        if _find(index, folder) is None:
            raise _unknown(folder, known or ())
    names = tuple(folders) if known is None else tuple(known)
    return Labelling(names, [_find(index, p.split("/", 1)[0]) if "/" in p else None for p in inner])


def by_word(words: Sequence[str], known: Sequence[str] | None) -> Labelling:
    """Labels from a list's words: class names, or else numbers from 0; "" is no label.

    Without `known`, words that are not all numbers make the class names, sorted.
    ImagesError for a word that is neither a known class nor the number of one.
    """
    found = sorted({word for word in words if word})
    numbers = all(_INTEGER.fullmatch(word) for word in found)
    names = tuple(known) if known is not None else None if numbers else tuple(found)
    index = _index(names)
    labels: dict[str, int | None] = {"": None}
    for word in found:
        label = _find(index, word)
        if label is None:
            label = _checked(int(word) if _INTEGER.fullmatch(word) else word, names)
        labels[word] = label
    return Labelling(names, [labels[word] for word in words])


def by_number(numbers: Sequence[int], known: Sequence[str] | None) -> Labelling:
    """Labels that are class numbers from 0; ImagesError for one that is not."""
    names = None if known is None else tuple(known)
    return Labelling(names, [_checked(number, names) for number in numbers])


def _checked(label: int | str, names: Sequence[str] | None) -> int:
    if isinstance(label, str) or label < 0 or (names is not None and label >= len(names)):
        wanted = f"{', '.join(names)}, or its number from 0" if names else "a number from 0"
        raise ImagesError(f"Label {label!r} is not a class; expected {wanted}.")
    return label


def _by_name(paths: Sequence[str], known: Sequence[str] | None) -> Labelling:
    """Labels from file names: the word before the first dot, if it is a class."""
    if known is not None:
        index = _index(known)
        return Labelling(tuple(known), [_find(index, bare(p).split(".", 1)[0]) for p in paths])
    words = [match[1] if (match := _KAGGLE.fullmatch(bare(p))) else None for p in paths]
    found = sorted({word for word in words if word})
    if len(found) < 2:
        return Labelling(None, [None] * len(paths))
    return Labelling(tuple(found), [found.index(word) if word else None for word in words])


def _shared(paths: Sequence[str]) -> list[str]:
    """The folders that all paths lie in, outermost first."""
    if not paths:
        return []
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    shared = list(takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return [part for part, _ in shared]


def _unknown(folder: str, known: Sequence[str]) -> ImagesError:
    return ImagesError(
        f"Folder {folder!r} is none of the classes {', '.join(known)}. Expected one folder per "
        "class; rename it, take it out, or give the classes it belongs to."
    )


def _index(names: Sequence[str] | None) -> dict[str, int]:
    """From name to class; also from the name in small letters where that is not ambiguous."""
    small = [_small(name) for name in names or ()]
    once = Counter(small)
    index = {name: number for number, name in enumerate(small) if once[name] == 1}
    return index | {name: number for number, name in enumerate(names or ())}


def _find(index: dict[str, int], name: str) -> int | None:
    return index.get(name, index.get(_small(name)))


def _small(name: str) -> str:
    """In small letters, accents as one character: macOS packs them as two."""
    return unicodedata.normalize("NFC", name).casefold()
