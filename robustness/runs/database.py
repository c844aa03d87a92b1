"""`run.sqlite` opened as what it is: somebody's data. Real tables, bounded cells, bounded work.

A database can hold more than data: views over queries that never end, triggers, virtual tables, columns
that are computed when they are read. None of these is ours, so a database with one is refused.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from robustness.errors import RunError
from robustness.files import disk_errors
from robustness.files.reading import expect_file
from robustness.runs import run_folder

NAME = run_folder.DATABASE
MOST_BYTES = 4 << 30
"""Bytes of a database, and of what is written ahead of it: some 20 million outcomes."""
MOST_CELL = 4 << 20
"""Bytes of one cell or row: a strip's probabilities of 100,000 classes are 2 MB."""
_BESIDE = ("-wal", "-shm", "-journal")
_TURN = 100_000
"""Steps of SQLite's machine between two looks at what a query has cost."""
_MANY_TURNS = 500
_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""What a rollback journal ends with that names another file, which SQLite would look into and delete."""


class Database:
    """A connection whose every query has an end.

    What SQLite raises while it is opened or changed goes to the caller; what it raises while it is read
    becomes an error about the run.
    """

    def __init__(self, folder: Path, *, writable: bool, tables: Mapping[str, str]) -> None:
        """`tables`: how each is created, by name; a new database gets them."""
        self.path, self._turns, self._most = folder / NAME, 0, 0
        self._writable, self._tables = writable, tables
        _expect_files(folder, writable=writable)
        self._db = sqlite3.connect(self._address(), uri=True, check_same_thread=False)
        try:
            self._guard()
            if writable:
                # Write-ahead: a kill at any moment leaves the last committed state.
                self._ask("PRAGMA journal_mode=WAL")
                self._ask("PRAGMA synchronous=NORMAL")
                for statement in tables.values():
                    self._ask(statement)
                self._db.commit()
            self._expect_plain()
        except BaseException:
            self._db.close()
            raise

    def _address(self) -> str:
        how = "mode=rwc"
        if not self._writable:
            # Without anything written ahead nobody writes to it: then SQLite need not touch the folder.
            live = self._size("-wal") > 0
            how = "mode=ro" if live else "mode=ro&immutable=1"
        return f"{self.path.resolve().as_uri()}?{how}"

    def _size(self, ending: str = "") -> int:
        try:
            return self.path.with_name(NAME + ending).stat().st_size
        except OSError:
            return 0

    def _guard(self) -> None:
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_CELL)
        self._db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        self._db.set_progress_handler(self._turn, _TURN)
        self._ask("PRAGMA trusted_schema=OFF")
        self._ask("PRAGMA cell_size_check=ON")
        self._ask("PRAGMA mmap_size=0")
        if not self._writable:
            self._ask("PRAGMA query_only=ON")

    def _turn(self) -> bool:
        """Whether a query has to end: it has cost more than all of the file, many times over."""
        self._turns += 1
        return self._turns > self._most

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, with a budget of its own."""
        self._turns, self._most = 0, _MANY_TURNS + 20 * (self._size() + self._size("-wal")) // _TURN
        try:
            return self._db.execute(query, values).fetchall()
        except UnicodeDecodeError as error:
            # What SQLite says of damage can itself be damaged.
            raise sqlite3.DatabaseError(str(error)) from None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with disk_errors.using(self.path.parent, action="read"):
                yield
        except RunError:
            if self._turns <= self._most:
                raise
            raise RunError(
                f"{self.path} asks for more work than its size allows; expected the plain tables of a "
                "run. It may be tampered with: get it anew, or audit again."
            ) from None

    def select(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query; RunError where the database is damaged."""
        with self._reading():
            return self._ask(query, values)

    def stream(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query one by one; RunError where the database is damaged."""
        with self._reading():
            self._ask("PRAGMA query_only")
            yield from self._db.execute(query)

    def change(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        """Execute statements, each with its values, in one transaction."""
        with self._db:
            for statement, values in statements:
                self._turns = 0
                self._db.execute(statement, values)

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns; none if there is no such table."""
        return [one[1] for one in self.select(f"PRAGMA table_xinfo({table})")]

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def _expect_plain(self) -> None:
        """RunError unless there are only real tables in it, and no column is computed."""
        for kind, name, root, sql in self.select(
            "SELECT type, name, rootpage, sql FROM sqlite_master LIMIT 1000"
        ):
            real = kind == "table" and root and re.match(r"CREATE TABLE\b", str(sql), re.IGNORECASE)
            if not (real or (kind == "index" and sql is None)):
                raise RunError(
                    f"{self.path} holds a {kind} {name!r} that is no plain table; expected the tables "
                    f"{', '.join(self._tables)} only. It may be tampered with: get it anew, or audit "
                    "again."
                )
        for table in self._tables:
            hidden = [one[1] for one in self.select(f"PRAGMA table_xinfo({table})") if one[6]]
            if hidden:
                raise RunError(
                    f"{self.path}: {table}.{hidden[0]} is computed when it is read; expected a column "
                    "that is kept. The run may be tampered with."
                )

    def expect_ours(self) -> None:
        """RunError unless the tables are, to the letter, those that this version makes.

        Whoever writes into a table runs its checks and defaults, so these must be ours, too.
        """
        made = dict(self.select("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        for table, statement in self._tables.items():
            ours = statement.replace("IF NOT EXISTS ", "")
            if " ".join(str(made.get(table)).split()) != " ".join(ours.split()):
                raise RunError(
                    f"{self.path}: the table {table} was made otherwise than this version makes it, so "
                    "nothing is written into it. Go on with the version that run.json names, or audit "
                    "again."
                )


def _expect_files(folder: Path, *, writable: bool) -> None:
    """RunError for a database, or a file beside it, that is no regular file or too large."""
    for ending in _BESIDE:
        expect_file(folder, NAME + ending, MOST_BYTES, optional=True)
    expect_file(folder, NAME, MOST_BYTES, optional=writable)
    _expect_journal(folder)


def _expect_journal(folder: Path) -> None:
    """RunError for a rollback journal that names another file: SQLite would delete that one."""
    journal = folder / f"{NAME}-journal"
    if not journal.exists():
        return
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - len(_MAGIC)))
        if file.read() == _MAGIC:
            raise RunError(
                f"{journal} names another file to be removed; the toolkit writes no such journal. The "
                "run may be tampered with: get it anew, or audit again."
            )
