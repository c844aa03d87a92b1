"""The folder of a run as a place: whether it is free, who writes to it, and what a kill left there.

A run begins when its `run.json` is there, which is written last. A folder without it holds nothing that
was worked for, so it is cleared and begun anew; a folder with it is never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import weakref
from collections.abc import Iterator
from pathlib import Path

from robustness.errors import RunUsageError
from robustness.files import disk_errors

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

MANIFEST, DATABASE, PICTURES = "run.json", "run.sqlite", "images"
_DATABASES = (DATABASE, *(f"{DATABASE}-{end}" for end in ("wal", "shm", "journal")))
_SMALL = 1 << 20
"""Bytes of a database that cannot be read and holds nothing: a kill while it was made leaves no more."""


_LARGE = 64 << 20
"""Bytes of a database that no beginning has; such a one is not opened."""


class Claim:
    """The right to write to a run folder: of one process at a time, gone when the process is."""

    def __init__(self, folder: Path) -> None:
        """Claim `folder`; RunUsageError if another process (or another audit of this one) has it."""
        self._release = lambda: None
        if fcntl is None:
            return
        number = os.open(folder, os.O_RDONLY)
        self._release = weakref.finalize(self, os.close, number)
        try:
            # On the folder itself, so that nothing is left behind, not even by kill -9.
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise _in_use(folder) from None
        except OSError:
            # A file system without such locks, as some of networks: go on without.
            self.release()

    def release(self) -> None:
        """Let others write."""
        self._release()


def in_use(folder: Path) -> bool:
    """Whether an audit writes to the folder now."""
    try:
        Claim(folder).release()
    except RunUsageError:
        return True
    except OSError:
        return False
    return False


def expect_unused(folder: Path) -> None:
    """RunUsageError if an audit writes to the folder now: told before a model is loaded."""
    if in_use(folder):
        raise _in_use(folder)


def expect_free(folder: Path) -> None:
    """RunUsageError unless a new run can be made in `folder`: missing, empty, or a killed start."""
    with disk_errors.using(folder, begun=False, action="made"):
        if not folder.exists() and not folder.is_symlink():
            return
        if not folder.is_dir():
            raise RunUsageError(
                f"{folder} is no folder; expected a new or empty one. Choose another."
            )
        expect_unused(folder)
        if not any(folder.iterdir()):
            return
        if (folder / MANIFEST).exists():
            raise _taken(folder)
        if not _is_half_made(folder):
            raise RunUsageError(
                f"{folder} is not empty, and there is no {MANIFEST} in it; expected a new or empty "
                "folder. Choose another."
            )


def expect_run(folder: Path) -> None:
    """RunUsageError unless a run is in `folder`."""
    missing = [name for name in (MANIFEST, DATABASE) if not (folder / name).is_file()]
    if not missing:
        return
    said = f"{folder} is not a run: there is no {missing[0]} in it."
    begun = folder.is_dir() and MANIFEST in missing and any(folder.iterdir())
    if begun and _is_half_made(folder):
        raise RunUsageError(
            f"{said} An audit was stopped there before it had begun, so nothing is lost: start it "
            f"again with `robustness audit --out {folder}` and its other options."
        )
    if missing == [DATABASE]:
        raise RunUsageError(
            f"{said} The rest of a run is there: restore {DATABASE} from a copy, or audit again into a "
            "new folder."
        )
    raise RunUsageError(f"{said} Expected a folder that `robustness audit --out` has made.")


@contextlib.contextmanager
def made(folder: Path) -> Iterator[Claim]:
    """A new folder for a run, claimed, `images` in it; if what follows fails, nothing of it stays.

    Raises
    ------
    RunUsageError: the folder holds something. StorageError: it cannot be made.
    """
    expect_free(folder)
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    claim: Claim | None = None
    try:
        with disk_errors.using(folder, begun=False, action="made"):
            folder.mkdir(parents=True, exist_ok=True)
            claim = Claim(folder)
            expect_begun_by_nobody(folder)
            _clear(folder)
            (folder / PICTURES).mkdir()
            yield claim
    except BaseException:
        if claim is not None:
            if not (folder / MANIFEST).exists():
                _clear(folder)
            claim.release()
        for place in new:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def expect_begun_by_nobody(folder: Path) -> None:
    """RunUsageError if a run has begun in `folder` since it was looked at."""
    if (folder / MANIFEST).exists():
        raise _taken(folder)


def sweep(folder: Path) -> None:
    """Take away the unfinished files that a kill left in a run folder."""
    pictures = folder / PICTURES
    below = () if pictures.is_symlink() else pictures.glob("*/.*.part")
    for part in (*folder.glob(".*.part"), *below):
        if part.parent.is_symlink() and part.parent != folder:
            continue
        with contextlib.suppress(OSError):
            part.unlink()


def make_way(target: Path) -> None:
    """Take away what stands where a file of the run belongs and is no file: a folder, a link.

    A folder with something in it is kept beside it, under a name that says so.
    """
    for place in (target.parent, target):
        wanted = place.is_dir() if place == target.parent else place.is_file()
        if (wanted and not place.is_symlink()) or not os.path.lexists(place):
            continue
        if place.is_dir() and not place.is_symlink():
            try:
                place.rmdir()
            except OSError:
                place.rename(_aside(place))
        else:
            place.unlink()


def _aside(place: Path) -> Path:
    numbered = (place.with_name(f"{place.name}.replaced-{n}") for n in range(1, 10_000))
    return next(one for one in numbered if not os.path.lexists(one))


def _is_half_made(folder: Path) -> bool:
    """Whether nothing is in a folder but what an audit makes before it begins."""
    for place in folder.iterdir():
        if place.is_symlink() or not _of_a_beginning(place):
            return False
    return not _has_rows(folder / DATABASE)


def _of_a_beginning(place: Path) -> bool:
    if place.name == PICTURES:
        return place.is_dir() and not any(place.iterdir())
    unfinished = place.name.startswith(".") and place.name.endswith(".part")
    return place.is_file() and (place.name in _DATABASES or unfinished)


_MOST_STEPS = 100_000
"""Steps of SQLite's machine that a look at a beginning may take."""


