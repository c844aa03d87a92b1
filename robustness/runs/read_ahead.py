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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from robustness.environment import child_environment, end_with
from robustness.runs import run_folder
from robustness.runs.image_columns import ImageColumns
from robustness.runs.store import Run

LARGE = 32 << 20
"""The bytes of a database from which reading it takes longer than starting a process."""
_TEXTS = ("keys", "pictures")
_MOST = 4
"""How many times as large as the database what is found may be."""

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
    """Return inode, size and time of the last change of a run's database and of the files beside it."""
    return tuple(_state(folder / f"{run_folder.DATABASE}{end}") for end in ("", "-wal", "-journal"))


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except (OSError, ValueError):  # there is none, or the path is none
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
                [sys.executable, "-P", "-m", __name__, str(folder.absolute()), str(os.getpid())],
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.DEVNULL,
            )
        except BaseException:
            self._said.close()
            raise

    def found(self) -> Found | None:
        """Return what the process found, when it has ended; None if it failed or the database has changed."""
        if self._said.closed or self._process.wait():
            return None
        if self._said.seek(0, os.SEEK_END) > _MOST * _bytes(self._folder):
            return None
        self._said.seek(0)
        found = _read(self._said)
        self.close()
        same = found.state == state_of(self._folder) and found.state[-1] is None
        return found if same else None

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
    except (OSError, ValueError, TypeError):  # no process, no room for the file, or no interpreter
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
    """Whether a run is to be read ahead: not with a rollback journal, which only a writer applies."""
    return state_of(folder)[-1] is None and _bytes(folder) >= LARGE


def _bytes(folder: Path) -> int:
    """The bytes of a run's database and of its write-ahead log."""
    return sum(size for _, size, _ in filter(None, state_of(folder)[:2]))


def _write(found: Found, file: IO[bytes]) -> None:
    """Write what was found as arrays."""
    arrays: dict[str, Any] = {f.name: getattr(found.images, f.name) for f in fields(ImageColumns)}
    texts = {name: arrays.pop(name).tolist() for name in _TEXTS} | {
        "damaged": sorted(found.damaged)
    }
    for name, some in texts.items():
        arrays |= _packed(name, some)
    arrays["about"] = np.frombuffer(json.dumps([found.state, found.check]).encode(), np.uint8)
    np.savez(file, **arrays)


def _read(file: IO[bytes]) -> Found:
    with np.load(file, allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    state, check = json.loads(columns.pop("about").tobytes())
    keys, pictures, damaged = (_unpacked(name, columns) for name in (*_TEXTS, "damaged"))
    # With a last element, so that numpy makes no table of what it takes for sequences.
    columns |= {"keys": np.array([*keys, None], object)[:-1]}
    columns |= {"pictures": np.array([*pictures, None], object)[:-1]}
    return Found(
        tuple(None if one is None else tuple(one) for one in state),
        check,
        ImageColumns(**columns),
        frozenset(damaged),
    )


def _packed(name: str, texts: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Texts as UTF-8 and their lengths, -1 for None; numpy's own texts all take as much as the longest."""
    whole = "".join(text for text in texts if text).encode("utf-8", "surrogatepass")
    lengths = [-1 if text is None else len(text) for text in texts]
    return {
        f"{name} whole": np.frombuffer(whole, np.uint8),
        f"{name} lengths": np.array(lengths, np.int64),
    }


def _unpacked(name: str, columns: dict[str, np.ndarray]) -> list[Any]:
    """The texts of `_packed`, which are taken out of `columns`."""
    whole = columns.pop(f"{name} whole").tobytes().decode("utf-8", "surrogatepass")
    lengths = columns.pop(f"{name} lengths")
    ends = np.cumsum(np.maximum(lengths, 0))
    starts = (ends - np.maximum(lengths, 0)).tolist()
    texts: list[Any] = list(map(whole.__getitem__, map(slice, starts, ends.tolist())))
    for place in np.flatnonzero(lengths < 0).tolist():
        texts[place] = None
    return texts


def main() -> None:
    """Read the run in the folder that is named on the command line, and write what is found to the output."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    end_with(parent)
    # The process ends without freeing a million objects.
    gc.disable()
    state = state_of(folder)
    with Run.open(folder) as run:
        images, damaged = run.image_columns(), run.damaged_pictures()
        found = Found(state, run.check(), images, damaged)
    with os.fdopen(1, "wb") as output:
        _write(found, output)
    os._exit(0)


if __name__ == "__main__":
    main()
