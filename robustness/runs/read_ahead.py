"""Reads and checks a large run in another process, while this one imports TensorFlow and lists the images.

A resumed run of a million images takes seconds to read and to check. What the other process found counts only
if the database has not changed since; otherwise, and if it fails, the run is read and checked here.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from robustness.environment import child_environment
from robustness.runs import run_folder
from robustness.runs.image_columns import ImageColumns
from robustness.runs.store import Run

LARGE = 32 << 20
"""The bytes of a database from which reading it takes longer than starting a process."""
_TEXTS = ("keys", "pictures")

State = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in a run.

    Attributes
    ----------
    state : which files were read, see `state_of`.
    check : the answer of SQLite's check of the database, "ok" if it is sound.
    images : columns of the images.
    damaged : the pictures named in the database that are missing or damaged.
    """

    state: State
    check: str
    images: ImageColumns
    damaged: frozenset[str]


def state_of(folder: Path) -> State:
    """Return inode, size and time of the last change of a run's database and of its write-ahead log."""
    files = (folder / run_folder.DATABASE, folder / f"{run_folder.DATABASE}-wal")
    return tuple(_state(file) for file in files)


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Reader:
    """A process that reads a run.

    Parameters
    ----------
    folder : Path
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A file, since a pipe would have to be emptied while the process writes.
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", __name__, str(folder.absolute())],
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            self._said.close()
            raise

    def found(self) -> Found | None:
        """Return what the process found, when it has ended; None if it failed or the database has changed."""
        if self._said.closed or self._process.wait():
            return None
        self._said.seek(0)
        found = _read(self._said)
        self.close()
        return found if found.state == state_of(self._folder) else None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._said.close()


_READERS: dict[Path, Reader] = {}
"""The processes of the blocks of `reading_ahead`, by the absolute path of the run."""


@contextlib.contextmanager
def reading_ahead(folder: Path) -> Iterator[None]:
    """Let another process read a run that is to be resumed; one only, also if blocks are nested.

    Parameters
    ----------
    folder : Path
        The run folder. A small run, and what is no run, is left to `robustness.runs.store.Run.resume`.
    """
    place = folder.absolute()
    if place in _READERS or not _is_large(folder):
        yield
        return
    try:
        reader = Reader(folder)
    except OSError:  # the system starts no process or has no room for the file
        yield
        return
    _READERS[place] = reader
    try:
        yield
    finally:
        del _READERS[place]
        reader.close()


def found_in(folder: Path) -> Found | None:
    """Return what a block of `reading_ahead` found in a run; None outside of one, or if it does not count."""
    reader = _READERS.get(folder.absolute())
    return None if reader is None else reader.found()


def _is_large(folder: Path) -> bool:
    return sum(size for _, size, _ in filter(None, state_of(folder))) >= LARGE


def _write(found: Found, file: IO[bytes]) -> None:
    """Write what was found as arrays; texts as JSON, since numpy's all take as much as the longest."""
    columns = {f.name: getattr(found.images, f.name) for f in fields(ImageColumns)}
    texts: dict[str, Any] = {name: columns.pop(name).tolist() for name in _TEXTS}
    texts |= {"state": found.state, "check": found.check, "damaged": sorted(found.damaged)}
    np.savez(file, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), **columns)


def _read(file: IO[bytes]) -> Found:
    with np.load(file, allow_pickle=False) as arrays:
        texts = json.loads(arrays["texts"].tobytes())
        columns = {name: arrays[name] for name in arrays.files if name != "texts"}
    columns |= {name: np.array([*texts[name], None], object)[:-1] for name in _TEXTS}
    state = tuple(None if one is None else tuple(one) for one in texts["state"])
    return Found(state, texts["check"], ImageColumns(**columns), frozenset(texts["damaged"]))


def main() -> None:
    """Read the run in the folder that is named on the command line, and write what is found to the output."""
    # The process ends without freeing a million objects.
    gc.disable()
    folder = Path(sys.argv[1])
    state = state_of(folder)
    with Run.open(folder) as run:
        images, damaged = run.image_columns(), run.damaged_pictures()
        found = Found(state, run.check(), images, damaged)
    with os.fdopen(1, "wb") as output:
        _write(found, output)
    os._exit(0)


if __name__ == "__main__":
    main()
