"""Reads the tables of a run's database as pandas tables, arrays of columns or rows; every cell is checked."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from robustness.errors import RunError
from robustness.runs import run_folder
from robustness.runs.cells import MOST_ROWS, expect_cells, filled, fit
from robustness.runs.database import Database
from robustness.runs.image_columns import MOST_CONFIDENCE, ImageColumns
from robustness.runs.records import (
    FAILED,
    FLIPPED,
    DistanceRow,
    GradientRow,
    ImageRow,
    OutcomeRow,
    Row,
    SizeRow,
    StripRow,
    UploadRow,
    ViewRow,
    data_digest,
)

TABLES: dict[str, tuple[type, tuple[str, ...]]] = {
    "images": (ImageRow, ("key",)),
    "outcomes": (OutcomeRow, ("image", "attack", "epsilon")),
    "strips": (StripRow, ("image", "attack", "epsilon", "step")),
    "gradients": (GradientRow, ("image", "attack", "epsilon")),
    "distances": (DistanceRow, ("image", "attack", "epsilon", "norm")),
    "sizes": (SizeRow, ("image",)),
    "uploads": (UploadRow, ("image", "attack", "epsilon")),
    "views": (ViewRow, ("image", "attack", "epsilon")),
}
_PICTURES = {
    "images": ("png",), "outcomes": ("png",), "strips": ("png",), "uploads": ("file",),
    "views": ("before", "after"),
}  # fmt: skip
"""The columns that hold paths of pictures."""
PART = 50_000
"""Rows that become a part of a table at once."""
FEW = 1_000
"""Rows that are read at once otherwise: Python's search for garbage visits no more tuples."""
LATER = {"gradients", "distances", "sizes", "uploads", "views"}
"""Tables that runs of earlier versions lack."""
TABLE_OF = {row: table for table, (row, _) in TABLES.items()}
"""The table of each class of rows."""

AnyRow = TypeVar("AnyRow", bound=Row)


