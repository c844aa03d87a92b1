"""Converts errors of disks, folders and SQLite into one sentence: what happened, where, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from robustness.errors import RunError, SettingError, StorageError

_ROOM = "Make room"
_ELSEWHERE = "Choose a folder that you may write to"
_GONE = "a folder or file is gone, or something else stands in its place", "Put it back"
_CAUSES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("no space is left on the disk", _ROOM),
    errno.EDQUOT: ("your share of the disk is used up", _ROOM),
    errno.EFBIG: ("the file is larger than the system allows", "Raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("permission is denied", _ELSEWHERE),
    errno.EPERM: ("permission is denied", _ELSEWHERE),
    errno.ENAMETOOLONG: ("the path is too long", "Choose a shorter one"),
    errno.ENOENT: _GONE,
    errno.ENOTDIR: _GONE,
    errno.EISDIR: _GONE,
    errno.EEXIST: _GONE,
    errno.ESTALE: _GONE,
    errno.EIO: ("the disk reports an error", "Check the disk"),
    errno.EMFILE: ("too many files are open", "Raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open", "Close what else runs on the machine"),
}
_SQLITE_CAUSES: dict[str, tuple[str, str]] = {
    "SQLITE_FULL": _CAUSES[errno.ENOSPC],
    "SQLITE_BUSY": ("another program holds the database locked", "Close that program"),
    "SQLITE_LOCKED": ("another program holds the database locked", "Close that program"),
    "SQLITE_READONLY": ("the database is read-only", _ELSEWHERE),
    "SQLITE_PERM": _CAUSES[errno.EACCES],
    "SQLITE_CANTOPEN": (
        "the database cannot be opened",
        "Check that the folder is there and that you may write to it",
    ),
    "SQLITE_IOERR": ("the database cannot be written or read", "Check the disk and its room"),
}


def cause(error: OSError | sqlite3.Error) -> tuple[str, str]:
    """Return what happened and what to do, as two parts of a sentence."""
    if isinstance(error, sqlite3.Error):
        return _SQLITE_CAUSES.get(_code(error), (str(error), "Check the folder and the disk"))
    if "temporary directory" in str(error):
        return (
            "no folder for temporary files can be written to",
            "Make room there, or name another in the environment variable TMPDIR",
        )
    said = error.strerror or str(error) or type(error).__name__
    return _CAUSES.get(error.errno or 0, (said, "Check the folder and the disk"))


def _code(error: sqlite3.Error) -> str:
    """SQLite's primary name of an error: SQLITE_IOERR for SQLITE_IOERR_WRITE and the like."""
    return "_".join((getattr(error, "sqlite_errorname", None) or "").split("_")[:2])


def sentence(error: OSError, path: object = None) -> str:
    """Describe in a message what happened to `path`, or to the file that the error names, and what to do."""
    place = path or error.filename2 or error.filename
    what, advice = cause(error)
    return f"{place}: {what}. {advice}." if place else f"{what[0].upper()}{what[1:]}. {advice}."


@contextlib.contextmanager
def using(folder: Path, *, begun: bool = True, action: str = "written") -> Iterator[None]:
    """Convert errors of disk, folder and database within the context into errors about a run.

    Parameters
    ----------
    folder : Path
        The run folder.
    begun : bool
        Whether there is a run that can be resumed.
    action : str
        What is done with the folder: "written", "made" or "read".

    Raises
    ------
    StorageError
        The disk, the folder or SQLite reports an error; the message says what happened and what to do.
    RunError
        The database is damaged.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _code(error) not in _SQLITE_CAUSES:
            raise unreadable(folder, error) from None
        raise _stopped(folder, error, begun, action) from error
    except OSError as error:
        raise _stopped(folder, error, begun, action) from error


def expect_writable(folder: Path) -> None:
    """Raise OSError unless `folder` is writable; SQLite would only report that it cannot open its file."""
    if os.access(folder, os.W_OK):
        return
    system = os.statvfs(folder) if hasattr(os, "statvfs") else None
    fixed = system is not None and system.f_flag & os.ST_RDONLY
    number = errno.EROFS if fixed else errno.EACCES
    raise OSError(number, os.strerror(number), str(folder))


def unreadable(folder: Path, error: sqlite3.DatabaseError) -> RunError:
    """Return the error for a damaged database."""
    return RunError(
        f"{folder / 'run.sqlite'} cannot be read ({error}); expected the database of a run. "
        "Restore it from a copy, or audit again into a new folder."
    )


def gone(folder: Path) -> StorageError:
    """Return the error for a run folder that is moved, deleted or replaced while the audit writes to it."""
    return StorageError(
        f"{folder}: the run folder was moved, deleted or replaced while the audit wrote to it. Put it "
        f"back and go on with `{resuming(folder)}`, or audit into a new folder."
    )


def resuming(folder: Path) -> str:
    """Return the command that resumes a run."""
    return f"robustness audit --resume {shlex.quote(str(folder))}"


def _is_full(folder: Path) -> bool:
    """Whether the disk of a folder is full: for some of its files SQLite reports that as SQLITE_IOERR."""
    above = next((one for one in (folder, *folder.absolute().parents) if one.exists()), None)
    return above is not None and shutil.disk_usage(above).free < 1 << 16


def _stopped(
    folder: Path, error: OSError | sqlite3.Error, begun: bool, action: str
) -> StorageError:
    what, advice = cause(error)
    if isinstance(error, sqlite3.Error) and _code(error) == "SQLITE_IOERR" and _is_full(folder):
        what, advice = _CAUSES[errno.ENOSPC]
    if begun and action == "written":
        kept = "what was done is kept"
        advice = f"{advice} and go on with `{resuming(folder)}`"
        return StorageError(f"{folder} cannot be written: {what}; {kept}. {advice}.")
    return StorageError(f"{folder} cannot be {action}: {what}. {advice}, then start again.")


def expect_named(given: object, what: str) -> None:
    """Raise SettingError for an empty text in place of a path, which Python reads as the current folder.

    Parameters
    ----------
    given : object
        The value of the argument; only text and bytes are checked.
    what : str
        The name of the argument, as the start of a sentence.
    """
    if isinstance(given, (str, bytes)) and not given:
        raise SettingError(f"{what} is empty; expected a path. The current folder is '.'.")


_PARTS = ("run.json", "run.sqlite", "run.sqlite-wal", "run.sqlite-shm")


def expect_place(path: Path) -> None:
    """Check, before a long computation, that a file can be written at `path`; its folders may be missing.

    Raises
    ------
    SettingError
        `path` is a folder, a device, a pipe or a part of a run, or a part of it is not a folder.
    StorageError
        Permission is denied, or the path is too long.
    """
    try:
        if path.is_dir():
            raise SettingError(f"{path} is a folder; expected the name of a file to write.")
        if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISLNK(mode):
            raise SettingError(
                f"{path} is a device or a pipe; expected the name of a file to write."
            )
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise SettingError(
            f"{path} cannot be written: a part of its path is no folder. Choose another."
        ) from None
    except OSError as error:
        raise StorageError(sentence(error, path)) from error
    if path.name in _PARTS and (path.parent / "run.json").is_file():
        raise SettingError(
            f"{path} is a part of the run in that folder; expected another name, or another folder."
        )
    above = next((one for one in path.absolute().parents if one.exists()), path.absolute())
    if not os.access(above, os.W_OK):
        raise StorageError(f"{path} cannot be written: permission is denied. {_ELSEWHERE}.")
