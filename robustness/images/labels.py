"""Derives class labels from folder names, from Kaggle's file names, or from words and numbers in a list."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat, takewhile
from typing import NoReturn

from robustness.errors import ImagesError
from robustness.images.class_match import ClassRow, ClassTable, match_names, numbers_of
from robustness.images.entries import bare
from robustness.text import plural

_KAGGLE = re.compile(r"([^.]+)\.\d+\.[^.]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,9})?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)
_DIGITS = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_MISSING = {"", "nan", "na", "n/a", "<na>", "none", "null", "-"}
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Labelling:
    """The class index of each picture (None without label), and the class names (None if unknown).

    `around` are the folders that hold those of the classes. `table` tells which folder has which of the known
    classes; pictures in a folder that has none are `left_out`.
    """

    class_names: tuple[str, ...] | None
    labels: list[int | None]
    around: tuple[str, ...] = ()
    table: ClassTable | None = None
    left_out: frozenset[int] = frozenset()

    def describe(self, what: str, passed_over: Sequence[str] = ()) -> str:
        """Return one line, such as "folder photos, 2 classes, 300 images (4 without label)"."""
        found = {label for label in self.labels if label is not None}
        missing = self.labels.count(None) if found else 0
        classes = plural(len(found), "class", "classes") if found else "no labels"
        missing -= len(self.left_out)
        partly = f" ({missing:,} without label)" if missing > 0 else ""
        kept = plural(len(self.labels) - len(self.left_out), "image") + partly
        out = [f"{plural(len(self.left_out), 'image')} left out"] if self.left_out else []
        return ", ".join([what, classes, kept, *passed_over, *out])


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
        No folder is one of the `known` classes.

    Notes
    -----
    - One folder per class: the class is the first part of the path. Folders below it do not matter; pictures
      outside the class folders have no label. With `known` classes folders are matched by name
      (`class_match.match_names`); those that fit none are left out.
    - No folders: Kaggle's names, `cat.17.jpg`. Without `known`, at least two different words are required.
    - A single folder around everything (`train/cat.17.jpg`) is ignored, unless it is itself a known class. If
      neither rule applies inside it, there are no labels.
    """
    around = _shared(paths)
    flat = not any("/" in path.split("/", len(around))[-1] for path in paths)
    fits = match_names(around, known or ())
    # `dogs/` around folders of breeds is no class `dog`.
    if own := [n for n, part in enumerate(around) if _is_class(fits[part], flat=flat)]:
        around = around[: own[0]]
    inner = [path.split("/", len(around))[-1] for path in paths]
    folders = sorted({path.split("/", 1)[0] for path in inner if "/" in path})
    if not folders:
        labelling = _by_name(inner, known)
        if around and known and not archive and not any(n is not None for n in labelling.labels):
            raise unmatched(around[-1:], known)
        return labelling
    mine = [path.split("/", 1)[0] if "/" in path else None for path in inner]
    counts = Counter(folder for folder in mine if folder is not None)
    if known is None:
        index: dict[str, int | None] = {folder: number for number, folder in enumerate(folders)}
        return Labelling(
            tuple(folders), [None if one is None else index[one] for one in mine], tuple(around)
        )
    table = class_table(counts, known)
    index = {row.found: row.index for row in table.rows}
    labels = [None if one is None else index[one] for one in mine]
    out = frozenset(n for n, one in enumerate(mine) if one is not None and index[one] is None)
    return Labelling(tuple(known), labels, tuple(around), table, out)


def _is_class(fit: tuple[int | None, str], *, flat: bool) -> bool:
    """Whether a folder around all pictures is a class: by its very name, or where none is inside it."""
    index, how = fit
    return index is not None and (flat or how == "name")


def class_table(
    counts: Mapping[str, int], names: Sequence[str], reason: str = "", what: str = "folder"
) -> ClassTable:
    """Match folders with class names, and tell which folder has which class.

    Parameters
    ----------
    counts : the number of images by folder.
    names : the class names, in the order of the outputs.
    reason : where the names come from, a sentence.
    what : what the folders are called, for errors.

    Raises
    ------
    ImagesError
        No folder is one of the classes; the message lists both.

    Notes
    -----
    Folders that are all called by numbers, where the classes have names, have the classes of these numbers.
    """
    fits = match_names(sorted(counts), names)
    if all(index is None for index, _ in fits.values()):
        numbers = numbers_of(sorted(counts))
        if not numbers or max(numbers.values()) >= len(names):
            raise unmatched(sorted(counts), names, what)
        fits = {one: (number, "number") for one, number in numbers.items()}
    rows = [
        ClassRow(one, counts[one], index, "" if index is None else names[index], how)
        for one, (index, how) in fits.items()
    ]
    rows.sort(key=lambda row: (len(names) if row.index is None else row.index, row.found))
    doubtful = any(row.how not in ("name", "synset") for row in rows)
    return ClassTable(tuple(rows), tuple(names), reason, doubtful)


