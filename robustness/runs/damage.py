"""Finds the pictures of a run that are missing, or whose bytes do not have the hash in their names."""

from __future__ import annotations

import hashlib
import heapq
import re
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from robustness.errors import RunError
from robustness.files.open_folder import parts_of, within
from robustness.files.reading import MOST_PICTURE, read_in
from robustness.runs import run_folder

_OWN_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]{3,4}")
"""The name of a picture within its folder."""
MOST_HASHED = 20_000
"""The most pictures whose bytes are hashed: a second. A kill cannot leave half a picture under its name, and
a machine that fails loses what was written last; `robustness verify` hashes all."""


def damaged_pictures(folder: Path, names: Collection[str]) -> set[str]:
    """Return which pictures of a run are missing or damaged.

    Parameters
    ----------
    folder : Path
        The run folder.
    names : collection of str
        Paths within it.

    Returns
    -------
    set of str
        Those that are no regular file of 1 to `MOST_PICTURE` bytes below `images/`, and of the
        `MOST_HASHED` newest files those whose bytes have another hash than their name says.
    """
    groups, bad = _by_folder(names)
    times: dict[str, int] = {}
    for parts, files in groups.items():
        times |= _times(folder, parts, files)
    bad |= set(names) - times.keys()
    newest = set(heapq.nlargest(MOST_HASHED, times, key=times.__getitem__))
    for parts, files in groups.items():
        bad |= _altered(folder, parts, {f: n for f, n in files.items() if n in newest})
    return bad


def _by_folder(
    names: Iterable[str],
) -> tuple[dict[tuple[str, ...], dict[str, str]], set[str]]:
    """Paths by their folders and file names; and those that no audit writes, such as out of the run."""
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    bad: set[str] = set()
    # Nearly all names differ in their last part only, which needs no look at the others.
    known: dict[str, dict[str, str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder not in known or not _OWN_NAME.fullmatch(file):
            try:
                parts = parts_of(name)
            except RunError:
                parts = ()
            if "/".join(parts) != name:
                bad.add(name)
                continue
            known[folder] = groups.setdefault(parts[:-1], {})
        known[folder][file] = name
    return groups, bad


def _times(folder: Path, parts: tuple[str, ...], files: dict[str, str]) -> dict[str, int]:
    """The time of the last change of each of `files` (paths in the run by file name) that is a sound file."""
    if parts[:1] != (run_folder.PICTURES,):
        return {}
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
                if hashlib.sha256(data).hexdigest() != file.rsplit(".", 1)[0]:
                    bad.add(name)
    except (RunError, OSError):
        return set(files.values())
    return bad
