"""Creates, locks and cleans run folders.

A run has begun once its `run.json` exists, which is written last. A folder without it contains no results, so
it is cleared and used for the new run; a folder with it is never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from robustness.errors import RunUsageError
from robustness.files import disk_errors

try:
    import fcntl
except ImportError:  # the system has no such locks
    fcntl = None  # type: ignore[assignment]

MANIFEST, DATABASE, PICTURES = "run.json", "run.sqlite", "images"
_DATABASES = (DATABASE, *(f"{DATABASE}-{end}" for end in ("wal", "shm", "journal")))
_SMALL = 1 << 20
"""The most bytes of an unreadable database that counts as empty: a kill at its creation leaves no more."""


_LARGE = 64 << 20
"""A database with more bytes is not opened: one without rows is smaller."""


class Claim:
    """A lock on a run folder, held by one writer at a time; the end of the process releases it."""

    def __init__(self, folder: Path) -> None:
        """Lock `folder`. RunUsageError if another process, or another audit of this one, holds the lock."""
        self._release = lambda: None
        if fcntl is None:
            return
        number = os.open(folder, os.O_RDONLY)
        self._release = weakref.finalize(self, os.close, number)
        try:
            # The lock is on the folder itself, so that not even kill -9 leaves a lock file.
            _lock(number)
        except BlockingIOError:
            self.release()
            raise _in_use(folder) from None
        except OSError:
            # The file system has no locks, such as some network file systems: continue without.
            self.release()

    def release(self) -> None:
        """Release the lock."""
        self._release()


_TRIES, _PAUSE = 10, 0.02


def _lock(number: int) -> None:
    """Lock an open folder; BlockingIOError if another holds the lock for longer than a moment.

    A process that this one starts on another thread holds a lock that was released already, until it runs its
    program.
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if last:
                raise
            time.sleep(_PAUSE)
        else:
            return


def in_use(folder: Path) -> bool:
    """Whether an audit is writing to the folder."""
    try:
        Claim(folder).release()
    except RunUsageError:
        return True
    except OSError:
        return False
    return False


def expect_unused(folder: Path) -> None:
    """Raise RunUsageError if an audit is writing to the folder; called before a model is loaded."""
    if in_use(folder):
        raise _in_use(folder)


def expect_free(folder: Path) -> None:
    """Raise an error unless a run can be made in `folder`: called before a model is loaded.

    Raises
    ------
    RunUsageError
        The folder is there, and neither empty nor left by an audit killed before it began; or a part of its
        path is no folder.
    StorageError
        The folder cannot be made or written to.
    """
    with disk_errors.using(folder, begun=False, action="made"):
        folder.exists()  # raises where the path is too long
        above = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        if above != folder and not above.is_dir():
            raise RunUsageError(
                f"{folder} cannot be made: {above} is not a folder. Choose another place."
            )
        if above.is_dir():
            disk_errors.expect_writable(above)
        if above != folder:
            return
        if not folder.is_dir():
            raise RunUsageError(
                f"{folder} is not a folder; expected a new or empty one. Choose another."
            )
        expect_unused(folder)
        if not any(folder.iterdir()):
            return
        if (folder / MANIFEST).exists():
            raise _taken(folder)
        if not _is_half_made(folder):
            raise RunUsageError(
                f"{folder} is not empty and has no {MANIFEST}; expected a new or empty folder. Choose "
                "another."
            )


def expect_run(folder: Path) -> None:
    """Raise RunUsageError unless `folder` contains a run."""
    missing = [name for name in (MANIFEST, DATABASE) if not (folder / name).is_file()]
    if not missing:
        return
    said = f"{folder} is not a run: there is no {missing[0]} in it."
    begun = folder.is_dir() and MANIFEST in missing and any(folder.iterdir())
    if begun and _is_half_made(folder):
        raise RunUsageError(
            f"{said} An audit was stopped there before its first result, so nothing is lost: start it "
            f"again with `robustness audit --out {folder}` and its other options."
        )
    if missing == [DATABASE]:
        raise RunUsageError(
            f"{said} Other parts of a run are there: restore {DATABASE} from a copy, or audit again into "
            "a new folder."
        )
    raise RunUsageError(f"{said} Expected a folder that `robustness audit --out` created.")


