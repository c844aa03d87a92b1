"""The run folder: `run.json`, `run.sqlite` and `images/`, written so that a kill loses nothing.

`run.sqlite` is the truth. A row is committed only after its picture is on disk; pictures are named
by the SHA-256 of their bytes and moved into place in one step, so a file that exists is whole, and
`evidence_intact` says so again when a run is resumed. Reading needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from robustness import runfolder, storage
from robustness.errors import RunError

SCHEMA = 1
FLIPPED, ROBUST, MISCLASSIFIED = "flipped", "robust", "misclassified"
UNREADABLE, FAILED, SETTLED = "unreadable", "failed", "settled"
STATUSES = (FLIPPED, ROBUST, MISCLASSIFIED, UNREADABLE, FAILED, SETTLED)
"""Settled: in a cascade, an earlier attack flips the image within this epsilon, so this one never ran."""


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One image of the run, and what the model says of it unchanged."""

    key: str
    position: int
    name: str
    label: int | None = None
    digest: str = ""
    note: str = ""
    reason: str = ""
    clean_class: int | None = None
    confidence: float | None = None
    png: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutcomeRow:
    """One image x attack x epsilon. Distances are of the saved file, in counts."""

    image: str
    attack: str
    epsilon: float
    status: str
    adversarial_class: int | None = None
    confidence_before: float | None = None
    confidence_after: float | None = None
    l0: int | None = None
    components: int | None = None
    l1: float | None = None
    l2: float | None = None
    linf: float | None = None
    step: int | None = None
    restart: int | None = None
    forward: int = 0
    backward: int = 0
    float_flip: int = 0
    reason: str = ""
    png: str | None = None


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """One step on the way to a flip: the picture and the probabilities, as a JSON list."""

    image: str
    attack: str
    epsilon: float
    step: int
    png: str
    probabilities: str


@dataclass(frozen=True, kw_only=True)
class GradientRow:
    """Of an outcome that counts as robust: the steps that asked for a gradient, and those that got none."""

    image: str
    attack: str
    epsilon: float
    watched: int
    blind: int


Row = ImageRow | OutcomeRow | StripRow | GradientRow

_TABLES: dict[str, tuple[type, tuple[str, ...]]] = {
    "images": (ImageRow, ("key",)),
    "outcomes": (OutcomeRow, ("image", "attack", "epsilon")),
    "strips": (StripRow, ("image", "attack", "epsilon", "step")),
    "gradients": (GradientRow, ("image", "attack", "epsilon")),
}
_LATER = {"gradients"}
"""Tables that runs of earlier versions do not have."""
_SQL_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "REAL"}


def _create(table: str) -> str:
    row, primary = _TABLES[table]
    columns = [f"{f.name} {_SQL_TYPES[str(f.type).split(' ')[0]]}" for f in fields(row)]
    keys = f"PRIMARY KEY ({', '.join(primary)})"
    return f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, {keys})"


def _writing(table: str) -> tuple[str, attrgetter[Any]]:
    """How a row is written, and its values, made once: an audit writes as many rows as it has images."""
    names = [f.name for f in fields(_TABLES[table][0])]
    # The table's name is one of our own three.
    statement = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    return statement, attrgetter(*names)


_WRITING = {row: _writing(table) for table, (row, _) in _TABLES.items()}


def png_name(digest: str) -> str:
    """The name within a run of the picture whose bytes have this SHA-256."""
    return f"images/{digest[:2]}/{digest}.png"


