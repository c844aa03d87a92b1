"""Reads and writes a run folder (`run.json`, `run.sqlite`, `images/`), so that a kill loses nothing.

`run.sqlite` is authoritative. A row is committed only after its picture is on disk. A picture is named by the
SHA-256 of its bytes and moved to its path in one step, so a file that exists is complete; `evidence_intact`
checks that again when a run is resumed. Reading needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness.errors import RunError
from robustness.files import disk_errors
from robustness.files.reading import MOST_JSON, MOST_PICTURE, expect_file, read_within
from robustness.files.writing import own_folder, replace_within
from robustness.runs import run_folder
from robustness.runs.cells import filled
from robustness.runs.damage import damaged_pictures
from robustness.runs.records import ImageRow, Row, png_name
from robustness.runs.run_json import manifest_of, new_text_of, text_of
from robustness.runs.schema import Manifest
from robustness.runs.tables import LATER, TABLE_OF, TABLES, Tables

if TYPE_CHECKING:
    from robustness.runs.read_ahead import Found

_SQL_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "REAL"}


def _create(table: str) -> str:
    row, primary = TABLES[table]
    columns = [f"{f.name} {_SQL_TYPES[str(f.type).split(' ')[0]]}" for f in fields(row)]
    keys = f"PRIMARY KEY ({', '.join(primary)})"
    return f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, {keys})"


def _writing(table: str) -> tuple[str, attrgetter[Any]]:
    """The statement that writes a row, and the getter of its values."""
    names = [f.name for f in fields(TABLES[table][0])]
    # The table's name is a constant of this module.
    statement = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    return statement, attrgetter(*names)


_WRITING = {row: _writing(table) for table, (row, _) in TABLES.items()}


class Run(Tables):
    """A run folder: `Run.create` and `Run.resume` open it for writing, `Run.open` for reading.

    Notes
    -----
    Methods that read raise RunError if a file of the run is damaged; methods that write raise StorageError
    if the disk refuses, or if the folder was moved or deleted.
    """

    def __init__(
        self, path: Path, *, writable: bool, claim: run_folder.Claim | None = None
    ) -> None:
        made = {table: _create(table) for table in TABLES}
        super().__init__(path, writable=writable, made=made)
        self._claim = claim
        self._place = _identity(path / run_folder.DATABASE)
        self._found: Found | None = None
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
    def resume(cls, path: str | Path, ahead: Callable[[], Found | None] = lambda: None) -> Run:
        """Open an existing run for writing.

        Parameters
        ----------
        path : str or Path
            The run folder.
        ahead : callable
            Returns what another process found in the run, or None; see `robustness.runs.read_ahead`.

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
                # Asked while nobody else writes, and before anything is written here.
                found = ahead()
                run_folder.make_way(folder / run_folder.PICTURES / "any")
                run_folder.sweep(folder)
                own_folder(folder / run_folder.PICTURES)
                run = cls(folder, writable=True, claim=claim)._whole()
                run._take(found)
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

    def _take(self, found: Found | None) -> None:
        """Use what another process found in this run."""
        if found is not None:
            self._found, self._images = found, found.images

    def check(self) -> str:
        """Return the first damaged page of the database in SQLite's words; "ok" if there is none."""
        return str(self._db.select("PRAGMA quick_check(1)")[0][0])

    def _expect_sound(self) -> None:
        """RunError if a page of the database is damaged, which loses rows, or a table is not ours."""
        said = self.check() if self._found is None else self._found.check
        try:
            self._db.expect_ours()
        except RunError:
            self.close()
            raise
        if said != "ok":
            self.close()
            raise disk_errors.unreadable(self.path, sqlite3.DatabaseError(" ".join(said.split())))

    def _whole(self) -> Run:
        """This run; RunError if its database lacks a table or a column, which the message names."""
        lost = []
        for table, (row, _) in TABLES.items():
            there = set(self._db.columns(table))
            missing = [f.name for f in fields(row) if f.name not in there]
            absent = [] if table in LATER else [table]
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

    def damaged(self, names: Collection[str]) -> set[str]:
        """Return which of these pictures are missing or damaged.

        Parameters
        ----------
        names : collection of str
            Paths within the run folder.

        Returns
        -------
        set of str
            Those without a regular file of at least one byte, with a name that no audit writes, and, of the
            `MOST_HASHED` newest files, those whose bytes do not have the hash in the name. `robustness
            verify` hashes all.
        """
        return damaged_pictures(self.path, names)

    def damaged_pictures(self) -> frozenset[str]:
        """Return which pictures that the database of a run just opened names are missing or damaged."""
        if self._found is not None:
            return self._found.damaged
        return frozenset(self.damaged(self.pictures()))

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
        table, getter = TABLE_OF[kind], _WRITING[kind][1]
        insert = _WRITING[kind][0].replace("OR REPLACE", "OR IGNORE")
        keys = TABLES[table][1]
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
        keys = TABLES[table][1]
        where = " AND ".join(f"{key} IS ?" for key in keys)
        statement = f"DELETE FROM {table} WHERE {where}"  # noqa: S608
        with self._writing():
            self._db.change((statement, tuple(row[key] for key in keys)) for row in rows)

    def drop_strays(self) -> int:
        """Delete rows beside the outcomes whose image is not in the table of images; return how many."""
        count = 0
        for table in self.strays(spare=("outcomes",)):
            # The table's name is a constant of this module.
            chosen = f"FROM {table} WHERE image NOT IN (SELECT key FROM images)"  # noqa: S608
            count += int(self._db.select(f"SELECT count(*) {chosen}")[0][0])
            with self._writing():
                self._db.change([(f"DELETE {chosen}", ())])
        return count

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