@contextlib.contextmanager
def made(folder: Path) -> Iterator[Claim]:
    """Create and lock a folder for a new run, as a context; if its body fails, the folder is removed again.

    Yields
    ------
    Claim
        The lock. The folder contains an empty folder `images`.

    Raises
    ------
    RunUsageError
        The folder is not empty.
    StorageError
        The folder cannot be created.
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
    """Raise RunUsageError if another process has begun a run in `folder` since `expect_free`."""
    if (folder / MANIFEST).exists():
        raise _taken(folder)


def discard(folder: Path) -> None:
    """Delete the run in a folder, and the folder if nothing else is in it; its manifest goes first."""
    (folder / MANIFEST).unlink(missing_ok=True)
    _clear(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def move(folder: Path, target: Path) -> None:
    """Move a run to a path that is free, see `expect_free`."""
    if target.exists():
        _clear(target)
        target.rmdir()
    folder.rename(target)


def sweep(folder: Path) -> None:
    """Delete the unfinished files that a killed audit left in a run folder."""
    pictures = folder / PICTURES
    below = () if pictures.is_symlink() else pictures.glob("*/.*.part")
    for part in (*folder.glob(".*.part"), *below):
        if part.parent.is_symlink() and part.parent != folder:
            continue
        with contextlib.suppress(OSError):
            part.unlink()


def make_way(target: Path) -> None:
    """Remove a folder or a link at the path of a file of the run, or a link or file at that of its folder.

    A folder that is not empty is renamed to ``NAME.replaced-N`` instead.
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
    """Whether a folder contains only what an audit creates before its first result."""
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
"""The most steps of SQLite's virtual machine for the query whether a database has rows."""


def _has_rows(database: Path) -> bool:
    size = database.stat().st_size if database.exists() else 0
    if not size:
        return False
    if size > _LARGE:
        # SQLite reads the whole list of tables, however long it is.
        return True
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
        ) as opened:
            # An untrusted file may contain an endless view; an audit creates nothing that takes as long.
            opened.set_progress_handler(lambda: 1, _MOST_STEPS)
            kinds = dict(opened.execute("SELECT name, type FROM sqlite_master"))
            if any(kind not in ("table", "index") for kind in kinds.values()):
                return True
            ours = [name for name in ("images", "outcomes", "strips") if name in kinds]
            # The names are the constants above.
            return any(opened.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in ours)  # noqa: S608
    except sqlite3.OperationalError as error:
        return "interrupted" in str(error) or size > _SMALL
    except sqlite3.DatabaseError:
        return size > _SMALL


def _clear(folder: Path) -> None:
    """Delete what an audit creates before its first result."""
    for name in _DATABASES:
        (folder / name).unlink(missing_ok=True)
    sweep(folder)
    shutil.rmtree(folder / PICTURES, ignore_errors=True)


def _taken(folder: Path) -> RunUsageError:
    if not (folder / DATABASE).is_file():
        return RunUsageError(
            f"{folder} contains part of a run: {DATABASE} is missing, so the run cannot be resumed. "
            f"Restore {DATABASE} from a copy, or choose another folder."
        )
    return RunUsageError(
        f"{folder} already contains a run; expected a new or empty folder. Choose another, or resume "
        f"the run with `{disk_errors.resuming(folder)}`."
    )


def _in_use(folder: Path) -> RunUsageError:
    return RunUsageError(
        f"{folder} is in use: another audit is writing to it. Wait until it ends, or stop it; then resume "
        f"with `{disk_errors.resuming(folder)}`."
    )
