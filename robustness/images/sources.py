"""Opens the source of pictures at a path; and pictures, folders, zip archives and CSV lists themselves."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Generic, cast

import numpy as np

from robustness.errors import ImagesError
from robustness.files.disk_errors import expect_named
from robustness.files.joined import JoinedPlace, parts_of
from robustness.files.places import MAX_FILES, Place, local_place
from robustness.files.remote import is_remote, remote_place
from robustness.images import archives, csv_columns, folders
from robustness.images.decode import SUFFIXES, decode
from robustness.images.entries import Entry, Library, Shape, Source, Where, bare, key_of, numbered
from robustness.images.labels import Labelling, by_path, by_word
from robustness.images.source_kinds import (
    CACHE_BYTES,
    SourceOptions,
    further_forms,
    kind_of,
    opened,
)
from robustness.images.streams import Stream, spooled
from robustness.text import did_you_mean, plural

_KINDS = (
    "a picture (PNG, JPEG, BMP, WebP, GIF, TIFF), a folder, .zip, .csv, .npz, .tar shards, .parquet or "
    ".tfrecord; or a URL of these (s3, gs, az, hf, https)"
)


def open_source(
    spec: str | Path,
    class_names: Sequence[str] | None = None,
    label_column: str | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Source:
    """Open the source of pictures at a path.

    Parameters
    ----------
    spec : str or Path
        The path, of one of these kinds:

        - a folder: see `labels.by_path`; hidden files are skipped, links are followed.
        - a zip archive of the same layout, or Kaggle's archive, a zip that contains `train.zip`.
        - a CSV with columns of paths and labels, recognised by their names (`csv_columns`), or one-hot
          columns; a label is a name or number and may be missing; the paths lie below the CSV's folder.
        - a `.npz` with `images` (n, height, width, channels) in counts, and `labels`, `class_names`.
        - one picture.
        - what another kind of the group `robustness.sources` opens (docs/adding-a-source.md lists those of
          the toolkit).
    class_names : sequence of str, optional
        The class names; by default those found in the source.
    label_column : str, optional
        What holds the labels: the column of a CSV or Parquet file, the array of a `.npz`, the feature of a
        TFRecord, the suffix or JSON key of a tar shard; "none" for no labels.
    cache_bytes : int
        The most bytes on the disk that copies of remote files take.

    Raises
    ------
    ImagesError
        The path does not exist or holds no pictures that can be read, or a label is not a class.
    """
    expect_named(spec, "The path of the pictures")
    options = SourceOptions(
        None if class_names is None else tuple(class_names), label_column, cache_bytes
    )
    path = Path(spec).expanduser()
    place = _place_of(spec, cache_bytes)
    given: object = str(spec) if place is None else place
    kind = kind_of(given)
    if kind is not None:
        return opened(kind, given, options)
    if place is None:
        raise ImagesError(_missing(path))
    raise ImagesError(
        f"{place.name} is not a source of pictures; expected {_KINDS}{further_forms()}."
    )


def _place_of(spec: str | Path, cache_bytes: int) -> Place | None:
    """The place of a path or URL, or of several that are joined by `::`; None if nothing is there.

    Raises
    ------
    ImagesError
        Something joined is missing, is a folder, or is called like another part.
    """
    text = str(spec)
    if not is_remote(spec) or len(parts_of(text)) > 1:
        local = None if is_remote(spec) else local_place(Path(spec).expanduser())
        if local is not None or len(parts_of(text)) == 1:
            return local
        return _joined(parts_of(text), cache_bytes)
    return remote_place(text, cache_bytes)


def _joined(texts: Sequence[str], cache_bytes: int) -> Place:
    if len(texts) > MAX_FILES:
        raise ImagesError(f"More than {MAX_FILES:,} names are joined by '::'; expected fewer.")
    parts = []
    for text in texts:
        part = _place_of(text, cache_bytes) if text else None
        if part is None or part.is_folder:
            raise ImagesError(
                f"{text!r} is no file; expected files or ranges of files on both sides of '::'. Check it."
            )
        parts.append(part)
    joined = JoinedPlace(tuple(parts))
    names = joined.names()[0]
    if twice := next((name for name, count in Counter(names).items() if count > 1), ""):
        raise ImagesError(
            f"Two of the files that are joined by '::' are called {twice!r}, so that their pictures could "
            "not be told apart; rename one."
        )
    return joined


def open_object(given: object, options: SourceOptions) -> Source:
    """Open a Python object, such as a `tf.data.Dataset`; a `Source` is returned as it is.

    Raises
    ------
    ImagesError
        No kind opens it, or it cannot be used as a whole.
    """
    if isinstance(given, Stream):
        return spooled(given, options.class_names, options.cache_bytes)
    if hasattr(given, "entries") and hasattr(given, "read"):
        return cast("Source", given)
    kind = kind_of(given)
    if kind is None:
        raise ImagesError(
            f"The images are the object {type(given).__name__}; expected a path, an array, a "
            f"tf.data.Dataset, a keras.utils.PyDataset, a PyTorch Dataset or DataLoader, or a "
            f"Source{further_forms()}."
        )
    return opened(kind, given, options)


def _missing(path: Path) -> str:
    if os.path.islink(path):  # noqa: PTH114 - a path that is too long is none
        return f"{str(path)!r} is a link that leads to nothing. Mend the link, or name the images themselves."
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    return (
        f"There is nothing at {str(path)!r}; expected {_KINDS}{further_forms()}."
        f"{hint or ' Check the path.'}"
    )


def open_picture(path: Path, known: tuple[str, ...] | None) -> Source:
    """Open one picture."""
    name = key_of(path.name)
    labelling = by_path([name], known, archive=False)
    entry = Entry(name, name, labelling.labels[0])
    load = from_bytes(folders.reader(path.resolve().parent))
    where = str(path.resolve())
    description = labelling.describe(f"file {name}")
    return Library(description, labelling.class_names, [(entry, where, "")], load)


def open_folder(path: Path, known: tuple[str, ...] | None) -> Source:
    """Open a folder of pictures; ImagesError if it holds none."""
    root = path.resolve()
    others: Counter[str] = Counter()
    faults: dict[str, str] = {}
    paths = list(folders.walk(root, others, faults))
    if len(paths) == len(faults):
        others["folder that cannot be listed"] += len(faults)
        raise ImagesError(nothing_in(f"Folder {root.name}", others))
    labelling = sane(
        paths, [place in faults for place in paths], partial(by_path, known=known, archive=False)
    )
    items = (
        (Entry(key, bare(key), label), place, faults.get(place, ""))
        for number, (key, label, place) in enumerate(
            zip(numbered(paths), labelling.labels, paths, strict=True)
        )
        if number not in labelling.left_out
    )
    unlabelled = all(label is None for label in labelling.labels)
    lists = (_lists(root, paths) or folders.one_of_several(root, paths)) if unlabelled else []
    description = labelling.describe(f"folder {key_of(root.name)}", [*passed_over(others), *lists])
    empty = [] if labelling.class_names is None else _empty_folders(root, labelling)
    load = from_bytes(folders.reader(root))
    return Library(
        description, labelling.class_names, items, load, table=labelling.table, empty=empty
    )


def _lists(root: Path, paths: Sequence[str]) -> list[str]:
    """What to do about a list in a folder without labels that gives labels to its pictures."""
    for one in sorted(root.glob("*.csv")):
        with contextlib.suppress(ImagesError, OSError):
            place, label = next(iter(csv_columns.read(one, None, None, [])), ("", ""))
            if label and place in set(paths):
                return [f"{key_of(one.name)} in it lists labels: give that file as the images"]
    return []


def _empty_folders(root: Path, labelling: Labelling) -> list[str]:
    """The folders beside those of the classes that hold no pictures."""
    found = folders.names_below(root.joinpath(*labelling.around))
    if labelling.table is not None:
        return sorted(found - {row.found for row in labelling.table.rows})
    return sorted(found - set(labelling.class_names or ()))


def open_archive(path: Path, known: tuple[str, ...] | None) -> Source:
    """Open a zip archive of pictures; ImagesError if it holds none or cannot be read."""
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(archives.opened(path))
        infos, others = _pictures(archive, path.name)
        trains = (i for i in archive.infolist() if bare(archives.posix(i)) == "train.zip")
        if not infos and (train := next(trains, None)):
            window = stack.enter_context(archives.member(path, archive, train))
            with archives.sound(f"train.zip in {path.name}"):
                archive = stack.enter_context(zipfile.ZipFile(window))
            infos, others = _pictures(archive, path.name)
        if not infos:
            raise ImagesError(nothing_in(path.name, others))
        paths = [archives.posix(info) for info in infos]
        faults = _faults(infos)
        labelling = sane(paths, faults, partial(by_path, known=known, archive=True))
        stack.pop_all()  # the archive is closed with the last reference to the source
    items = (
        (Entry(key, bare(key), label), info, fault)
        for number, (key, label, info, fault) in enumerate(
            zip(numbered(paths), labelling.labels, infos, faults, strict=True)
        )
        if number not in labelling.left_out
    )
    description = labelling.describe(f"archive {key_of(path.name)}", passed_over(others))
    load = from_bytes(archives.reader(archive))
    return Library(description, labelling.class_names, items, load, table=labelling.table)


def sane(
    paths: Sequence[str], faults: Sequence[object], label: Callable[[list[str]], Labelling]
) -> Labelling:
    """The labels of all paths; paths with a fault have no label and do not define a class."""
    places = [n for n, fault in enumerate(faults) if not fault]
    inside = label([key_of(paths[n]) for n in places])
    found = dict(zip(places, inside.labels, strict=True))
    labels = [found.get(n) for n in range(len(faults))]
    out = frozenset(places[n] for n in inside.left_out)
    return replace(inside, labels=labels, left_out=out)


def _pictures(archive: zipfile.ZipFile, name: str) -> tuple[list[zipfile.ZipInfo], Counter[str]]:
    """The members with the suffix of a picture, sorted by name, and the count of other files."""
    found, others = [], Counter[str]()
    for info in archives.members(archive, name):
        path = PurePosixPath(archives.posix(info))
        if any(folders.hidden(part) for part in path.parts if part != ".."):
            continue
        if path.suffix.lower() in SUFFIXES:
            found.append(info)
        else:
            others["other file"] += 1
    return sorted(found, key=archives.posix), others


def _faults(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    seen: set[str] = set()
    faults = []
    for info in infos:
        twice = archives.TWICE if info.filename in seen else ""
        faults.append(archives.fault(info) or twice)
        seen.add(info.filename)
    return faults


def open_list(
    path: Path,
    known: tuple[str, ...] | None,
    label_column: str | None,
    read: Callable[[str], bytes] | None = None,
    threads: int = 2,
) -> Source:
    """Open a CSV list of pictures; ImagesError if its columns are not clear or it cannot be read."""
    said: list[str] = []
    rows = list(csv_columns.read(path, label_column, known, said))
    if not rows:
        raise ImagesError(
            f"{path.name} lists no pictures; expected a row for each below its header."
        )
    try:
        labelling = by_word([label for _, label in rows], known)
    except ImagesError as error:
        raise ImagesError(f"{path.name}: {error}") from error
    items = (
        (Entry(key, bare(key), label), place, "" if place else "The row names no file.")
        for key, label, (place, _) in zip(
            numbered(place for place, _ in rows), labelling.labels, rows, strict=True
        )
    )
    load = from_bytes(read or folders.reader(path.absolute().parent))
    description = labelling.describe(f"list {key_of(path.name)}", [key_of(one) for one in said])
    return Library(description, labelling.class_names, items, load, threads=threads)


@dataclass(frozen=True)
class Decoding(Generic[Where]):
    """Loads a picture from the bytes of its file, turned as its EXIF orientation says or not."""

    read: Callable[[Where], bytes]
    turned: bool = True

    def __call__(self, where: Where, entry: Entry, shape: Shape) -> tuple[np.ndarray, str]:
        """Return the pixels and the note of a picture."""
        return decode(self.read(where), entry.name, shape, turned=self.turned)

    def unturned(self) -> Decoding[Where]:
        """Return the decoding that turns no picture."""
        return Decoding(self.read, turned=False)


def from_bytes(read: Callable[[Where], bytes]) -> Decoding[Where]:
    """Return what loads a picture from the bytes that `read` returns."""
    return Decoding(read)


def passed_over(others: Counter[str]) -> list[str]:
    """Return which other files were skipped, as phrases."""
    return [f"{plural(number, what)} skipped" for what, number in others.items() if number]


def nothing_in(what: str, others: Counter[str]) -> str:
    """Return the message about a source without pictures."""
    there = f" ({', '.join(passed_over(others))})" if any(others.values()) else ""
    return f"{what} holds no pictures{there}; expected PNG, JPEG, BMP, WebP, GIF or TIFF files."
