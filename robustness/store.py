"""The run folder: `run.json`, `run.sqlite` and `images/`, written so that a kill loses nothing.

`run.sqlite` is the truth. A row is committed only after its picture is on disk; pictures are named
by the SHA-256 of their bytes and moved into place in one step, so a file that exists is whole, and
`evidence_intact` says so again when a run is resumed. Reading needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

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

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self._writable = writable
        database = path / "run.sqlite"
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

    @classmethod
    def create(cls, path: str | Path, manifest: dict[str, Any]) -> Run:
        """A new run in an empty or missing folder; RunError if there is something in it."""
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "holds a run already" if (folder / "run.json").exists() else "is not empty"
            raise RunError(
                f"{folder} {what}; expected a new or empty folder. Choose another, or go on with "
                f"`robustness audit --resume {folder}`."
            )
        (folder / "images").mkdir(parents=True, exist_ok=True)
        run = cls(folder, writable=True)
        run.write_manifest({"schema": SCHEMA, **manifest})
        return run

    @classmethod
    def resume(cls, path: str | Path) -> Run:
        """An existing run, to go on with."""
        cls._expect(Path(path))
        (Path(path) / "images").mkdir(exist_ok=True)
        try:
            run = cls(Path(path), writable=True)
        except sqlite3.DatabaseError as error:
            raise _unreadable(Path(path), error) from None
        return run._whole()

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run, to read. RunError if it is none."""
        folder = Path(path)
        cls._expect(folder)
        return cls(folder, writable=False)._whole()

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
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from None

    @staticmethod
    def _expect(folder: Path) -> None:
        for name in ("run.json", "run.sqlite"):
            if not (folder / name).is_file():
                raise RunError(
                    f"{folder} is not a run: there is no {name} in it. Expected a folder that "
                    "`robustness audit --out` has made."
                )

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
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        _replace(self.path / "run.json", text.encode())

    def save_png(self, data: bytes) -> str:
        """Keep a picture under its hash; its name within the run."""
        digest = hashlib.sha256(data).hexdigest()
        name = png_name(digest)
        target = self.path / name
        if not target.exists():
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
        with self._db:
            for row in rows:
                statement, values = _WRITING[type(row)]
                self._db.execute(statement, values(row))

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
        try:
            cursor = self._db.execute(f"SELECT {', '.join(columns)} FROM images ORDER BY position")  # noqa: S608
            for values in cursor:
                yield ImageRow(**dict(zip(columns, values, strict=True)))
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from None

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

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pending:
    """Rows gathered into a transaction every so often: one commit each would cost more than a step.

    Rows come in groups, and are written in the order they came in.
    """

    def __init__(self, run: Run, *, seconds: float = 0.5, groups: int = 256) -> None:
        self._run, self._seconds, self._most = run, seconds, groups
        self._waiting: deque[Future[Sequence[Row]]] = deque()
        self._last = time.monotonic()
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="pending")

    def add(self, rows: Sequence[Row]) -> None:
        """Put rows behind; they are written soon."""
        ready: Future[Sequence[Row]] = Future()
        ready.set_result(rows)
        self._put(ready)

    def make(self, rows: Callable[..., Sequence[Row]], *of: Any) -> None:
        """Put behind the rows that `rows(*of)` gives, made on another thread.

        For rows whose pictures are compressed and saved first: the model works on meanwhile.
        """
        self._put(self._hand.submit(rows, *of))

    def flush(self) -> None:
        """Write all that waits; raises what making it raised."""
        self._write(len(self._waiting))

    def _put(self, rows: Future[Sequence[Row]]) -> None:
        self._waiting.append(rows)
        if len(self._waiting) >= self._most:
            self.flush()
        elif time.monotonic() - self._last > self._seconds:
            self._write(sum(1 for _ in takewhile(Future.done, self._waiting)))

    def _write(self, groups: int) -> None:
        rows: list[Row] = []
        try:
            for _ in range(groups):
                rows += self._waiting.popleft().result()
        finally:
            if rows:
                self._run.add(rows)
            self._last = time.monotonic()


def _unreadable(folder: Path, error: sqlite3.DatabaseError) -> RunError:
    return RunError(
        f"{folder / 'run.sqlite'} cannot be read ({error}); expected the database of a run. "
        "Restore it from a copy, or audit again."
    )


def _replace(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.write_bytes(data)
    part.replace(target)