def unmatched(found: Sequence[str], names: Sequence[str], what: str = "folder") -> ImagesError:
    """Return the error for folders of which none is a class; it lists the folders and the classes."""
    numbers = numbers_of(found)
    hint = ""
    if numbers and min(numbers.values()) >= 1 and max(numbers.values()) == len(names):
        hint = " If the numbers count from 1, give the names as numbers from 1, in the order of the outputs."
    one = f"{what.capitalize()} {brief(found[0])!r} is none of the classes"
    several = f"None of the {plural(len(found), what)} ({_some(found)}) is one of the classes"
    return ImagesError(
        f"{one if len(found) == 1 else several} {_some(names)}. Classes are matched by name, not by "
        "position. "
        f"Rename the {what}s, or give the names of the model's {plural(len(names), 'output')} as the {what}s "
        f"are called, in the order of the outputs: --classes NAME,NAME,... or --classes FILE "
        f"(class_names= in Python).{hint}"
    )


def by_word(
    words: Sequence[str], known: Sequence[str] | None, counts: Sequence[int] | None = None
) -> Labelling:
    """Derive labels from words: either all class names, or all class numbers from 0; "" is no label.

    Without `known`, words that are not numbers are the class names, sorted. Among numbers, words such as NaN
    are no label, and 1.0 is 1. `counts` is the number of images of each word, for messages; by default one.

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
    if known is not None and not any(_number(word) is not None for word in found):
        fits = match_names([word for word in found if word.casefold() not in _MISSING], known)
        if fits and all(number is not None for number, _ in fits.values()):
            return Labelling(tuple(known), [fits[w][0] if w in fits else None for w in words])
    told = [word for word in found if word.casefold() not in _MISSING]
    numbers = {word: n for word in told if (n := _number(word)) is not None}
    if numbers and len(numbers) == len(told):
        if broken := next((w for w, n in numbers.items() if not n.is_integer()), None):
            raise ImagesError(
                f"Label {brief(broken)} is not a class; expected whole numbers from 0, or names."
            )
        whole = {word: int(n) for word, n in numbers.items()}
        return by_number([whole.get(word) for word in words], known, counts)
    if known is not None and found:
        _refuse(next(w for w in found if _find(index, w) is None), known, found)
    if numbers and all(word in numbers or _DIGITS.fullmatch(word) for word in told):
        wrong = next(word for word in told if word not in numbers)
        raise ImagesError(
            f"Label {brief(wrong)} is not a class; expected numbers from 0, one for each class."
        )
    if numbers:
        raise ImagesError(
            f"The labels mix numbers and names ({_some(found)}); expected class names, or numbers from 0."
        )
    names = tuple(known) if known is not None else tuple(found) or None
    index = _index(names)
    return Labelling(names, [_find(index, word) if word else None for word in words])


def by_number(
    numbers: Sequence[int | None], known: Sequence[str] | None, counts: Sequence[int] | None = None
) -> Labelling:
    """Make labels from class numbers from 0, None for no label; ImagesError for an invalid number."""
    names = None if known is None else tuple(known)
    expect_classes(numbers, names, counts)
    return Labelling(names, list(numbers))


def expect_classes(
    labels: Iterable[int | None],
    names: Sequence[str] | None,
    counts: Iterable[int] | None = None,
) -> None:
    """Raise ImagesError unless every label that is not None is the index of one of the classes `names`.

    Without `names` every number from 0 is valid. The message gives the range of the labels and names likely
    causes: labels that count from 1, or that are -1 and 1. `counts` is the number of images of each label.
    """
    seen: Counter[int] = Counter()
    for label, count in zip(labels, repeat(1) if counts is None else counts, strict=False):
        if label is not None:
            seen[label] += count
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
