"""Opens remote folders of pictures, and reads what a remote list names, below its own folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath

from robustness.errors import ImagesError
from robustness.files.remote import RemotePlace
from robustness.files.remote.places import THREADS, RemoteFile
from robustness.images import folders
from robustness.images.compact import TOO_LARGE
from robustness.images.decode import SUFFIXES
from robustness.images.entries import (
    MAX_ENTRIES,
    Entry,
    Library,
    Source,
    Unreadable,
    bare,
    key_of,
    numbered,
)
from robustness.images.labels import by_path
from robustness.images.png import MAX_BYTES
from robustness.images.sources import from_bytes, nothing_in, passed_over


def open_remote_folder(place: RemotePlace, known: tuple[str, ...] | None) -> Source:
    """Open a remote folder of pictures, labelled as a folder on this machine.

    Raises
    ------
    ImagesError
        It holds no pictures, or too many.
    FetchError
        It cannot be listed.
    """
    others: Counter[str] = Counter()
    files: list[tuple[str, RemoteFile]] = []
    for path, file in sorted(place.below(), key=lambda pair: pair[0]):
        if any(folders.hidden(part) for part in path.split("/")):
            continue
        if PurePosixPath(path).suffix.lower() in SUFFIXES:
            files.append((path, file))
        else:
            others["other file"] += 1
    if len(files) > MAX_ENTRIES:
        raise ImagesError(
            f"{place.name} holds more than {MAX_ENTRIES:,} pictures. Give them as tar shards."
        )
    if not files:
        raise ImagesError(nothing_in(f"Folder {place.name}", others))
    paths = [path for path, _ in files]
    labelling = by_path(paths, known, archive=False)
    items = (
        (Entry(key, bare(key), label), file, "")
        for number, (key, label, (_, file)) in enumerate(
            zip(numbered(paths), labelling.labels, files, strict=True)
        )
        if number not in labelling.left_out
    )
    description = labelling.describe(f"folder {key_of(place.name)}", passed_over(others))
    return Library(
        description,
        labelling.class_names,
        items,
        from_bytes(content),
        table=labelling.table,
        threads=THREADS,
    )


def reader_beside(place: RemotePlace) -> Callable[[str], bytes]:
    """Return a function that reads the file at a path below the folder of a remote list."""
    return partial(_beside, place)


def _beside(place: RemotePlace, path: str) -> bytes:
    try:
        file = place.beside(path)
    except FileNotFoundError as error:
        raise Unreadable("There is no such file.") from error
    if file is None:
        raise Unreadable("It lies outside the folder of the list; only files below it are read.")
    return content(file)


def content(file: RemoteFile) -> bytes:
    """Return the bytes of a remote picture; Unreadable if it is too large, gone or changed."""
    if file.size > MAX_BYTES:
        raise Unreadable(TOO_LARGE)
    try:
        return file.read_at(0, file.size)
    except FileNotFoundError as error:
        raise Unreadable("There is no such file any more.") from error
    except OSError as error:
        raise Unreadable(f"It cannot be read: {error.strerror or error}.") from error
