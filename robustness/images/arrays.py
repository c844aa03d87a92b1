"""Makes a source of images from an array in memory or from a `.npz` file, which is read row by row."""

from __future__ import annotations

import contextlib
import math
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robustness.errors import ImagesError
from robustness.files import npy
from robustness.images import archives, csv_columns, label_arrays
from robustness.images.decode import fit, mode_for, to_channels
from robustness.images.entries import MAX_ENTRIES, Entry, Library, Shape, Source, Unreadable, key_of
from robustness.images.labels import Labelling
from robustness.images.png import MAX_BYTES, MAX_PIXELS

MAX_NUMBERS = 4 * MAX_PIXELS
"""The largest number of values of one image: the pixels of the largest picture, times four channels."""
_Rows = Callable[[int], np.ndarray]
_COUNTS = "expected counts, whole numbers from 0 to 255"


def from_arrays(
    images: Any,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Source:
    """Make a source from an array of images, which is not copied.

    Parameters
    ----------
    images : array_like, shape (n, height, width, channels)
        The images in counts, 0..255.
    labels : array_like, optional
        One class for each image, see `label_arrays.by_array`.
    class_names : sequence of str, optional
        The names of the classes.
    names : sequence of str, shape (n,), optional
        The name of each image; "row 17" and the like by default.

    Raises
    ------
    ImagesError
        The images are not counts, or `labels` or `names` have another length than the images.
    """
    array = np.asarray(images)
    return _source(
        "array",
        shape=array.shape,
        dtype=array.dtype,
        rows=array.__getitem__,
        labels=labels,
        class_names=class_names,
        names=names,
    )


def open_npz(path: Path, known: Sequence[str] | None, label_column: str | None = None) -> Source:
    """Open a `.npz` file with `images` and optionally `labels` and `class_names`; rows are read on demand.

    Parameters
    ----------
    path : Path
        The file.
    known : sequence of str or None
        The class names, which replace those in the file; None to use the latter.
    label_column : str, optional
        The name of the array of labels, "none" for no labels; by default the array is found by its name.

    Raises
    ------
    ImagesError
        The file is not a sound archive of such arrays, or it is not clear which array holds the labels.
    """
    with archives.sound(path.name, ".npz file"), archives.opened(path) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(infos) < len(archive.infolist()):
            raise ImagesError(
                f"{path.name} holds several arrays of one name, so readers may disagree; save it again "
                "with numpy.savez."
            )
        if "images" not in infos:
            raise ImagesError(
                f"{path.name} holds the arrays {', '.join(sorted(infos)) or '(none)'}; expected "
                "`images` (n, height, width, channels), and maybe `labels` and `class_names`."
            )
        named = _labels_in(path.name, infos, label_column)
        small = {
            name: _small(path, archive, infos[name])
            for name in (named, "class_names")
            if name in infos
        }
        shape, dtype, rows = _rows(path, archive, infos["images"])
    found = small.get("class_names")
    if found is not None and (found.ndim != 1 or found.dtype.kind not in "US"):
        raise ImagesError(
            f"`class_names` in {path.name} has the shape {found.shape} and the type {found.dtype}; "
            "expected (classes,) texts."
        )
    names = known if found is None or known is not None else _texts(path, found)
    return _source(
        key_of(path.name),
        shape=shape,
        dtype=dtype,
        rows=rows,
        labels=small.get(named),
        class_names=names,
    )


def _texts(path: Path, found: np.ndarray) -> tuple[str, ...]:
    try:
        return tuple(
            one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in found.tolist()
        )
    except UnicodeDecodeError as error:
        raise ImagesError(
            f"`class_names` in {path.name} are no texts ({error}); expected UTF-8."
        ) from error


def _labels_in(file: str, names: Iterable[str], asked: str | None) -> str:
    """The name of the array of labels among `names`; "" for none. ImagesError if it is ambiguous."""
    others = [name for name in names if name not in ("images", "class_names")]
    held = f"{file} holds the arrays {', '.join(sorted(names))}"
    if asked is not None:
        if asked not in others and asked.casefold() != csv_columns.NONE:
            raise ImagesError(f"{held}; expected the labels {asked!r} to be one of them.")
        return asked if asked in others else ""
    if "labels" in others:
        return "labels"
    known = [name for name in others if csv_columns.is_one(name, csv_columns.LABELS)]
    if len(known) > 1 or (others and not known):
        raise ImagesError(
            f"{held}; which of them are the labels is not clear: name them `labels`, or say it with "
            "--label-column NAME or label_column=NAME; 'none' for pictures without labels."
        )
    return known[0] if known else ""


def _small(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read a whole array of at most `MAX_BYTES` bytes."""
    if info.file_size > MAX_BYTES:
        raise ImagesError(f"{info.filename} in {path.name} is larger than labels ever are.")
    with archives.member(path, archive, info) as file, _explained(path, info):
        return npy.read_array(file, MAX_BYTES)


@contextlib.contextmanager
def _explained(path: Path, info: zipfile.ZipInfo) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ImagesError(
            f"`{info.filename.removesuffix('.npy')}` in {path.name} cannot be read ({error}); "
            "expected a sound .npz file of numbers. Save it again with numpy.savez."
        ) from error


def _rows(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype, _Rows]:
    """Shape, dtype and a function that reads one row of an array, which may be too large to load."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(archives.member(path, archive, info))
        with _explained(path, info):
            header = npy.read_header(file)
        shape, dtype, start = header.shape, header.dtype, header.start
        if header.fortran:
            raise ImagesError(
                f"`images` in {path.name} is a Fortran-ordered array, which cannot be read row by row; "
                "save np.ascontiguousarray(images)."
            )
        if len(shape) == 4 and (shape[0] > MAX_ENTRIES or math.prod(shape[1:]) > MAX_NUMBERS):
            raise ImagesError(
                f"`images` in {path.name} has the shape {shape}; at most {MAX_ENTRIES:,} images of "
                f"{MAX_NUMBERS:,} numbers each are read."
            )
        size = math.prod(shape[1:]) * dtype.itemsize
        stack.pop_all()  # the file is closed with the last reference to the source
    lock = threading.Lock()

    def row(number: int) -> np.ndarray:
        with lock:
            file.seek(start + number * size)
            data = file.read(size)
        if len(data) < size:
            raise Unreadable("The file ends before this row does.")
        return np.frombuffer(data, dtype).reshape(shape[1:])

    return shape, dtype, row


def _source(
    what: str,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype,
    rows: _Rows,
    labels: Any,
    class_names: Sequence[str] | None,
    names: Sequence[str] | None = None,
) -> Source:
    if len(shape) != 4 or min(shape) < 1:
        raise ImagesError(
            f"{what}: the images have the shape {shape}; expected (n, height, width, channels). "
            "One image is images[None], grey images without channels are images[..., None]."
        )
    count = shape[0]
    _expect_counts(what, count, dtype, rows)
    for name, values in (("labels", labels), ("names", names)):
        if values is not None and _length(values) != count:
            raise ImagesError(
                f"{what}: {_length(values):,} {name} for {count:,} images; expected one each."
            )
    labelling = _label(what, labels, count, class_names)
    keys = [f"row {number}" for number in range(count)]
    items = (
        (Entry(key, key_of(str(name)), label), number, "")
        for number, (key, name, label) in enumerate(
            zip(keys, keys if names is None else names, labelling.labels, strict=True)
        )
    )

    def load(number: int, _: Entry, wanted: Shape) -> tuple[np.ndarray, str]:
        return fitted(rows(number).astype(np.uint8), wanted)

    return Library(labelling.describe(what), labelling.class_names, items, load)


def _length(values: Any) -> int:
    """The number of values, 1 for a scalar; np.shape refuses lists whose rows differ in length."""
    try:
        return len(values)
    except TypeError:
        return 1


def _label(what: str, labels: Any, count: int, class_names: Sequence[str] | None) -> Labelling:
    if labels is None:
        return Labelling(None if class_names is None else tuple(class_names), [None] * count)
    try:
        return label_arrays.by_array(labels, count, class_names)
    except ImagesError as error:
        raise ImagesError(f"{what}: {error}") from error


def _expect_counts(what: str, count: int, dtype: np.dtype, rows: _Rows) -> None:
    """ImagesError unless every value is a count; uint8 arrays need no check."""
    if dtype == np.uint8:
        return
    if dtype.kind not in "iuf":
        raise ImagesError(f"{what}: the images have the type {dtype}; {_COUNTS}.")
    most = 0.0
    for number in range(count):
        row = rows(number)
        low, high = float(row.min()), float(row.max())
        if low >= -1 and high <= 1 and (low < 0 or bool((row % 1).any())):
            raise _scaled(what, low)
        if not (low >= 0 and high <= 255) or bool((row % 1).any()):  # also true of NaN
            raise ImagesError(
                f"{what}: row {number} has values from {low:g} to {high:g}, not all of them "
                f"8-bit; {_COUNTS}: scale, round and clip the images."
            )
        most = max(most, high)
    if dtype.kind == "f" and most == 1:
        raise _scaled(what, 0)


def _scaled(what: str, low: float) -> ImagesError:
    formula = "images * 255" if low >= 0 else "(images + 1) * 127.5"
    return ImagesError(
        f"{what}: the images lie between {'0' if low >= 0 else '-1'} and 1; expected counts "
        f"0..255: give np.round({formula})."
    )


def fitted(pixels: np.ndarray, wanted: Shape) -> tuple[np.ndarray, str]:
    """Convert `pixels`, uint8 (h, w, c), to the model's input shape; return them and a note."""
    if wanted[0] is None and pixels.shape[-1] == wanted[-1]:
        return pixels, ""
    if pixels.shape == tuple(wanted):
        return pixels, ""
    channels = pixels.shape[-1]
    if channels not in (1, 3, 4):
        raise Unreadable(
            f"It has the shape {pixels.shape}, not the model's {tuple(wanted)}, and images with "
            f"{channels} channels are not resized."
        )
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
    notes: list[str] = []
    image = to_channels(image, mode_for(wanted), notes)
    return fit(image, wanted, notes), "; ".join(notes)