def _has_rows(database: Path) -> bool:
    size = database.stat().st_size if database.exists() else 0
    if not size:
        return False
    if size > _LARGE:
        # The list of its tables is read whole, however long it is; a beginning has a short one.
        return True
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
        ) as opened:
            # A stranger's view may have no end; what takes so long is no beginning of ours.
            opened.set_progress_handler(lambda: 1, _MOST_STEPS)
            kinds = dict(opened.execute("SELECT name, type FROM sqlite_master"))
            if any(kind not in ("table", "index") for kind in kinds.values()):
                return True
            ours = [name for name in ("images", "outcomes", "strips") if name in kinds]
            # The tables' names are our own.
            return any(opened.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in ours)  # noqa: S608
    except sqlite3.OperationalError as error:
        return "interrupted" in str(error) or size > _SMALL
    except sqlite3.DatabaseError:
        return size > _SMALL


def _clear(folder: Path) -> None:
    """Take away what an audit makes before it begins."""
    for name in _DATABASES:
        (folder / name).unlink(missing_ok=True)
    sweep(folder)
    shutil.rmtree(folder / PICTURES, ignore_errors=True)


def _taken(folder: Path) -> RunUsageError:
    if not (folder / DATABASE).is_file():
        return RunUsageError(
            f"{folder} holds a part of a run: its {DATABASE} is missing, so it cannot be gone on with. "
            f"Restore {DATABASE} from a copy, or choose another folder."
        )
    return RunUsageError(
        f"{folder} holds a run already; expected a new or empty folder. Choose another, or go on with "
        f"`{disk_errors.resuming(folder)}`."
    )


def _in_use(folder: Path) -> RunUsageError:
    return RunUsageError(
        f"{folder} is in use: another audit writes to it now. Wait until it has ended, or stop it; then "
        f"go on with `{disk_errors.resuming(folder)}`."
    )
