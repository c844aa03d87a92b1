"""Derives class labels from folder names, from Kaggle's file names, or from words and numbers in a list."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NoReturn

from robustness.errors import ImagesError
from robustness.images.entries import bare
from robustness.text import plural

_KAGGLE = re.compile(r"([^.]+)\.\d+\.[^.]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)
_MISSING = {"", "nan", "na", "n/a", "<na>", "none", "null", "-"}
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Labelling:
    """The class index of each picture (None without label), and the class names (None if unknown)."""

    class_names: tuple[str, ...] | None
    labels: list[int | None]

    def describe(self, what: str, passed_over: Sequence[str] = ()) -> str:
        """Return one line, such as "folder photos, 2 classes, 300 images (4 without label)"."""
        found = {label for label in self.labels if label is not None}
        missing = self.labels.count(None) if found else 0
        classes = plural(len(found), "class", "classes") if found else "no labels"
        partly = f" ({missing:,} without label)" if missing else ""
        return ", ".join([what, classes, plural(len(self.labels), "image") + partly, *passed_over])


def by_path(paths: Sequence[str], known: Sequence[str] | None, *, archive: bool) -> Labelling:
    """Derive labels from POSIX paths inside a source, ignoring case.

    Parameters
    ----------
    paths : sequence of str
        The paths of the pictures.
    known : sequence of str or None
        The class names; None if they are not known.
    archive : bool
        Whether the paths are those of an archive, whose outer folders need not be classes.

    Raises
    ------
    ImagesError
        A folder is none of the `known` classes.

    Notes
    -----
    - One folder per class: the class is the first part of the path. Folders below it do not matter; pictures
      outside the class folders have no label.
    - No folders: Kaggle's names, `cat.17.jpg`. Without `known`, at least two different words are required.
    - A single folder around everything (`train/cat.17.jpg`) is ignored, unless it is itself a known class. If
      neither rule applies inside it, there are no labels.
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
    """Derive labels from words: either all class names, or all class numbers from 0; "" is no label.

    Without `known`, words that are not numbers are the class names, sorted. Among numbers, words such as NaN
    are no label, and 1.0 is 1.

    Raises
    ------
    ImagesError
        A word is neither a class name nor a class number, or numbers and names are mixed; the message lists
        the words found.
    """
    found = sorted({word for word in words if word})
    index = _index(known)
    if known is not None and found and all(_find(index, word) is not None for word in found):
        return Labelling(tuple(known), [_find(index, w) if w else None for w in words])
    told = [word for word in found if word.casefold() not in _MISSING]
    numbers = {word: n for word in told if (n := _number(word)) is not None}
    if numbers and len(numbers) == len(told):
        if broken := next((w for w, n in numbers.items() if not n.is_integer()), None):
            raise ImagesError(
                f"Label {brief(broken)} is not a class; expected whole numbers from 0, or names."
            )
        whole = {word: int(n) for word, n in numbers.items()}
        return by_number([whole.get(word) for word in words], known)
    if known is not None and found:
        _refuse(next(w for w in found if _find(index, w) is None), known, found)
    if numbers:
        raise ImagesError(
            f"The labels mix numbers and names ({_some(found)}); expected class names, or numbers from 0."
        )
    names = tuple(known) if known is not None else tuple(found) or None
    index = _index(names)
    return Labelling(names, [_find(index, word) if word else None for word in words])


def by_number(numbers: Sequence[int | None], known: Sequence[str] | None) -> Labelling:
    """Make labels from class numbers from 0, None for no label; ImagesError for an invalid number."""
    names = None if known is None else tuple(known)
    expect_classes(numbers, names)
    return Labelling(names, list(numbers))


def expect_classes(labels: Iterable[int | None], names: Sequence[str] | None) -> None:
    """Raise ImagesError unless every label that is not None is the index of one of the classes `names`.

    Without `names` every number from 0 is valid. The message gives the range of the labels and names likely
    causes: labels that count from 1, or that are -1 and 1.
    """
    seen = Counter(label for label in labels if label is not None)
    top = math.inf if names is None else len(names)
    wrong = sorted(label for label in seen if not 0 <= label < top)
    if not wrong:
        return
    low, high, times = min(seen), max(seen), sum(seen[label] for label in wrong)
    if names is None:
        expected = "a number from 0"
    elif list(names) == [str(number) for number in range(len(names))]:
        expected = f"a number from 0 to {len(names) - 1}"
    else:
        expected = f"{_some(names)}, or its number from 0 to {len(names) - 1}"
    images = plural(times, "image")
    said = (
        f"Label {_some(wrong)} is not a class; expected {expected}. The labels run from {brief(low)} to "
        f"{brief(high)}; "
        f"{images} of {sum(seen.values()):,} with such a label."
    )
    if names is not None and low >= 1 and high == len(names):
        said += " If they count from 1, subtract 1 from each."
    if set(seen) == {-1, 1}:
        said += " If they mean two classes, give 0 and 1."
    elif low == -1:
        said += " If -1 means no label, leave it empty or give NaN."
    raise ImagesError(said)


def _refuse(word: str, names: Sequence[str], found: Sequence[str]) -> NoReturn:
    raise ImagesError(
        f"Label {brief(word)!r} is not a class; expected {_some(names)}, or its number from 0. The "
        f"labels are {_some(found)}."
    )


def _number(word: str) -> float | None:
    """The number that a word stands for (true is 1, false is 0); None for other words."""
    if (truth := _TRUTH.get(word.casefold())) is not None:
        return truth
    return float(word) if _NUMBER.fullmatch(word) else None


def brief(value: object, most: int = 60) -> str:
    """Format a label for a message: a very large number as a power of ten, a long text cut to `most`."""
    if isinstance(value, int) and abs(value) >= 10**20:
        power = int((abs(value).bit_length() - 1) * math.log10(2))
        return f"{'-' if value < 0 else ''}1e{power} or so"
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _some(values: Sequence[object], most: int = 12) -> str:
    shown = ", ".join(brief(value) for value in values[:most])
    return f"{shown} and {len(values) - most:,} more" if len(values) > most else shown


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
    """The class index by name, and by the name in lower case where that is not ambiguous."""
    small = [_small(name) for name in names or ()]
    once = Counter(small)
    index = {name: number for number, name in enumerate(small) if once[name] == 1}
    return index | {name: number for number, name in enumerate(names or ())}


def _find(index: dict[str, int], name: str) -> int | None:
    return index.get(name, index.get(_small(name)))


def _small(name: str) -> str:
    """The name in lower case, with accented letters composed (NFC): macOS decomposes them."""
    return unicodedata.normalize("NFC", name).casefold()
