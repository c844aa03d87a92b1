"""Reads a CSV list of pictures: finds the columns with the paths and the labels.

Columns are recognised by their names in any spelling: `ClassId`, `class_id` and `class id` are the same.
Columns without a known name must not be ignored silently: the error message asks for the label column.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from robustness.errors import ImagesError
from robustness.images.decode import SUFFIXES
from robustness.images.entries import MAX_ENTRIES
from robustness.images.labels import by_word

PATHS = (
    *(
        "path",
        "filepath",
        "imagepath",
        "imgpath",
        "file",
        "filename",
        "image",
        "imagefile",
        "imagename",
    ),
    *("img", "imgname", "imgfile", "picture", "photo", "relativepath", "imageid"),
)
LABELS = (
    *(
        "label",
        "labels",
        "labelid",
        "labelname",
        "class",
        "classes",
        "classid",
        "classname",
        "classlabel",
    ),
    *(
        "classindex",
        "classidx",
        "target",
        "targets",
        "category",
        "categoryid",
        "categoryname",
        "y",
        "gt",
    ),
    *("groundtruth", "truth", "labelidx", "labelindex"),
)
MAX_LIST_BYTES = 256 << 20
MAX_CELLS = 20_000_000
NONE = "none"
"""Given instead of the name of a label column: the pictures have no labels."""
_ASK = "--label-column NAME on the command line, label_column=NAME in Python"


def read(
    path: Path,
    label_column: str | None = None,
    known: Sequence[str] | None = None,
    said: list[str] | None = None,
) -> Iterator[tuple[str, str]]:
    """Read the path and the label of each row of a CSV list.

    Parameters
    ----------
    path : Path
        The CSV in UTF-8, separated by commas, semicolons, tabs or vertical bars.
    label_column : str, optional
        The name of the column of labels, or its number from 1; "none" for no labels. By default it is found
        by its name; otherwise columns with exactly one 1 and else 0 in each row are one-hot labels.
    known : sequence of str, optional
        The class names; None if they are not known.
    said : list of str, optional
        Receives a note if one column was chosen among several with the same labels.

    Yields
    ------
    tuple of str
        The path, with slashes, and the label, "" if there is none.

    Raises
    ------
    ImagesError
        The file cannot be read or exceeds a limit, or its columns are not recognised; the message lists the
        columns and says how to name the label column.
    """
    if path.stat().st_size > MAX_LIST_BYTES:
        raise ImagesError(
            f"{path.name} is larger than {MAX_LIST_BYTES:,} bytes, the most that a list is read of."
        )
    cells = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t|", key=first.count)
            rows: list[list[str]] = []
            for row in csv.reader(file, delimiter=delimiter):
                if len(rows) > MAX_ENTRIES:
                    raise ImagesError(f"{path.name} lists more than {MAX_ENTRIES:,} pictures.")
                cells += len(row)
                if cells > MAX_CELLS:
                    raise ImagesError(f"{path.name} holds more than {MAX_CELLS:,} cells.")
                if row:
                    rows.append([cell.strip() for cell in row])
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise ImagesError(
            f"{path.name} cannot be read ({error}); expected CSV in UTF-8."
        ) from error
    headless = bool(rows) and any(_is_picture(cell) for cell in rows[0])
    names = [f"column {n + 1}" for n in range(len(rows[0]))] if headless else rows[:1] and rows[0]
    table = _Table(path.name, names or [], rows if headless else rows[1:])
    where = table.path()
    what = table.labels(where, label_column, known, [] if said is None else said)
    for number in range(len(table.rows)):
        yield table.cell(number, where).replace("\\", "/"), what[number] if what else ""


def _is_picture(cell: str) -> bool:
    return PurePosixPath(cell.replace("\\", "/")).suffix.lower() in SUFFIXES


def plain(name: str) -> str:
    """Return the name of a column in lower case, with only its ASCII letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def is_one(name: str, known: Sequence[str]) -> bool:
    """Return whether the name of a column is among the `known` ones, in any spelling, singular or plural."""
    return plain(name) in known or plain(name).removesuffix("s") in known


