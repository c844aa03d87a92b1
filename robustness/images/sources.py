"""Finds out what a path holds and opens it: a picture, a folder, a zip archive, a CSV, a `.npz`."""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from robustness.errors import ImagesError
from robustness.images import archives, arrays, columns
from robustness.images.decode import SUFFIXES, decode
from robustness.images.entries import (
    MAX_BYTES,
    MAX_ENTRIES,
    Entry,
    Library,
    Shape,
    Source,
    Unreadable,
    Where,
    bare,
    key_of,
    numbered,
)
from robustness.images.labels import Labelling, by_path, by_word, counted

_JUNK = {"__MACOSX", "Thumbs.db"}
_KINDS = "a picture (PNG, JPEG, BMP, WebP, GIF, TIFF), a folder, .zip, .csv or .npz"


def open_source(
    spec: str | Path, class_names: Sequence[str] | None = None, label_column: str | None = None
) -> Source:
    """The pictures at the path `spec`, labelled with `class_names` or with the names found there.

    - a folder: see `labels.by_path`; hidden files are skipped, links never lead out of it.
    - a zip of the same shape, or Kaggle's archive, a zip with `train.zip` in it.
    - a CSV with columns of paths and labels, known by their names (`columns`), or one-hot columns; a label
      is a name or number and may be missing; the paths lie below the CSV's folder.
    - a `.npz` with `images` (n, height, width, channels) in counts, and `labels`, `class_names`.
    - one picture.

    `label_column` names the column of a CSV or the array of a `.npz` with the labels, "none" for none.
    ImagesError if there is nothing there, nothing that is read, or a label that is no class.
    """
    path = Path(spec).expanduser()
    if label_column is not None and path.suffix.lower() not in (".csv", ".npz"):
        raise ImagesError(
            f"{path.name} has no columns, and a label column ({label_column!r}) was given; expected a CSV or "
            ".npz. Leave it out."
        )
    known = None if class_names is None else tuple(class_names)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise ImagesError(_missing(path)) from error
    if path.is_dir():
        return _folder(path, known)
    suffix = path.suffix.lower() if path.is_file() else ""  # a pipe would be waited for
    if suffix in SUFFIXES:
        return _single(path, known)
    if suffix == ".csv":
        return _list(path, known, label_column)
    if suffix == ".npz":
        return arrays.open_npz(path, known, label_column)
    if suffix != ".zip":
        raise ImagesError(f"{path.name} is not a source of pictures; expected {_KINDS}.")
    return _archive(path, known)