def _in_parts(keys: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Yield keys in lists that SQLite takes as values of one query."""
    return (keys[start : start + size] for start in range(0, len(keys), size))


class Tables:
    """The tables of one run.

    Parameters
    ----------
    path : Path
        The run folder.
    writable : bool
        Whether rows can be written; a missing database is then created.
    made : mapping of str to str
        The statement that creates each table.

    Notes
    -----
    Methods raise RunError if the database is damaged.
    """

    def __init__(self, path: Path, *, writable: bool, made: Mapping[str, str]) -> None:
        self.path, self._writable = path, writable
        self._db = Database(path, writable=writable, tables=made)
        self._images: ImageColumns | None = None

    def _frame(self, table: str, order: str) -> pd.DataFrame:
        row, primary = TABLES[table]
        columns = [f.name for f in fields(row)]
        frame = self._table(table, columns, order)
        # In a database that may be written, the tables are our own, with their primary keys.
        if not self._writable and frame.duplicated(list(primary)).any():
            raise RunError(
                f"{self.path / run_folder.DATABASE}: {table} has two rows with the same "
                f"{', '.join(primary)}; expected one. The run is damaged or was altered: restore it from a "
                "copy, or audit again."
            )
        return frame

    def _table(self, table: str, columns: Sequence[str], order: str = "rowid") -> pd.DataFrame:
        """Columns of a table. Read in parts, since Python's numbers and texts take many times the memory."""
        names, parts, before = list(columns), [], 0
        for rows in self._parts(table, names, order, PART):
            part = pd.DataFrame(rows, columns=names)
            if not fit(TABLES[table][0], part) or before + len(rows) > MOST_ROWS:
                self._expect_cells(table, rows, names, before=before)
            before += len(rows)
            parts.append(part)
        if len(parts) < 2:
            return parts[0] if parts else pd.DataFrame({name: [] for name in names}, dtype=object)
        # A part may lack any value of a column, or any fraction.
        return pd.concat(parts, ignore_index=True).infer_objects()

    def _parts(
        self, table: str, columns: Sequence[str], order: str, size: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a table in lists of `size`, not yet checked."""
        # The names are constants of this module.
        query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order} LIMIT {MOST_ROWS + 1}"  # noqa: S608
        with contextlib.closing(self._db.parts(query, size)) as parts:
            yield from parts

    def columns_of(self, table: str, *columns: str) -> pd.DataFrame:
        """Return some columns of a table, in any order of its rows: a fraction of the time of all.

        Parameters
        ----------
        table : str
            The name of the table.
        *columns : str
            Names of its columns.
        """
        return self._table(table, columns)

    def _expect_cells(
        self,
        table: str,
        rows: Sequence[tuple[Any, ...]],
        columns: Sequence[str] = (),
        *,
        before: int = 0,
    ) -> None:
        try:
            expect_cells(TABLES[table][0], rows, columns, before=before)
        except RunError as error:
            raise RunError(f"{self.path / run_folder.DATABASE}: {table}: {error}") from None

    def images(self) -> pd.DataFrame:
        """Return the images, in the order of the audit; a column per field of `ImageRow`."""
        return self._frame("images", "position")

    def outcomes(self) -> pd.DataFrame:
        """Return the outcomes, sorted by attack, epsilon and image.

        Returns
        -------
        pd.DataFrame
            A column per field of `OutcomeRow`; in a run with a norm that has no column there, a last column
            with its distances.
        """
        return self._with_distances(self._frame("outcomes", "attack, epsilon, image"))

    def _with_distances(self, outcomes: pd.DataFrame) -> pd.DataFrame:
        """`outcomes` with a column for the norm in the table of distances, if any; NaN except for flips."""
        if not self._db.columns("distances"):
            return outcomes
        rows = self._frame("distances", "norm, attack, epsilon, image")
        keys = ["image", "attack", "epsilon"]
        if rows.empty:
            return outcomes
        norm = str(rows["norm"].iloc[0])
        if norm in outcomes.columns or (rows["norm"] != norm).any():
            raise RunError(
                f"{self.path / run_folder.DATABASE}: the table distances has {norm[:40]!r}; expected one "
                "norm that has no column in the table outcomes. The run is damaged or was altered: restore "
                "it from a copy, or audit again."
            )
        measured = rows[[*keys, "distance"]].rename(columns={"distance": norm})
        joined = outcomes.merge(measured, on=keys, how="left")
        return joined.assign(**{norm: joined[norm].where(joined["status"] == FLIPPED)})

    def strips(self) -> pd.DataFrame:
        """Return the steps of the best cases; a column per field of `StripRow`."""
        return self._frame("strips", "attack, epsilon, image, step")

    def gradients(self) -> pd.DataFrame:
        """Return how often attacks got no gradient on robust images; empty if the run did not record it."""
        if not self._db.columns("gradients"):
            return pd.DataFrame(columns=[f.name for f in fields(GradientRow)])
        return self._frame("gradients", "attack, epsilon, image")

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return height and width of each picture that is attacked at its own size, by the image's key."""
        if not self._db.columns("sizes"):
            return {}
        rows = self._db.select("SELECT image, height, width FROM sizes")
        self._expect_cells("sizes", rows)
        return {image: (height, width) for image, height, width in rows}

    def uploads(self) -> pd.DataFrame:
        """Return the uploaded files of flips in a lossy format; a column per field of `UploadRow`."""
        if not self._db.columns("uploads"):
            return pd.DataFrame(columns=[f.name for f in fields(UploadRow)])
        return self._frame("uploads", "attack, epsilon, image")

    def views(self) -> pd.DataFrame:
        """Return what the model sees of the flips whose steps are kept; a column per field of `ViewRow`."""
        if not self._db.columns("views"):
            return pd.DataFrame(columns=[f.name for f in fields(ViewRow)])
        return self._frame("views", "attack, epsilon, image")

    def image_rows(self) -> Iterator[ImageRow]:
        """Yield the images in the order of the audit, with constant memory."""
        yield from self._stream(ImageRow, "position")

    def image_columns(self) -> ImageColumns:
        """Return columns of the images as arrays, which are kept until a row of an image changes."""
        if self._images is None:
            self._images = ImageColumns.of(self._checked("images", ImageColumns.NAMES, "rowid"))
        return self._images

    def images_of(self, keys: Sequence[str]) -> dict[str, ImageRow]:
        """Return the rows of images by their keys; RunError if one has none."""
        columns = [f.name for f in fields(ImageRow)]
        found: dict[str, ImageRow] = {}
        for some in _in_parts(keys):
            query = f"SELECT {', '.join(columns)} FROM images WHERE key IN ({', '.join('?' * len(some))})"  # noqa: S608
            rows = self._db.select(query, tuple(some))
            self._expect_cells("images", rows, columns)
            found |= {row[0]: ImageRow(**filled(ImageRow, row)) for row in rows}
        if len(found) < len(set(keys)):
            raise RunError(
                f"{self.path / run_folder.DATABASE} has lost a row of an image while it was used. Is another "
                "program changing it? Resume the run."
            )
        return found

    def data_digest(self) -> str:
        """Return the SHA-256 (hexadecimal) of the keys and pixel hashes of all images, in their order."""
        columns = ("key", "digest")
        parts = self._checked("images", columns, "position")
        return data_digest((key, digest or "") for rows in parts for key, digest in rows)

    def pictured_flips(self) -> pd.DataFrame:
        """Return the flips whose pictures are kept, sorted by attack, epsilon and image.

        Returns
        -------
        pd.DataFrame
            A column per field of `OutcomeRow`.
        """
        columns = [f.name for f in fields(OutcomeRow)]
        chosen = f"outcomes WHERE status = '{FLIPPED}' AND png NOT NULL"
        parts = self._checked("outcomes", columns, "attack, epsilon, image", chosen)
        return pd.DataFrame([row for rows in parts for row in rows], columns=columns)

    def pictures(self) -> set[str]:
        """Return the paths of all pictures that the run names."""
        names: set[str] = set()
        for table, columns in _PICTURES.items():
            for column in columns if self._db.columns(table) else ():
                for rows in self._checked(
                    table, (column,), "rowid", f"{table} WHERE {column} NOT NULL"
                ):
                    names.update(name for (name,) in rows)
        return names

    def unusual_names(self) -> dict[str, str]:
        """Return by its key the name of each image whose name is not the last part of its key."""
        unusual = (
            "instr(name, '/') OR (name <> key AND substr(key, -length(name) - 1) <> '/' || name)"
        )
        return dict(self._db.select(f"SELECT key, name FROM images WHERE {unusual}"))  # noqa: S608

    def impossible(
        self, attack: str, *, steps: int, restarts: int, classes: int
    ) -> list[tuple[str, str, float]]:
        """Return image, attack and epsilon of outcomes of one attack whose cells no audit writes.

        These are flips without their class, confidence, distances or steps, or with numbers that the attack
        and the model cannot reach, and failures without a reason.

        Parameters
        ----------
        attack : str
            The label of the attack.
        steps, restarts, classes : int
            The number of its steps, of its restarts, and of the model's classes.
        """
        most: dict[str, float] = {
            "adversarial_class": classes - 1,
            "step": steps,
            "restart": restarts - 1,
        }
        most |= dict.fromkeys(("confidence_before", "confidence_after"), MOST_CONFIDENCE)
        there = [f"{name} IS NOT NULL" for name in ("l0", "l1", "l2", "linf")]
        whole = " AND ".join([*there, *(f"{name} BETWEEN 0 AND ?" for name in most)])
        query = (
            "SELECT image, attack, epsilon FROM outcomes WHERE attack = ? AND ("  # noqa: S608
            f"(status = ? AND NOT coalesce({whole}, 0)) OR (status = ? AND coalesce(reason, '') = ''))"
        )
        return self._db.select(query, (attack, FLIPPED, *most.values(), FAILED))

    def rows(self, kind: type[AnyRow]) -> Iterator[AnyRow]:
        """Yield the rows of a table in the order in which they were written, with constant memory.

        Parameters
        ----------
        kind : type of Row
            The class of the rows.
        """
        if self._db.columns(TABLE_OF[kind]):
            yield from self._stream(kind, "rowid")

    def _stream(self, kind: type[AnyRow], order: str) -> Iterator[AnyRow]:
        columns = [f.name for f in fields(kind)]
        for rows in self._checked(TABLE_OF[kind], columns, order):
            for values in rows:
                yield kind(**filled(kind, values))

    def _checked(
        self, table: str, columns: Sequence[str], order: str, chosen: str = ""
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a table in lists of `FEW`, checked; `chosen` is the table with a condition."""
        before = 0
        for rows in self._parts(chosen or table, columns, order, FEW):
            self._expect_cells(table, rows, columns, before=before)
            before += len(rows)
            yield rows

    def strays(self, spare: Collection[str] = ()) -> list[str]:
        """Return the tables, but for `spare`, with a row of an image that is not in the table of images."""
        tables = [t for t, (_, keys) in TABLES.items() if keys[0] == "image" and t not in spare]
        # The names are constants of this module.
        query = "SELECT 1 FROM {0} WHERE NOT EXISTS (SELECT 1 FROM images WHERE key = {0}.image) LIMIT 1"
        return [
            table
            for table in tables
            if self._db.columns(table) and self._db.select(query.format(table))
        ]

    def extent(self) -> tuple[int, int, int | None, int | None]:
        """Return the number of images, that of their positions, and the least and largest position."""
        query = (
            "SELECT count(*), count(DISTINCT position), min(position), max(position) FROM images"
        )
        return self._db.select(query)[0]

    def searches(self) -> set[tuple[str, float]]:
        """Return the attacks and epsilons that the table of outcomes has."""
        return set(self._db.select("SELECT DISTINCT attack, epsilon FROM outcomes LIMIT 100000"))

    def image_count(self) -> int:
        """Return the number of images with a row."""
        return int(self._db.select("SELECT count(*) FROM images")[0][0])

    def first_flips(self, attacks: Iterable[str]) -> dict[str, float]:
        """Return, by the key of each image, the smallest epsilon at which any of `attacks` flips it."""
        first: dict[str, float] = {}
        for attack in attacks:
            for image, epsilon in self._db.select(
                "SELECT image, min(epsilon) FROM outcomes WHERE attack = ? AND status = ? GROUP BY image",
                (attack, FLIPPED),
            ):
                first[image] = min(epsilon, first.get(image, epsilon))
        return first

    def count(self, attack: str | None = None, epsilon: float | None = None) -> dict[str, int]:
        """Return the number of outcomes by status; only of one attack, or at one epsilon, if given."""
        rows = self._db.select(
            "SELECT status, count(*) FROM outcomes WHERE ? IN (attack, '') AND "
            "(? IS NULL OR epsilon = ?) GROUP BY status",
            (attack or "", epsilon, epsilon),
        )
        return dict(rows)