class _Table:
    """The cells of a CSV list, and the names of its columns."""

    def __init__(self, file: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.file, self.names, self.rows = file, list(names), rows

    def cell(self, row: int, column: int) -> str:
        """Return the text of a cell; "" if the row is too short."""
        return self.rows[row][column] if column < len(self.rows[row]) else ""

    def path(self) -> int:
        """Find the column of paths: by its name, or as the only one that holds names of picture files."""
        named = self._named(PATHS)
        if len(named) == 1:
            return named[0]
        some = range(min(20, len(self.rows)))
        among = named or range(len(self.names))
        holding = [c for c in among if some and all(_is_picture(self.cell(r, c)) for r in some)]
        if len(holding) == 1:
            return holding[0]
        exact = [c for c in named if plain(self.names[c]) == "path"]
        if len(exact) == 1:
            return exact[0]
        raise ImagesError(
            f"{self._said()}, and {'several' if holding or named else 'none'} of them may hold the paths of "
            "the pictures; expected a first line with the names path and label."
        )

    def labels(
        self, path: int, asked: str | None, known: Sequence[str] | None, said: list[str]
    ) -> list[str] | None:
        """Return the label of each row; None if there are no labels."""
        others = [c for c in range(len(self.names)) if c != path]
        if asked is not None:
            return None if asked.strip().casefold() == NONE else self._column(self._asked(asked))
        named = [c for c in self._named(LABELS) if c != path]
        exact = [c for c in named if plain(self.names[c]) == "label"]
        if len(named) == 1:
            return self._column(named[0])
        if named:
            shown = ", ".join(self.names[c] for c in named)
            if len(exact) != 1:
                raise ImagesError(
                    f"{self._said()}; {shown} may each be the label. Say which: {_ASK}."
                )
            self._expect_alike(named, exact[0], known)
            rest = ", ".join(self.names[c] for c in named if c != exact[0])
            said.append(f"labels of the column {self.names[exact[0]]} ({rest} says the same)")
            return self._column(exact[0])
        if not others:
            return None
        if len(others) == 1 and self.names[others[0]].startswith("column "):
            return self._column(others[0])
        if (hot := self._one_hot(others)) is not None:
            return hot
        raise ImagesError(
            f"{self._said()}; none is known to be the label (label, class, target and the like). Say which: "
            f"{_ASK}; {NONE!r} for pictures without labels."
        )

    def _expect_alike(self, columns: Sequence[int], one: int, known: Sequence[str] | None) -> None:
        """ImagesError, with a differing row, unless all `columns` give the same classes as `one`."""
        mine, classes = self._column(one), self._classes(one, known)
        for other in columns:
            theirs = self._column(other)
            if theirs == mine or (classes is not None and self._classes(other, known) == classes):
                continue
            row = next(
                n for n, pair in enumerate(zip(mine, theirs, strict=True)) if len({*pair}) > 1
            )
            raise ImagesError(
                f"{self._said()}; {self.names[one]} and {self.names[other]} may each be the label, and do "
                f"not agree: row {row + 1} has {mine[row][:60]!r} and {theirs[row][:60]!r}. Say which: "
                f"{_ASK}."
            )

    def _classes(self, column: int, known: Sequence[str] | None) -> list[int | None] | None:
        """The classes of a column; None if its words are not classes."""
        try:
            return by_word(self._column(column), known).labels
        except ImagesError:
            return None

    def _column(self, column: int) -> list[str]:
        return [self.cell(row, column) for row in range(len(self.rows))]

    def _named(self, known: Sequence[str]) -> list[int]:
        return [c for c, name in enumerate(self.names) if is_one(name, known)]

    def _asked(self, name: str) -> int:
        """The index of the column with this name, or with this number from 1."""
        for same in (lambda a: a == name, lambda a: plain(a) == plain(name)):
            found = [c for c, one in enumerate(self.names) if same(one)]
            if len(found) == 1:
                return found[0]
        if name.isdigit() and 1 <= int(name) <= len(self.names):
            return int(name) - 1
        raise ImagesError(f"{self._said()}; expected the label column {name!r} to be one of them.")

    def _one_hot(self, columns: Sequence[int]) -> list[str] | None:
        """The name of the column with the 1 in each row; None if the columns are not one-hot."""
        if len(columns) < 2 or not self.rows:
            return None
        found = []
        for row in range(len(self.rows)):
            ones = [c for c in columns if self.cell(row, c) in ("1", "1.0", "True", "true")]
            zeros = [c for c in columns if self.cell(row, c) in ("0", "0.0", "False", "false")]
            if len(ones) != 1 or len(ones) + len(zeros) != len(columns):
                return None
            found.append(self.names[ones[0]])
        return found

    def _said(self) -> str:
        some = self.names[:20] + ["..."] * (len(self.names) > 20)
        return f"{self.file} has the columns {', '.join(some) or '(none)'}"