def _missing(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f"did you mean {str(path.with_name(close[0]))!r}?" if close else "check the path."
    return f"There is nothing at {str(path)!r}; expected {_KINDS}: {hint}"


def _single(path: Path, known: tuple[str, ...] | None) -> Source:
    name = key_of(path.name)
    labelling = by_path([name], known, archive=False)
    entry = Entry(name, name, labelling.labels[0])
    load = _from_bytes(_file_reader(path.resolve().parent))
    where = str(path.resolve())
    description = labelling.describe(f"file {name}")
    return Library(description, labelling.class_names, [(entry, where, "")], load)


def _folder(path: Path, known: tuple[str, ...] | None) -> Source:
    root = path.resolve()
    others: Counter[str] = Counter()
    paths = list(_walk(root, others))
    if not paths:
        raise ImagesError(_empty(f"Folder {root.name}", others))
    labelling = by_path([key_of(place) for place in paths], known, archive=False)
    items = (
        (Entry(key, bare(key), label), place, "")
        for key, label, place in zip(numbered(paths), labelling.labels, paths, strict=True)
    )
    description = labelling.describe(f"folder {key_of(root.name)}", _passed_over(others))
    return Library(description, labelling.class_names, items, _from_bytes(_file_reader(root)))


def _walk(root: Path, others: Counter[str]) -> Iterator[str]:
    """Posix paths of the pictures below `root`, in order; counts what is passed over."""

    def refuse(error: OSError) -> None:
        raise ImagesError(
            f"Folder {error.filename} cannot be listed ({error.strerror}); make it readable."
        ) from error

    count = 0
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        others["linked folder"] += sum((Path(folder) / name).is_symlink() for name in folders)
        for name in sorted(name for name in files if not _hidden(name)):
            if PurePosixPath(name).suffix.lower() not in SUFFIXES:
                others["other file"] += 1
                continue
            count += 1
            if count > MAX_ENTRIES:
                raise ImagesError(f"{root.name} holds more than {MAX_ENTRIES:,} pictures.")
            yield (Path(folder) / name).relative_to(root).as_posix()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _JUNK


def _archive(path: Path, known: tuple[str, ...] | None) -> Source:
    with contextlib.ExitStack() as stack:
        with archives.sound(path.name):
            archive = stack.enter_context(zipfile.ZipFile(path))
        infos, others = _pictures(archive, path.name)
        trains = (i for i in archive.infolist() if bare(archives.posix(i)) == "train.zip")
        if not infos and (train := next(trains, None)):
            window = stack.enter_context(archives.member(path, archive, train))
            with archives.sound(f"train.zip in {path.name}"):
                archive = stack.enter_context(zipfile.ZipFile(window))
            infos, others = _pictures(archive, path.name)
        if not infos:
            raise ImagesError(_empty(path.name, others))
        paths = [archives.posix(info) for info in infos]
        faults = _faults(infos)
        sane = [path for path, fault in zip(paths, faults, strict=True) if not fault]
        inside = by_path([key_of(path) for path in sane], known, archive=True)
        stack.pop_all()  # from here on it is closed when nobody holds the source any more
    found = iter(inside.labels)
    labels = [None if fault else next(found) for fault in faults]
    labelling = Labelling(inside.class_names, labels)
    items = (
        (Entry(key, bare(key), label), info, fault)
        for key, label, info, fault in zip(numbered(paths), labels, infos, faults, strict=True)
    )
    description = labelling.describe(f"archive {key_of(path.name)}", _passed_over(others))
    load = _from_bytes(archives.reader(archive))
    return Library(description, labelling.class_names, items, load)


def _pictures(archive: zipfile.ZipFile, name: str) -> tuple[list[zipfile.ZipInfo], Counter[str]]:
    """Members that are pictures by their suffix, in order of name, and the count of the others."""
    found, others = [], Counter[str]()
    for info in archives.members(archive, name):
        path = PurePosixPath(archives.posix(info))
        if any(_hidden(part) for part in path.parts if part != ".."):
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
        twice = "The archive holds another file of this name." if info.filename in seen else ""
        faults.append(archives.fault(info) or twice)
        seen.add(info.filename)
    return faults


def _list(path: Path, known: tuple[str, ...] | None, label_column: str | None) -> Source:
    rows = list(columns.read(path, label_column))
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
    load = _from_bytes(_file_reader(path.resolve().parent))
    description = labelling.describe(f"list {key_of(path.name)}")
    return Library(description, labelling.class_names, items, load)


def _file_reader(root: Path) -> Callable[[str], bytes]:
    """A function from a path below `root` to the file's bytes; Unreadable otherwise."""

    def read(place: str) -> bytes:
        try:
            target = (root / place).resolve()
            if not target.is_relative_to(root):
                raise Unreadable(
                    f"It lies outside the folder {key_of(root.name)}; only files below it are read."
                )
            if not stat.S_ISREG(target.stat().st_mode):  # a pipe would be waited for
                raise Unreadable("It is not a regular file.")
            with target.open("rb") as file:
                size = os.fstat(file.fileno()).st_size  # read(n) takes the memory for n at once
                data = file.read(min(size, MAX_BYTES) + 1)
        except FileNotFoundError as error:
            raise Unreadable("There is no such file.") from error
        except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, links in a ring
            words = getattr(error, "strerror", None) or "its path cannot be followed"
            raise Unreadable(f"The file cannot be opened: {words.lower()}.") from error
        if len(data) > MAX_BYTES:
            raise Unreadable(f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read.")
        return data

    return read


def _from_bytes(
    read: Callable[[Where], bytes],
) -> Callable[[Where, Entry, Shape], tuple[np.ndarray, str]]:
    return lambda where, entry, shape: decode(read(where), entry.name, shape)


def _passed_over(others: Counter[str]) -> list[str]:
    return [f"{counted(number, what)} skipped" for what, number in others.items() if number]


def _empty(what: str, others: Counter[str]) -> str:
    there = f" ({', '.join(_passed_over(others))})" if any(others.values()) else ""
    return f"{what} holds no pictures{there}; expected PNG, JPEG, BMP, WebP, GIF or TIFF files."