class Run:
    """A run folder. `Run.create` and `Run.resume` write to it, `Run.open` reads it."""

    def __init__(self, path: Path, *, writable: bool, claim: runfolder.Claim | None = None) -> None:
        self.path = path
        self._writable, self._claim = writable, claim
        database = path / runfolder.DATABASE
        mode = "rwc" if writable else "ro"
        self._db = sqlite3.connect(
            f"{database.resolve().as_uri()}?mode={mode}", uri=True, check_same_thread=False
        )
        if writable:
            # Write-ahead: a kill at any moment leaves the last committed state.
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            for table in _TABLES:
                self._db.execute(_create(table))
            self._db.commit()
        self._place = _identity(database)

    @classmethod
    def create(cls, path: str | Path, manifest: dict[str, Any]) -> Run:
        """A new run in an empty or missing folder, or one where an audit was killed before it began.

        RunUsageError if there is something in it; StorageError if it cannot be made. Then nothing stays.
        """
        folder = Path(path)
        with runfolder.made(folder) as claim:
            run = cls(folder, writable=True, claim=claim)
            try:
                _replace(folder / runfolder.MANIFEST, _json({"schema": SCHEMA, **manifest}))
            except BaseException:
                run.close()
                raise
        return run

    @classmethod
    def resume(cls, path: str | Path) -> Run:
        """An existing run, to go on with; RunUsageError if there is none, or another process writes to it."""
        folder = Path(path)
        runfolder.expect_run(folder)
        with storage.using(folder):
            storage.expect_writable(folder)
            claim = runfolder.Claim(folder)
            try:
                runfolder.sweep(folder)
                runfolder.make_way(folder / runfolder.PICTURES / "any")
                (folder / runfolder.PICTURES).mkdir(exist_ok=True)
                run = cls(folder, writable=True, claim=claim)._whole()
                run._expect_sound()
            except BaseException:
                claim.release()
                raise
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run, to read. RunUsageError if it is none."""
        folder = Path(path)
        runfolder.expect_run(folder)
        with storage.using(folder, action="read"):
            return cls(folder, writable=False)._whole()

    def _expect_sound(self) -> None:
        """RunError if a page of the database is damaged: rows would be lost without a word."""
        found = [row[0] for row in self._select("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            self.close()
            raise storage.unreadable(self.path, sqlite3.DatabaseError(" ".join(found[0].split())))

    def _whole(self) -> Run:
        """This run, if its database has every table and column; RunError, naming them, if not."""
        lost = []
        for table, (row, _) in _TABLES.items():
            # The table's name is one of our own three.
            there = {one[1] for one in self._select(f"PRAGMA table_info({table})")}
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

    def _select(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query; RunError where the database is damaged."""
        with storage.using(self.path, action="read"):
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What the disk refuses is told as a StorageError, and so is a folder that was taken away."""
        if not self._writable:
            yield
            return
        with storage.using(self.path):
            # What goes into a deleted database is gone without an error.
            if _identity(self.path / runfolder.DATABASE) != self._place:
                raise storage.gone(self.path)
            yield

    @property
    def manifest(self) -> dict[str, Any]:
        """`run.json`."""
        path = self.path / "run.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            schema = manifest["schema"]
        except (ValueError, KeyError, TypeError):
            raise RunError(f"{path} is damaged; expected the JSON that the audit wrote.") from None
        if schema != SCHEMA:
            raise RunError(
                f"{path} has schema {schema}; this version reads schema {SCHEMA}. Use the version "
                "of the toolkit that wrote it, or audit again."
            )
        return manifest

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace `run.json` in one step."""
        with self._writing():
            _replace(self.path / runfolder.MANIFEST, _json(manifest))

    def save_png(self, data: bytes) -> str:
        """Keep a picture under its hash; its name within the run. What else stands there is replaced."""
        name = png_name(hashlib.sha256(data).hexdigest())
        target = self.path / name
        with self._writing():
            if not _holds(target, data):
                runfolder.make_way(target)
                target.parent.mkdir(exist_ok=True)
                _replace(target, data)
        return name

    def png(self, name: str) -> bytes:
        """The bytes of a picture; RunError if the file is gone or leads out of the run."""
        root = (self.path / "images").resolve()
        target = (self.path / name).resolve()
        if not target.is_relative_to(root):
            raise RunError(f"{name!r} is not a picture of this run; the run may be tampered with.")
        try:
            return target.read_bytes()
        except OSError:
            raise RunError(f"{target} is missing; expected the evidence of this run.") from None

    def evidence_intact(self, name: str | None) -> bool:
        """Whether a picture is on disk and still has the bytes it is named for."""
        if name is None:
            return True
        try:
            data = self.png(name)
        except RunError:
            return False
        return hashlib.sha256(data).hexdigest() == Path(name).stem

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows in one transaction, replacing those of the same key."""
        with self._writing(), self._db:
            for row in rows:
                statement, values = _WRITING[type(row)]
                self._db.execute(statement, values(row))

    def drop(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of "images", "outcomes" or "strips" away, named by their keys, in one transaction."""
        keys = _TABLES[table][1]
        where = " AND ".join(f"{key} IS ?" for key in keys)
        with self._writing(), self._db:
            for row in rows:
                values = tuple(row[key] for key in keys)
                self._db.execute(f"DELETE FROM {table} WHERE {where}", values)  # noqa: S608

    def _frame(self, table: str, order: str) -> pd.DataFrame:
        columns = [f.name for f in fields(_TABLES[table][0])]
        rows = self._select(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")  # noqa: S608
        return pd.DataFrame(rows, columns=columns)

    def images(self) -> pd.DataFrame:
        """The images, in the order of the audit."""
        return self._frame("images", "position")

    def outcomes(self) -> pd.DataFrame:
        """The outcomes, by attack, epsilon and image."""
        return self._frame("outcomes", "attack, epsilon, image")

    def strips(self) -> pd.DataFrame:
        """The steps of the best cases."""
        return self._frame("strips", "attack, epsilon, image, step")

    def gradients(self) -> pd.DataFrame:
        """How often attacks had no gradient on what withstood them; empty for runs that did not note it."""
        if not self._select("PRAGMA table_info(gradients)"):
            return pd.DataFrame(columns=[f.name for f in fields(GradientRow)])
        return self._frame("gradients", "attack, epsilon, image")

    def image_rows(self) -> Iterator[ImageRow]:
        """The images one by one, in the order of the audit; memory does not grow with them."""
        columns = [f.name for f in fields(ImageRow)]
        with storage.using(self.path, action="read"):
            cursor = self._db.execute(f"SELECT {', '.join(columns)} FROM images ORDER BY position")  # noqa: S608
            for values in cursor:
                yield ImageRow(**dict(zip(columns, values, strict=True)))

    def settled(self, attack: str, expected: int) -> set[str]:
        """Images whose outcomes under `attack` are complete (`expected` rows) with evidence intact."""
        done: dict[str, list[str | None]] = {}
        for image, png in self._select(
            "SELECT image, png FROM outcomes WHERE attack = ?", (attack,)
        ):
            done.setdefault(image, []).append(png)
        return {
            image
            for image, pngs in done.items()
            if len(pngs) == expected and all(self.evidence_intact(p) for p in set(pngs))
        }

    def first_flips(self, attacks: Iterable[str]) -> dict[str, float]:
        """The smallest epsilon at which any of `attacks` flips an image, by the image's key."""
        first: dict[str, float] = {}
        for attack in attacks:
            for image, epsilon in self._select(
                "SELECT image, min(epsilon) FROM outcomes WHERE attack = ? AND status = ? GROUP BY image",
                (attack, FLIPPED),
            ):
                first[image] = min(epsilon, first.get(image, epsilon))
        return first

    def count(self, attack: str | None = None, epsilon: float | None = None) -> dict[str, int]:
        """How many outcomes have each status; of one attack, at one epsilon, if given."""
        rows = self._select(
            "SELECT status, count(*) FROM outcomes WHERE ? IN (attack, '') AND "
            "(? IS NULL OR epsilon = ?) GROUP BY status",
            (attack or "", epsilon, epsilon),
        )
        return dict(rows)

    def close(self) -> None:
        """Close the database."""
        self._db.close()
        if self._claim is not None:
            self._claim.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _json(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file stands at a path; None if none does."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _holds(target: Path, data: bytes) -> bool:
    """Whether a regular file stands at `target`, with these very bytes."""
    try:
        found = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    same_size = stat.S_ISREG(found.st_mode) and found.st_size == len(data)
    return same_size and target.read_bytes() == data


def _replace(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
