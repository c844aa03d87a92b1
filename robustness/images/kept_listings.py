"""Keeps the listing of a large source on the disk, so that a resumed run does not read every header again.

A listing is kept in the folder of the copies of remote files, under a hash of what it depends on: the files
with their sizes and versions, and the options. A listing that does not fit its files is made again.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from robustness.errors import RobustnessError
from robustness.files import writing
from robustness.files.npy import read_npz
from robustness.files.places import ByteFile
from robustness.files.remote import cache_folder
from robustness.images.class_match import ClassRow, ClassTable
from robustness.images.compact import CompactSource, Extract, Listing
from robustness.images.picture_index import Index
from robustness.images.source_kinds import SourceOptions

LARGE = 50_000
"""The number of pictures from which listing them takes longer than reading a listing."""
MOST = 16
"""The most listings that are kept."""
FORMAT = 2
"""To be raised when files are listed in another way."""
_SUFFIX = ".npz"


def kept(
    kind: str,
    what: str,
    files: Sequence[ByteFile],
    options: SourceOptions,
    listed: Callable[[], CompactSource],
    extract: Extract | None = None,
) -> CompactSource:
    """Return a source from its kept listing, or list it, and keep the listing if it is a large one.

    Parameters
    ----------
    kind : the kind of the files.
    what : what they are, for the report.
    files : the files.
    options : what the user states about them.
    listed : lists them.
    extract : returns the picture file in the bytes at an offset; None if they are the picture file.
    """
    # Asked once: the version of a new local file is "" for two seconds.
    versions = [file.version for file in files]
    if not all(versions):
        return listed()
    stated = [FORMAT, kind, what, options.class_names, options.label_column]
    sizes = [(file.name, file.size) for file in files]
    place = _place([*stated, sizes, versions])
    if (source := _read(place, files, extract)) is not None:
        return source
    source = listed()
    if len(source.listing.index) >= LARGE:
        _write(place, source.listing)
    return source


def _place(stated: object) -> Path:
    """The path of the listing of what is stated."""
    return _folder() / f"{sha256(json.dumps(stated).encode()).hexdigest()}{_SUFFIX}"


def _folder() -> Path:
    return cache_folder() / "listings"


def _read(place: Path, files: Sequence[ByteFile], extract: Extract | None) -> CompactSource | None:
    """The source of a kept listing; None if there is none, or if it does not fit the files."""
    try:
        found = read_npz(place, "about", "labels", *Index.COLUMNS)
        about = json.loads(found.pop("about").tobytes())
        labels, table = found.pop("labels"), about["table"]
        index = Index.of_columns(found, about["faults"], [file.size for file in files])
        if table is not None:
            rows = tuple(ClassRow(**row) for row in table.pop("rows"))
            table = ClassTable(rows, tuple(table.pop("names")), **table)
        if labels.shape != (len(index),):
            return None
        listing = Listing(about["description"], about["class_names"], index, labels, table)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
    with contextlib.suppress(OSError):
        place.touch()
    return CompactSource(listing, files, extract=extract)


def _write(place: Path, listing: Listing) -> None:
    """Keep a listing, and remove those that were not used for longest; without success nothing is lost."""
    about = {
        "description": listing.description,
        "class_names": listing.class_names,
        "faults": listing.index.faults.texts(),
        "table": None if listing.table is None else asdict(listing.table),
    }
    arrays: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "labels": listing.labels,
        **listing.index.columns(),
    }
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    with contextlib.suppress(OSError, RobustnessError):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        writing.replace(place, packed.getvalue())
        used = sorted(place.parent.glob(f"*{_SUFFIX}"), key=lambda path: -path.stat().st_mtime)
        for old in used[MOST:]:
            old.unlink()
