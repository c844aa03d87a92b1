"""Matches the names of folders, or the words of a list, with the names of a model's classes.

A wrong order of the classes makes every number of an audit wrong, so classes are matched by name wherever
there are names, never by position: exact names first, then other spellings, synsets and plurals. A name that
fits two classes fits none. What is matched how is kept in a table.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustness.text import plural, shorten

_PREFIX = re.compile(r"\d{1,6}[\s._-]+(?=\S)")
_SYNSET = re.compile(r"n\d{8}(?!\d)")
_SUFFIX = re.compile(r" \(n\d{8}\)$")
"""What `configuration.class_names` puts after a name of ImageNet."""
_BRACKETS = re.compile(r"\([^()]*\)")
HOW = ("name", "name", "spelling", "spelling", "synset", "part of the name", "plural")
"""What the levels of `keys` are called."""
MOST_ROWS = 20


@dataclass(frozen=True)
class ClassRow:
    """One folder (or word) and the class that its images have.

    Attributes
    ----------
    found : the name of the folder, or the word.
    images : the number of images.
    index : the output of the model; None if its images are left out.
    name : the name of the class; "" if they are left out.
    how : how it was matched: by "name", "spelling", "synset", "number", "position", ...; or why not.
    """

    found: str
    images: int
    index: int | None
    name: str
    how: str


@dataclass(frozen=True)
class ClassTable:
    """Which folder has which class of a model.

    Attributes
    ----------
    rows : one for each folder, in the order of the outputs; those left out come last.
    names : all class names, in the order of the outputs.
    reason : where the names and their order come from, a sentence.
    doubtful : whether the table is shown before the audit.
    """

    rows: tuple[ClassRow, ...]
    names: tuple[str, ...]
    reason: str
    doubtful: bool

    @property
    def left_out(self) -> list[ClassRow]:
        """The rows without class."""
        return [row for row in self.rows if row.index is None]

    @property
    def sentence(self) -> str:
        """What is left out or has no images; "" if nothing."""
        parts = []
        if out := self.left_out:
            some = ", ".join(
                f"{shorten(row.found)} ({plural(row.images, 'image')})" for row in out[:12]
            )
            more = f" and {len(out) - 12} more" if len(out) > 12 else ""
            total = f", {plural(sum(row.images for row in out), 'image')} in all" * (len(out) > 1)
            parts.append(
                f"left out, since they are none of the model's classes: {some}{more}{total}"
            )
        present = {row.index for row in self.rows if row.images} - {None}
        if absent := [name for n, name in enumerate(self.names) if n not in present]:
            some = ", ".join(map(shorten, absent[:6])) + (", ..." if len(absent) > 6 else "")
            parts.append(
                f"{len(absent)} of {plural(len(self.names), 'class', 'classes')} without images ({some})"
            )
        return "; ".join(parts)

    def text(self) -> str:
        """The table as lines of text: folder, images, output, class, how."""
        # Folders that are left out are shown in any case.
        matched = [row for row in self.rows if row.index is not None]
        shown_rows = [*matched[:MOST_ROWS], *self.left_out[:MOST_ROWS]]
        head = ("folder", "images", "output", "class", "matched by")
        lines = [
            (
                shorten(row.found),
                f"{row.images:,}",
                "-" if row.index is None else str(row.index),
                shorten(row.name) or "left out",
                row.how,
            )
            for row in shown_rows
        ]
        widths = [max(len(line[n]) for line in (head, *lines)) for n in range(len(head))]
        shown = [
            "  ".join(
                cell.rjust(width) if n in (1, 2) else cell.ljust(width)
                for n, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (head, *lines)
        ]
        if rest := len(self.rows) - len(shown_rows):
            shown.append(f"and {rest:,} more")
        return "\n".join(filter(None, [*shown, self.reason, self.sentence]))


def match_names(found: Sequence[str], names: Sequence[str]) -> dict[str, tuple[int | None, str]]:
    """Match names with class names.

    Parameters
    ----------
    found : the names of folders, or words.
    names : the class names, in the order of the outputs.

    Returns
    -------
    For each name the index of its class and how it was matched (`HOW`); or None, and why it was not.
    """
    levels = [_by_key(names, level) for level in range(len(HOW))]
    return {one: _match(one, names, levels) for one in found}


def _match(
    one: str, names: Sequence[str], levels: Sequence[Mapping[str, set[int]]]
) -> tuple[int | None, str]:
    for level, by_key in enumerate(levels):
        fitting = set().union(*(by_key.get(key, set()) for key in keys(one, level)))
        if len(fitting) == 1:
            return fitting.pop(), HOW[level]
        if fitting:
            two = " or ".join(shorten(names[n]) for n in sorted(fitting)[:3])
            return None, f"could be {two}"
    return None, "none of the classes"


def _by_key(names: Sequence[str], level: int) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for index, name in enumerate(names):
        for key in keys(name, level):
            found[key].add(index)
    return found


def keys(name: str, level: int) -> set[str]:
    """Return what a name is compared by, up to a level of `HOW`; names with a common key fit each other."""
    exact = unicodedata.normalize("NFC", name)
    both = {exact, _SUFFIX.sub("", exact)}
    small = exact.casefold()
    if level < 2:
        return both if level == 0 else {one.casefold() for one in both}
    made = {_squeezed(one.casefold()) for one in both}
    if level >= 3:
        made |= {_squeezed(_PREFIX.sub("", one.casefold(), count=1)) for one in both}
    if level >= 4:
        made |= set(_SYNSET.findall(small))
    if level >= 5:
        without = _PREFIX.sub("", _BRACKETS.sub("", small), count=1)
        made |= {_squeezed(part) for part in re.split(r"[,/;]", without)}
    if level >= 6:
        made = set().union(*map(_singulars, made))
    return made - {""}


def _squeezed(text: str) -> str:
    """Only letters and digits; a number without leading zeros."""
    plain = "".join(c for c in text if c.isalnum() or unicodedata.category(c).startswith("M"))
    return str(int(plain)) if plain.isdecimal() and plain.isascii() and len(plain) < 10 else plain


def _singulars(word: str) -> set[str]:
    """An English word, and what it is without the endings of a plural."""
    made = {word}
    if len(word) < 4 or not word.isalpha() or not word.endswith("s") or word.endswith("ss"):
        return made
    made.add(word[:-1])
    if word.endswith("ies"):
        made.add(f"{word[:-3]}y")
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        made.add(word[:-2])
    return made


def numbers_of(found: Sequence[str]) -> dict[str, int] | None:
    """Return the number that each name is; None unless all are different whole numbers from 0."""
    if not found or not all(one.isascii() and one.isdecimal() and len(one) < 8 for one in found):
        return None
    numbers = {one: int(one) for one in found}
    return numbers if len(set(numbers.values())) == len(numbers) else None


def number_orders(found: Sequence[str], classes: int) -> list[tuple[str, ...]]:
    """Return the orders of the outputs that folders called by numbers can have.

    Parameters
    ----------
    found : the names of the folders, all of them numbers.
    classes : the number of outputs, at least that of the folders.

    Returns
    -------
    Lists of all class names. Keras sorts the names of folders as text (0, 1, 10, 11, ..., 2), whoever trains
    from a list of numbers has 0, 1, 2; numbers that begin at 1 are possible unless there is a 0.
    """
    numbers = numbers_of(found)
    if numbers is None or len(found) > classes:
        return []
    if len(found) == classes:
        orders = [tuple(sorted(found)), tuple(sorted(found, key=lambda one: numbers[one]))]
        return list(dict.fromkeys(orders))
    spelled = {number: one for one, number in numbers.items()}
    width = max(len(one) for one in found) if any(o[0] == "0" and len(o) > 1 for o in found) else 0
    orders = []
    for base in (0, 1):
        if base <= min(spelled) and max(spelled) < classes + base:
            every = [spelled.get(n, str(n).zfill(width)) for n in range(base, classes + base)]
            orders += [tuple(every), tuple(sorted(every))]
    return list(dict.fromkeys(orders))
