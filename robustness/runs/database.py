"""Opens `run.sqlite` as an untrusted file: plain tables only, cells and queries of bounded size.

A database can contain more than data: views on endless queries, triggers, virtual tables, columns that are
computed when they are read. The toolkit creates none of these, so a database with one is refused.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from robustness.errors import RunError
from robustness.files import disk_errors
from robustness.files.reading import expect_file
from robustness.runs import run_folder

NAME = run_folder.DATABASE
MOST_BYTES = 4 << 30
"""The most bytes of a database, and of its write-ahead log: some 20 million outcomes."""
MOST_CELL = 4 << 20
"""The most bytes of one cell or row: the probabilities of 100,000 classes in a strip take 2 MB."""
_BESIDE = ("-wal", "-shm", "-journal")
_TURN = 100_000
"""Steps of SQLite's virtual machine between two checks of the cost of a query."""
_MANY_TURNS = 500
"""Checks that any query may use, however small the database is."""
_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""The last bytes of a rollback journal that names another file, which SQLite would read and delete."""


class Database:
    """A connection to a run's database that limits the work of every query.

    Parameters
    ----------
    folder : Path
        The run folder.
    writable : bool
        Whether rows can be written; a missing database is then created.
    tables : mapping of str to str
        The statement that creates each table, by its name; executed if `writable`.

    Raises
    ------
    RunError
        The database, or a file beside it, is not a regular file, is too large, or contains something
        other than plain tables.

    Notes
    -----
    Errors that SQLite raises while the database is opened or changed reach the caller; errors while it is
    read become errors about the run.
    """

    def __init__(self, folder: Path, *, writable: bool, tables: Mapping[str, str]) -> None:
        self.path, self._turns, self._most = folder / NAME, 0, 0
        self._writable, self._tables = writable, tables
        _expect_files(folder, writable=writable)
        self._db = sqlite3.connect(self._address(), uri=True, check_same_thread=False)
        try:
            self._guard()
            if writable:
                # With a write-ahead log, a kill at any moment leaves the last committed state.
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
            # An empty write-ahead log means that no process writes: SQLite need not touch the folder.
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
        """Whether to abort the query: it has cost many times as much as reading the whole file."""
        self._turns += 1
        return self._turns > self._most

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query; starts a new limit on work."""
        self._turns, self._most = 0, _MANY_TURNS + 20 * (self._size() + self._size("-wal")) // _TURN
        with _unreadable_messages():
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with disk_errors.using(self.path.parent, action="read"):
                yield
        except RunError:
            if self._turns <= self._most:
                raise
            raise RunError(
                f"A query on {self.path} takes more work than its size allows; expected the plain "
                "tables of a run. The file may have been tampered with: get a new copy, or audit again."
            ) from None

    def select(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query. RunError if the database is damaged."""
        with self._reading():
            return self._ask(query, values)

    def parts(self, query: str, size: int) -> Generator[list[tuple[Any, ...]]]:
        """Yield the rows of a query in lists of `size`. RunError if the database is damaged."""
        with self._reading():
            # Starts a new limit on work.
            self._ask("PRAGMA query_only")
            with _unreadable_messages():
                cursor = self._db.execute(query)
                while rows := cursor.fetchmany(size):
                    yield rows

    def change(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        """Execute statements, each with its values, in one transaction."""
        with self._db:
            for statement, values in statements:
                self._turns = 0
                self._db.execute(statement, values)

    def changed(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> list[bool]:
        """Execute statements in one transaction; return whether each changed a row."""
        changed = []
        with self._db:
            for statement, values in statements:
                self._turns = 0
                changed.append(self._db.execute(statement, values).rowcount > 0)
        return changed

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns; an empty list if there is no such table."""
        return [one[1] for one in self.select(f"PRAGMA table_xinfo({table})")]

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _expect_plain(self) -> None:
        """RunError unless the database contains only plain tables without computed columns."""
        for kind, name, root, sql in self.select(
            "SELECT type, name, rootpage, sql FROM sqlite_master LIMIT 1000"
        ):
            real = kind == "table" and root and re.match(r"CREATE TABLE\b", str(sql), re.IGNORECASE)
            if not (real or (kind == "index" and sql is None)):
                raise RunError(
                    f"{self.path} contains the {kind} {name!r}, which is not a plain table; expected "
                    f"only the tables {', '.join(self._tables)}. The file may have been tampered with: "
                    "get a new copy, or audit again."
                )
        for table in self._tables:
            hidden = [one[1] for one in self.select(f"PRAGMA table_xinfo({table})") if one[6]]
            if hidden:
                raise RunError(
                    f"{self.path}: the column {table}.{hidden[0]} is computed when it is read; expected "
                    "a stored column. The file may have been tampered with: get a new copy, or audit "
                    "again."
                )

    def expect_ours(self) -> None:
        """Check that the tables are defined exactly as this version defines them.

        Raises
        ------
        RunError
            The definition of a table differs. Writing into a table evaluates its checks and defaults, so
            nothing may be written into one that this version did not define.
        """
        made = dict(self.select("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        for table, statement in self._tables.items():
            ours = statement.replace("IF NOT EXISTS ", "")
            if " ".join(str(made.get(table)).split()) != " ".join(ours.split()):
                raise RunError(
                    f"{self.path}: the table {table} is defined differently than in this version of the "
                    "toolkit, so nothing is written into it. Resume with the version that run.json names, "
                    "or audit again."
                )


@contextlib.contextmanager
def _unreadable_messages() -> Iterator[None]:
    """Convert UnicodeDecodeError: in a damaged database, the text of SQLite's error is damaged too."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError(str(error)) from None


def _expect_files(folder: Path, *, writable: bool) -> None:
    """RunError if the database, or a file beside it, is not a regular file or is too large."""
    for ending in _BESIDE:
        expect_file(folder, NAME + ending, MOST_BYTES, optional=True)
    expect_file(folder, NAME, MOST_BYTES, optional=writable)
    _expect_journal(folder)


def _expect_journal(folder: Path) -> None:
    """RunError if a rollback journal names another file, since SQLite would delete that file."""
    journal = folder / f"{NAME}-journal"
    if not journal.exists():
        return
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - len(_MAGIC)))
        if file.read() == _MAGIC:
            raise RunError(
                f"{journal} names another file, which SQLite would delete; the toolkit writes no such "
                "journal. The run may have been tampered with: get a new copy, or audit again."
            )
