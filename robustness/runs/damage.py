"""Finds the pictures of a run that are missing, or whose bytes do not have the hash in their names."""

from __future__ import annotations

import hashlib
import heapq
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from robustness.errors import RunError
from robustness.files.open_folder import parts_of, within
from robustness.files.reading import MOST_PICTURE, read_in
from robustness.runs import run_folder

MOST_HASHED = 100_000
"""The most pictures whose bytes are hashed: a few seconds. A kill cannot leave half a picture under its name,
and a machine that fails loses what was written last."""


def damaged_pictures(folder: Path, names: Iterable[str]) -> set[str]:
    """Return which pictures of a run are missing or damaged.

    Parameters
    ----------
    folder : Path
        The run folder.
    names : iterable of str
        Paths within it.

    Returns
    -------
    set of str
        Those that are no regular file of 1 to `MOST_PICTURE` bytes below `images/`, and of the
        `MOST_HASHED` newest files those whose bytes have another hash than their name says.
    """
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    bad: set[str] = set()
    for name in names:
        try:
            *folders, last = parts_of(name)
        except RunError:
            bad.add(name)
            continue
        groups.setdefault(tuple(folders), {})[last] = name
    times: dict[str, int] = {}
    for parts, files in groups.items():
        found = _times(folder, parts, files) if parts[:1] == (run_folder.PICTURES,) else {}
        times |= found
        bad |= set(files.values()) - found.keys()
    newest = set(heapq.nlargest(MOST_HASHED, times, key=times.__getitem__))
    for parts, files in groups.items():
        bad |= _altered(folder, parts, {f: n for f, n in files.items() if n in newest})
    return bad


def _times(folder: Path, parts: tuple[str, ...], files: dict[str, str]) -> dict[str, int]:
    """The time of the last change of each of `files` (paths in the run by file name) that is a sound file."""
    times: dict[str, int] = {}
    try:
        with within(folder, parts) as place:
            for file, name in files.items():
                found = place.status(file)
                if found and stat.S_ISREG(found.st_mode) and 0 < found.st_size <= MOST_PICTURE:
                    times[name] = found.st_mtime_ns
    except (RunError, OSError):
        return {}
    return times


def _altered(folder: Path, parts: tuple[str, ...], files: dict[str, str]) -> set[str]:
    """The pictures of one folder whose bytes do not have the hash in their names."""
    if not files:
        return set()
    bad: set[str] = set()
    try:
        with within(folder, parts) as place:
            for file, name in files.items():
                try:
                    data = read_in(place, file, MOST_PICTURE)
                except (RunError, OSError):
                    bad.add(name)
                    continue
                if hashlib.sha256(data).hexdigest() != PurePosixPath(file).stem:
                    bad.add(name)
    except (RunError, OSError):
        return set(files.values())
    return bad
