"""Reads and writes a run folder (`run.json`, `run.sqlite`, `images/`), so that a kill loses nothing.

`run.sqlite` is authoritative. A row is committed only after its picture is on disk. A picture is named by the
SHA-256 of its bytes and moved to its path in one step, so a file that exists is complete; `evidence_intact`
checks that again when a run is resumed. Reading needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from robustness.errors import RunError
from robustness.files import disk_errors
from robustness.files.reading import MOST_JSON, MOST_PICTURE, expect_file, read_within
from robustness.files.writing import own_folder, replace_within
from robustness.runs import run_folder
from robustness.runs.cells import MOST_ROWS, expect_cells, filled, fit
from robustness.runs.damage import damaged_pictures
from robustness.runs.database import Database
from robustness.runs.image_columns import ImageColumns
from robustness.runs.records import (
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
    png_name,
)
from robustness.runs.run_json import manifest_of, new_text_of, text_of
from robustness.runs.schema import Manifest

_TABLES: dict[str, tuple[type, tuple[str, ...]]] = {
    "images": (ImageRow, ("key",)),
    "outcomes": (OutcomeRow, ("image", "attack", "epsilon")),
    "strips": (StripRow, ("image", "attack", "epsilon", "step")),
    "gradients": (GradientRow, ("image", "attack", "epsilon")),
    "distances": (DistanceRow, ("image", "attack", "epsilon", "norm")),
    "sizes": (SizeRow, ("image",)),
    "uploads": (UploadRow, ("image", "attack", "epsilon")),
    "views": (ViewRow, ("image", "attack", "epsilon")),
}
PART = 50_000
"""Rows that are read at once."""
_LATER = {"gradients", "distances", "sizes", "uploads", "views"}
"""Tables that runs of earlier versions lack."""
_SQL_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "REAL"}


def _create(table: str) -> str:
    row, primary = _TABLES[table]
    columns = [f"{f.name} {_SQL_TYPES[str(f.type).split(' ')[0]]}" for f in fields(row)]
    keys = f"PRIMARY KEY ({', '.join(primary)})"
    return f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, {keys})"


def _in_parts(keys: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Yield keys in lists that SQLite takes as values of one query."""
    return (keys[start : start + size] for start in range(0, len(keys), size))


def _writing(table: str) -> tuple[str, attrgetter[Any]]:
    """The statement that writes a row, and the getter of its values."""
    names = [f.name for f in fields(_TABLES[table][0])]
    # The table's name is a constant of this module.
    statement = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    return statement, attrgetter(*names)


_WRITING = {row: _writing(table) for table, (row, _) in _TABLES.items()}
_TABLE_OF = {row: table for table, (row, _) in _TABLES.items()}

AnyRow = TypeVar("AnyRow", bound=Row)


