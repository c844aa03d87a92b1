"""Whose class names hold for an audit, and which folder of images has which class of the model.

The names are those that were given; else those that the model states or a file beside it names; else those of
the folders, in the order that Keras gives them. Folders are matched with given and stated names by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from robustness.configuration.class_names import BESIDE, read_class_names
from robustness.errors import ImagesError, ModelError, SettingError
from robustness.images import Entry, Picture, Source
from robustness.images.class_match import ClassRow, ClassTable, number_orders, numbers_of
from robustness.images.entries import Shape
from robustness.images.labels import class_table
from robustness.text import plural, shorten

MOST_NAMES = 200
"""The largest number of class names in a command that is suggested."""


@dataclass(frozen=True)
class StatedNames:
    """Class names in the order of the outputs, and where they come from (a sentence)."""

    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class LabelledSource:
    """A source whose labels are outputs of the model.

    Attributes
    ----------
    source : the images, with labels by output.
    names : the class names in the order of the outputs; None if nobody states any.
    table : which folder has which class; None if images have no labels by name.
    reason : where the names come from, a sentence.
    """

    source: Source
    names: tuple[str, ...] | None
    table: ClassTable | None
    reason: str


class Relabelled:
    """A source whose entries have the labels of a table; entries of folders left out are not there."""

    access: ClassVar[str] = "random"

    def __init__(self, source: Source, table: ClassTable, words: Sequence[str]) -> None:
        self._source, self.table = source, table
        self.class_names: tuple[str, ...] | None = table.names
        self.threads = getattr(source, "threads", None)
        out = sum(row.images for row in table.left_out)
        left = f", {plural(out, 'image')} left out" if out else ""
        self.description = f"{source.description}{left}"
        index = {row.found: row.index for row in table.rows}
        self._labels = [index.get(word) for word in words]

    def entries(self) -> list[Entry]:
        """Return all entries whose class the model knows, and those without label."""
        return [
            entry
            if entry.label is None
            else Entry(entry.key, entry.name, self._labels[entry.label])
            for entry in self._source.entries()
            if entry.label is None or self._labels[entry.label] is not None
        ]

    def read(self, entry: Entry, shape: Shape) -> Picture:
        """Decode one picture."""
        return replace(self._source.read(entry, shape), entry=entry)


def beside_model(file: Path | None, outputs: int) -> StatedNames | None:
    """Return the class names that a file beside the model states, if they are as many as its outputs.

    Raises
    ------
    SettingError
        Two files of general names state different classes; the message names both.
    """
    if file is None:
        return None
    own: list[StatedNames] = []
    general: list[StatedNames] = []
    for pattern in BESIDE:
        path = file.parent / pattern.format(stem=file.stem)
        if not path.is_file():
            continue
        try:
            names = read_class_names(path)
        except SettingError:
            continue
        if len(names) == outputs:
            stated = StatedNames(
                names, f"The class names are those of {path.name} beside the model."
            )
            (own if "{stem}" in pattern else general).append(stated)
    found = own or general
    if any(one.names != found[0].names for one in found):
        both = " and ".join(one.reason.split()[6] for one in found[:2])
        raise SettingError(
            f"{both} beside the model name different classes or orders; say which hold with --classes FILE."
        )
    return found[0] if found else None


def labelled_source(
    source: Source, outputs: int | None, stated: StatedNames | None
) -> Iterator[LabelledSource]:
    """Yield the ways in which the labels of a source can be outputs of the model, the usual one first.

    Parameters
    ----------
    source : the images; its labels are places in its `class_names`.
    outputs : the number of classes that the model tells apart; None if that is not known yet.
    stated : the names of the model's classes; None if nobody states any.

    Yields
    ------
    One way as a rule; several where folders are called by numbers, whose order labelled images must decide.

    Raises
    ------
    ImagesError
        No folder is one of the stated classes.
    ModelError
        Nobody states the classes, and the folders are not as many as the outputs.
    """
    found = source.class_names
    table = getattr(source, "table", None)
    if stated is not None and outputs is not None and len(stated.names) != outputs:
        raise ModelError(_other_number(stated, outputs))
    if table is not None and stated is not None and table.names == stated.names:
        table = replace(table, reason=stated.reason)
        words = {row.index: row.found for row in table.rows if row.index is not None}
        yield LabelledSource(source, stated.names, table, stated.reason)
        yield from _by_text(source, table, [words.get(n, "") for n in range(len(table.names))])
        return
    if found is None or outputs is None:
        names = None if stated is None else stated.names
        yield LabelledSource(source, names or found, table, "" if stated is None else stated.reason)
        return
    counts = dict.fromkeys(found, 0)
    counts |= Counter(found[e.label] for e in source.entries() if e.label is not None)
    if stated is not None:
        yield from _by_stated(source, found, counts, stated)
    else:
        yield from _by_folders(source, found, counts, outputs)


def _by_stated(
    source: Source, found: tuple[str, ...], counts: dict[str, int], stated: StatedNames
) -> Iterator[LabelledSource]:
    if found == stated.names:
        yield LabelledSource(source, found, getattr(source, "table", None), stated.reason)
        return
    try:
        table = class_table(counts, stated.names, stated.reason)
    except ImagesError as error:
        raise ImagesError(f"{source.description}: {error} {stated.reason}") from None
    yield _relabelled(source, table, found)
    yield from _by_text(source, table, found)


def _by_text(source: Source, table: ClassTable, words: Sequence[str]) -> Iterator[LabelledSource]:
    """The way in which folders called by numbers are outputs in the order of text, if that is another one."""
    if any(row.how != "number" for row in table.rows):
        return
    spelled = {row.index: row.found for row in table.rows}
    every = sorted(spelled.get(n, str(n)) for n in range(len(table.names)))
    rows = [
        replace(row, index=(index := every.index(row.found)), name=table.names[index])
        for row in table.rows
    ]
    if rows != list(table.rows):
        reason = f"{table.reason} The folders are called by numbers{_order_of(every)}."
        yield _relabelled(source, replace(table, rows=tuple(rows), reason=reason), tuple(words))


def _by_folders(
    source: Source, found: tuple[str, ...], counts: dict[str, int], outputs: int
) -> Iterator[LabelledSource]:
    if orders := [] if _in_number_order(found) else number_orders(found, outputs):
        for names in orders:
            reason = (
                f"The folders are called by numbers; the outputs are taken to be {', '.join(names[:3])}, ..."
                f"{_order_of(names)}."
            )
            yield _relabelled(
                source, _by_name(counts, names, reason, "number", doubtful=len(orders) > 1), found
            )
        return
    if len(found) == outputs:
        reason = (
            "Nobody states the model's class names: the classes of the images, sorted, are taken to be its "
            "outputs in turn, as Keras has them."
            if list(found) == sorted(found)
            else "The class names are those that the images state."
        )
        table = _by_name(counts, found, reason, "position", doubtful=False)
        yield LabelledSource(source, found, table, reason)
        return
    empty = tuple(getattr(source, "empty", ()))
    every = tuple(sorted({*found, *empty}))
    if len(found) < outputs == len(every):
        reason = (
            "Nobody states class names: the folders in alphabetical order are taken to be the outputs, the "
            "empty "
            f"ones ({', '.join(map(shorten, empty[:6]))}) as well, as Keras has them."
        )
        yield _relabelled(source, _by_name(counts, every, reason, "position", doubtful=True), found)
        return
    raise ModelError(_unknown_classes(found, counts, outputs, empty))


def _relabelled(source: Source, table: ClassTable, found: tuple[str, ...]) -> LabelledSource:
    return LabelledSource(Relabelled(source, table, found), table.names, table, table.reason)


def _by_name(
    counts: dict[str, int], names: tuple[str, ...], reason: str, how: str, *, doubtful: bool
) -> ClassTable:
    index = {name: number for number, name in enumerate(names)}
    rows = [ClassRow(one, counts[one], index[one], one, how) for one in counts]
    rows.sort(key=lambda row: index[row.found])
    return ClassTable(tuple(rows), names, reason, doubtful)


def _in_number_order(found: tuple[str, ...]) -> bool:
    """Whether a file lists its classes 0, 1, 2, ... itself: sorted folders would have 10 after 1."""
    numbers = numbers_of(found)
    return (
        numbers is not None
        and list(numbers.values()) == sorted(numbers.values())
        and list(found) != sorted(found)
    )


def _order_of(names: Sequence[str]) -> str:
    """The kind of order, where numbers and text differ."""
    if list(names) == sorted(names, key=int):
        return "" if list(names) == sorted(names) else " in the order of numbers"
    return " in the order of text, as Keras sorts folders"


def _some(names: Sequence[str], counts: dict[str, int], most: int = 12) -> str:
    shown = ", ".join(f"{shorten(n)} ({plural(counts[n], 'image')})" for n in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _unknown_classes(
    found: tuple[str, ...], counts: dict[str, int], outputs: int, empty: tuple[str, ...]
) -> str:
    """Why folders cannot be matched with outputs, and what to do."""
    few = "has" if len(found) > outputs else "has no names for them, and it has"
    hint = f" Without pictures: {', '.join(map(shorten, empty[:12]))}." if empty else ""
    if all(len(one) == 9 and one[0] == "n" and one[1:].isdecimal() for one in found):
        hint += (
            " The folders are synsets of ImageNet: --classes imagenet_class_index.json, the file that Keras "
            "keeps "
            "in ~/.keras/models (https://storage.googleapis.com/download.tensorflow.org/data/"
            "imagenet_class_index.json)."
        )
    return (
        f"The images are of {plural(len(found), 'class', 'classes')}, {_some(found, counts)}; the model "
        f"{few} "
        f"{plural(outputs, 'output')}. Folders are not matched with outputs by position. Name the classes of "
        "all "
        "outputs, in their order, as the folders are called: --classes FILE (class_names.txt with one name "
        "per "
        "line, class_indices.json of Keras) or --classes NAME,NAME,...; a file class_names.txt or labels.txt "
        f"beside the model does, too.{hint}"
    )


def _other_number(stated: StatedNames, outputs: int) -> str:
    some = ", ".join(map(shorten, stated.names[:5])) + ", ..." * (len(stated.names) > 5)
    return (
        f"{stated.reason} They are {len(stated.names)} class names ({some}); the model tells {outputs} "
        "classes "
        "apart. Name each once, in the order of the outputs."
    )


def order_of(way: LabelledSource, first: LabelledSource) -> str:
    """The first class names in the order of the outputs, or how two orders of the same names differ."""
    if way is not first and way.names == first.names:
        return "those of the folders in the order of text"
    return ", ".join([*(way.names or ())[:3], "..."])


def order_undecided(ways: Sequence[LabelledSource], said: str) -> ImagesError:
    """Return the error for folders called by numbers whose order the images do not decide."""
    lines = []
    for way in ways:
        names = way.names or ()
        short = len(names) <= MOST_NAMES
        lines.append(
            f"\n  --classes {','.join(names)}"
            if short
            else f"\n  --classes FILE, with the lines {', '.join(names[:12])}, ..."
        )
    return ImagesError(
        f"The folders are called by numbers, and it is not clear which output each is. {said} Keras sorts "
        "folders "
        f"as text (0, 1, 10, 2), a list of numbers has 0, 1, 2. Say which:{''.join(lines)}"
    )


def class_names_of(model: Any) -> StatedNames | None:
    """Return the class names that a Keras model has as an attribute; None if it has none."""
    names = getattr(model, "class_names", None)
    if isinstance(names, (list, tuple)) and names:
        return StatedNames(
            tuple(map(str, names)), "The class names are those that the model states."
        )
    return None
