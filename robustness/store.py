"""The run folder: `run.json`, `run.sqlite` and `images/`, written so that a kill loses nothing.

`run.sqlite` is the truth. A row is committed only after its picture is on disk; pictures are named
by the SHA-256 of their bytes and moved into place in one step, so a file that exists is whole, and
`evidence_intact` says so again when a run is resumed. Reading needs neither TensorFlow nor Keras.
"""

from __future__ import annotations

import hashlib
import json
import os
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

from robustness.cells import MOST_ROWS, expect_cells, filled
from robustness.database import NAME as DATABASE
from robustness.database import Database
from robustness.errors import RunError
from robustness.reading import MOST_JSON, MOST_PICTURE, expect_file, read_within
from robustness.runjson import manifest_of
from robustness.writing import own_folder, replace_within

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


Row = ImageRow | OutcomeRow | StripRow

_TABLES: dict[str, tuple[type, tuple[str, ...]]] = {
    "images": (ImageRow, ("key",)),
    "outcomes": (OutcomeRow, ("image", "attack", "epsilon")),
    "strips": (StripRow, ("image", "attack", "epsilon", "step")),
}
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
        made = {table: _create(table) for table in _TABLES}
        self._db = Database(path, writable=writable, tables=made)

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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder} cannot be made: {error.strerror}. Choose another.") from None
        own_folder(folder / "images")
        run = cls(folder, writable=True)
        run.write_manifest({"schema": SCHEMA, **manifest})
        return run

    @classmethod
    def resume(cls, path: str | Path) -> Run:
        """An existing run, to go on with."""
        folder = Path(path)
        cls._expect(folder)
        own_folder(folder / "images")
        # What is planted in it is found before anything could be written.
        cls.open(folder).close()
        run = cls(folder, writable=True)._whole()
        try:
            run._db.expect_ours()
        except RunError:
            run.close()
            raise
        return run

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
            there = set(self._db.columns(table))
            missing = [f.name for f in fields(row) if f.name not in there]
            lost += [f"{table}.{name}" for name in missing] if there else [table]
        if lost:
            self.close()
            raise RunError(
                f"{self.path / 'run.sqlite'} lacks {', '.join(lost)}: another version of the toolkit "
                "wrote it, or it was altered. Read it with the version that run.json names, restore "
                "it from a copy, or audit again."
            )
        return self

    @staticmethod
    def _expect(folder: Path) -> None:
        for name in ("run.json", DATABASE):
            if not os.path.lexists(folder / name) or not folder.is_dir():
                raise RunError(
                    f"{folder} is not a run: there is no {name} in it. Expected a folder that "
                    "`robustness audit --out` has made."
                )
        expect_file(folder, "run.json", MOST_JSON)

    @property
    def manifest(self) -> dict[str, Any]:
        """`run.json`; RunError, saying which part, if it is not what an audit writes."""
        data = read_within(self.path, "run.json", MOST_JSON)
        return manifest_of(data, str(self.path / "run.json"), SCHEMA)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace `run.json` in one step."""
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        replace_within(self.path, "run.json", text.encode())

    def save_png(self, data: bytes) -> str:
        """Keep a picture under its hash; its name within the run."""
        name = png_name(hashlib.sha256(data).hexdigest())
        if not self._holds(name, data):
            replace_within(self.path, name, data)
        return name

    def _holds(self, name: str, data: bytes) -> bool:
        """Whether a file of these bytes is there: one that was spoiled is written again."""
        if not os.path.lexists(self.path / name):
            return False
        try:
            return self.png(name) == data
        except RunError:
            return False

    def png(self, name: str) -> bytes:
        """The bytes of a picture; RunError if the file is gone, no plain file, or none of the run's."""
        if not name.startswith("images/"):
            raise RunError(f"{name!r} is not a picture of this run; the run may be tampered with.")
        return read_within(self.path, name, MOST_PICTURE)

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
        self._db.add((_WRITING[type(row)][0], _WRITING[type(row)][1](row)) for row in rows)

    def _frame(self, table: str, order: str) -> pd.DataFrame:
        row, primary = _TABLES[table]
        columns = [f.name for f in fields(row)]
        # Names are our own.
        query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order} LIMIT {MOST_ROWS + 1}"  # noqa: S608
        rows = self._db.select(query)
        self._expect_cells(table, rows)
        frame = pd.DataFrame(rows, columns=columns)
        if frame.duplicated(list(primary)).any():
            raise RunError(
                f"{self.path / DATABASE}: {table} holds two rows of the same {', '.join(primary)}; "
                "expected one each. The run is damaged, or was altered."
            )
        return frame

    def _expect_cells(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            expect_cells(_TABLES[table][0], rows)
        except RunError as error:
            raise RunError(f"{self.path / DATABASE}: {table}: {error}") from None

    def images(self) -> pd.DataFrame:
        """The images, in the order of the audit."""
        return self._frame("images", "position")

    def outcomes(self) -> pd.DataFrame:
        """The outcomes, by attack, epsilon and image."""
        return self._frame("outcomes", "attack, epsilon, image")

    def strips(self) -> pd.DataFrame:
        """The steps of the best cases."""
        return self._frame("strips", "attack, epsilon, image, step")

    def image_rows(self) -> Iterator[ImageRow]:
        """The images one by one, in the order of the audit; memory does not grow with them."""
        columns = [f.name for f in fields(ImageRow)]
        query = f"SELECT {', '.join(columns)} FROM images ORDER BY position"  # noqa: S608
        for values in self._db.stream(query):
            self._expect_cells("images", [values])
            yield ImageRow(**filled(ImageRow, values))

    def settled(self, attack: str, expected: int) -> set[str]:
        """Images whose outcomes under `attack` are complete (`expected` rows) with evidence intact."""
        done: dict[str, list[str | None]] = {}
        for image, png in self._db.select(
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
            for image, epsilon in self._db.select(
                "SELECT image, min(epsilon) FROM outcomes WHERE attack = ? AND status = ? GROUP BY image",
                (attack, FLIPPED),
            ):
                first[image] = min(epsilon, first.get(image, epsilon))
        return first

    def count(self, attack: str | None = None, epsilon: float | None = None) -> dict[str, int]:
        """How many outcomes have each status; of one attack, at one epsilon, if given."""
        rows = self._db.select(
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