class Run:
    """A run folder: `Run.create` and `Run.resume` open it for writing, `Run.open` for reading.

    Notes
    -----
    Methods that read raise RunError if a file of the run is damaged; methods that write raise StorageError
    if the disk refuses, or if the folder was moved or deleted.
    """

    def __init__(
        self, path: Path, *, writable: bool, claim: run_folder.Claim | None = None
    ) -> None:
        self.path = path
        self._writable, self._claim = writable, claim
        made = {table: _create(table) for table in _TABLES}
        self._db = Database(path, writable=writable, tables=made)
        self._place = _identity(path / run_folder.DATABASE)
        self._images: ImageColumns | None = None
        self.pictures_checked = False
        """Whether all pictures were checked since the run was opened, so that `settled` reads none."""

    @classmethod
    def create(cls, path: str | Path, manifest: Manifest) -> Run:
        """Begin a run in a missing or empty folder, or one in which an audit was killed before it began.

        Parameters
        ----------
        path : str or Path
            The folder.
        manifest : Manifest
            The content of its `run.json`.

        Raises
        ------
        SettingError
            `run.json` could not be read again with this content.
        RunUsageError
            The folder is not empty.
        StorageError
            The folder cannot be created. No file is left in it.
        """
        disk_errors.expect_named(path, "The path of the run")
        folder, text = Path(path), new_text_of(manifest)
        with run_folder.made(folder) as claim:
            run = cls(folder, writable=True, claim=claim)
            try:
                replace_within(folder, run_folder.MANIFEST, text)
            except BaseException:
                run.close()
                raise
        return run

    @classmethod
    def resume(cls, path: str | Path) -> Run:
        """Open an existing run for writing.

        Parameters
        ----------
        path : str or Path
            The run folder.

        Raises
        ------
        RunUsageError
            There is no run, or another audit is writing to it.
        RunError
            The database is damaged, or its tables are not defined as in this version.
        StorageError
            The folder cannot be written to.
        """
        disk_errors.expect_named(path, "The path of the run")
        folder = Path(path)
        run_folder.expect_run(folder)
        with disk_errors.using(folder):
            disk_errors.expect_writable(folder)
            claim = run_folder.Claim(folder)
            try:
                # Opening for reading checks the untrusted files before anything is written.
                cls.open(folder).close()
                run_folder.make_way(folder / run_folder.PICTURES / "any")
                run_folder.sweep(folder)
                own_folder(folder / run_folder.PICTURES)
                run = cls(folder, writable=True, claim=claim)._whole()
                run._expect_sound()
            except BaseException:
                claim.release()
                raise
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open an existing run for reading.

        Parameters
        ----------
        path : str or Path
            The run folder.

        Raises
        ------
        RunUsageError
            There is no run.
        RunError
            The database is damaged, or lacks a table or a column.
        """
        disk_errors.expect_named(path, "The path of the run")
        folder = Path(path)
        run_folder.expect_run(folder)
        with disk_errors.using(folder, action="read"):
            expect_file(folder, run_folder.MANIFEST, MOST_JSON)
            return cls(folder, writable=False)._whole()

    def _expect_sound(self) -> None:
        """RunError if a page of the database is damaged, which loses rows, or a table is not ours."""
        found = [str(row[0]) for row in self._db.select("PRAGMA quick_check(1)")]
        try:
            self._db.expect_ours()
        except RunError:
            self.close()
            raise
        if found != ["ok"]:
            self.close()
            raise disk_errors.unreadable(
                self.path, sqlite3.DatabaseError(" ".join(found[0].split()))
            )

    def _whole(self) -> Run:
        """This run; RunError if its database lacks a table or a column, which the message names."""
        lost = []
        for table, (row, _) in _TABLES.items():
            there = set(self._db.columns(table))
            missing = [f.name for f in fields(row) if f.name not in there]
            absent = [] if table in _LATER else [table]
            lost += [f"{table}.{name}" for name in missing] if there else absent
        if lost:
            self.close()
            raise RunError(
                f"{self.path / 'run.sqlite'} lacks {', '.join(lost)}: another version of the toolkit "
                "wrote it, or it was altered. Read it with the version that run.json names, restore "
                "it from a copy, or audit again."
            )
        return self

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Convert errors of the disk to StorageError; raise it also if the database was moved or deleted."""
        if not self._writable:
            yield
            return
        with disk_errors.using(self.path):
            # SQLite reports no error when it writes to a deleted file.
            if _identity(self.path / run_folder.DATABASE) != self._place:
                raise disk_errors.gone(self.path)
            yield

    @property
    def manifest(self) -> Manifest:
        """The content of `run.json`; RunError, which names the key, if it is damaged."""
        data = read_within(self.path, run_folder.MANIFEST, MOST_JSON)
        return manifest_of(data, str(self.path / run_folder.MANIFEST))

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace `run.json` atomically."""
        with self._writing():
            replace_within(self.path, run_folder.MANIFEST, text_of(manifest))

    def save_png(self, data: bytes, suffix: str = ".png") -> str:
        """Store a picture under the hash of its bytes.

        Parameters
        ----------
        data : bytes
            The PNG, or an encoded picture of another format.
        suffix : str
            The suffix of the file.

        Returns
        -------
        str
            Its path within the run folder. Another file at that path is replaced.
        """
        name = png_name(hashlib.sha256(data).hexdigest(), suffix)
        with self._writing():
            if not self._holds(name, data):
                run_folder.make_way(self.path / run_folder.PICTURES / "any")
                run_folder.make_way(self.path / name)
                replace_within(self.path, name, data)
        return name

    def _holds(self, name: str, data: bytes) -> bool:
        """Whether a file of the run has exactly these bytes."""
        try:
            return self.png(name) == data
        except RunError:
            return False

    def png(self, name: str) -> bytes:
        """Return the bytes of a picture.

        Parameters
        ----------
        name : str
            Its path within the run folder.

        Raises
        ------
        RunError
            The file is missing, not a regular file, too large, or outside `images/`.
        """
        if not name.startswith(f"{run_folder.PICTURES}/"):
            raise RunError(
                f"{name!r} is not the path of a picture of this run; expected images/.... The run may have "
                "been tampered with: get a new copy, or audit again."
            )
        return read_within(self.path, name, MOST_PICTURE)

    def evidence_intact(self, name: str | None) -> bool:
        """Whether a picture is on disk and its bytes have the hash in its name; True for None."""
        if name is None:
            return True
        try:
            data = self.png(name)
        except RunError:
            return False
        return hashlib.sha256(data).hexdigest() == Path(name).stem

    def damaged(self, names: Iterable[str]) -> set[str]:
        """Return which of these pictures are missing or damaged.

        Parameters
        ----------
        names : iterable of str
            Paths within the run folder.

        Returns
        -------
        set of str
            Those without a regular file of at least one byte, and, of the `MOST_HASHED` newest files, those
            whose bytes do not have the hash in the name. `robustness verify` hashes all.
        """
        return damaged_pictures(self.path, names)

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows in one transaction, replacing rows with the same key."""
        given = list(rows)
        if any(isinstance(row, ImageRow) for row in given):
            self._images = None
        with self._writing():
            self._db.change((_WRITING[type(row)][0], _WRITING[type(row)][1](row)) for row in given)

    def add_new(self, rows: Sequence[Row]) -> list[tuple[Row, Row]]:
        """Write the rows whose keys have no row yet, in one transaction.

        Parameters
        ----------
        rows : sequence of Row
            Of one table.

        Returns
        -------
        list of (Row, Row)
            Rows that were not written since their keys have other content: the given and the stored one.
        """
        if not rows:
            return []
        self._images = None
        kind = type(rows[0])
        table, getter = _TABLE_OF[kind], _WRITING[kind][1]
        insert = _WRITING[kind][0].replace("OR REPLACE", "OR IGNORE")
        keys = _TABLES[table][1]
        where = " AND ".join(f"{key} = ?" for key in keys)
        columns = ", ".join(f.name for f in fields(kind))
        with self._writing():
            written = self._db.changed((insert, getter(row)) for row in rows)
        clashes: list[tuple[Row, Row]] = []
        for row in (row for row, new in zip(rows, written, strict=True) if not new):
            of_row = tuple(getattr(row, key) for key in keys)
            query = f"SELECT {columns} FROM {table} WHERE {where}"  # noqa: S608
            for values in self._db.select(query, of_row):
                stored = kind(**filled(kind, values))
                if stored != row:
                    clashes.append((row, stored))
        return clashes

    def drop(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Delete rows in one transaction.

        Parameters
        ----------
        table : str
            The name of the table.
        rows : iterable of mapping
            Mappings that contain the primary key of each row.
        """
        if table == "images":
            self._images = None
        keys = _TABLES[table][1]
        where = " AND ".join(f"{key} IS ?" for key in keys)
        statement = f"DELETE FROM {table} WHERE {where}"  # noqa: S608
        with self._writing():
            self._db.change((statement, tuple(row[key] for key in keys)) for row in rows)

    def _frame(self, table: str, order: str) -> pd.DataFrame:
        row, primary = _TABLES[table]
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
        for rows in self._parts(table, names, order):
            part = pd.DataFrame(rows, columns=names)
            if not fit(_TABLES[table][0], part) or before + len(rows) > MOST_ROWS:
                self._expect_cells(table, rows, names, before=before)
            before += len(rows)
            parts.append(part)
        if len(parts) < 2:
            return parts[0] if parts else pd.DataFrame({name: [] for name in names}, dtype=object)
        # A part may lack any value of a column, or any fraction.
        return pd.concat(parts, ignore_index=True).infer_objects()

    def _parts(
        self, table: str, columns: Sequence[str], order: str
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a table in lists of `PART`, not yet checked."""
        # The names are constants of this module.
        query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order} LIMIT {MOST_ROWS + 1}"  # noqa: S608
        with contextlib.closing(self._db.parts(query, PART)) as parts:
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
            expect_cells(_TABLES[table][0], rows, columns, before=before)
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

    def rows(self, kind: type[AnyRow]) -> Iterator[AnyRow]:
        """Yield the rows of a table in the order in which they were written, with constant memory.

        Parameters
        ----------
        kind : type of Row
            The class of the rows.
        """
        if self._db.columns(_TABLE_OF[kind]):
            yield from self._stream(kind, "rowid")

    def _stream(self, kind: type[AnyRow], order: str) -> Iterator[AnyRow]:
        columns = [f.name for f in fields(kind)]
        for rows in self._checked(_TABLE_OF[kind], columns, order):
            for values in rows:
                yield kind(**filled(kind, values))

    def _checked(
        self, table: str, columns: Sequence[str], order: str, chosen: str = ""
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a table in lists of `PART`, checked; `chosen` is the table with a condition."""
        before = 0
        for rows in self._parts(chosen or table, columns, order):
            self._expect_cells(table, rows, columns, before=before)
            before += len(rows)
            yield rows

    def strays(self) -> list[str]:
        """Return the tables with a row of an image that is not in the table of images."""
        tables = [table for table, (_, keys) in _TABLES.items() if keys[0] == "image"]
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

    def settled(self, attack: str, expected: int) -> set[str]:
        """Return the images whose outcomes under an attack are complete, with intact pictures.

        Parameters
        ----------
        attack : str
            The label of the attack.
        expected : int
            The number of rows of a complete image.

        Returns
        -------
        set of str
            The keys of the images.
        """
        done = self._db.select(
            "SELECT image FROM outcomes WHERE attack = ? GROUP BY image HAVING count(*) = ?",
            (attack, expected),
        )
        settled = {image for (image,) in done}
        if self.pictures_checked:
            return settled
        named = self._db.select(
            "SELECT image, png FROM outcomes WHERE attack = ? AND png NOT NULL", (attack,)
        )
        damaged = self.damaged({png for _, png in named})
        return settled - {image for image, png in named if png in damaged}

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

    def close(self) -> None:
        """Close the database, and release the lock on the folder."""
        self._db.close()
        if self._claim is not None:
            self._claim.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _identity(file: Path) -> tuple[int, int] | None:
    """The device and inode of the file at a path; None if there is no file."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
