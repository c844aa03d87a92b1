"""Opens TFRecord files of pictures where they lie: one, a folder of shards, or a range, without TensorFlow.

One pass over the records makes an index of offsets, names and labels. The checksum of a length is checked in
that pass, that of a record when its picture is read, or when it is the first with a label.

References
----------
TensorFlow, core/lib/io/record_writer.h: length, masked CRC-32C of it, data, masked CRC-32C of that.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from robustness.errors import ImagesError
from robustness.files.places import ByteFile
from robustness.images import csv_columns
from robustness.images.compact import CompactSource, Listing, described, labels_of_words
from robustness.images.crc32c import masked
from robustness.images.entries import Unreadable, key_of
from robustness.images.examples import Several, Value, single_values
from robustness.images.picture_index import MAX_INDEXED, Index, Words, unique_names
from robustness.images.png import MAX_BYTES
from robustness.images.shards import expect_no_page, in_turn
from robustness.images.tar_index import Blocks
from robustness.text import plural

IMAGES = ("image/encoded", "image", "encoded", "image_raw", "jpeg", "png")
LABELS = ("image/class/label", "label", "class", "target")
TEXTS = ("image/class/text", "label_text", "class_name")
NAMES = ("image/filename", "filename", "file_name")
MAX_RECORD = MAX_BYTES + (1 << 20)
_DAMAGED = "The record is damaged: its checksum is wrong."
_NONE = -(1 << 62)
"""Stands for no label among whole numbers."""


@dataclass
class _Scan:
    asked: str | None
    index: Index = field(default_factory=Index)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    """The label of each picture as a number."""
    texts: array[int] = field(default_factory=lambda: array("q"))
    """The number of its label as a text; -1 for none."""
    words: Words = field(default_factory=Words)
    seen: set[str] = field(default_factory=set)
    labels: set[tuple[Value, Value]] = field(default_factory=set)
    """The labels (number, text) of records that are not damaged."""
    named: bool = True


def open_records(
    files: Sequence[ByteFile], what: str, known: Sequence[str] | None, label_column: str | None
) -> CompactSource:
    """Open TFRecord files as one source.

    Parameters
    ----------
    files : the files, in the order of their names.
    what : what they are, for the report.
    known : the class names; None if they are not known.
    label_column : the feature with the labels; "none" for no labels; None to find it.

    Raises
    ------
    ImagesError
        A file is compressed, damaged or cut short, there are too many records, or a label is not a class.
    """
    scan = _Scan(label_column)
    for number, file in enumerate(in_turn(files)):
        _index(scan, number, file)
        if len(scan.index) > MAX_INDEXED:
            raise ImagesError(f"{what} holds more than {MAX_INDEXED:,} pictures.")
    if not len(scan.index):
        raise ImagesError(f"{what} holds no records; expected tf.train.Example with image/encoded.")
    if not scan.seen & set(IMAGES):
        features = ", ".join(sorted(key_of(one) for one in scan.seen)[:20])
        held = (
            f"with {features}" if features else "that are no tf.train.Example, or have no features"
        )
        raise ImagesError(
            f"{what} holds records {held}; expected tf.train.Example with a picture file in {IMAGES[0]} "
            "or image."
        )
    if not scan.named:
        scan.index.renamed(lambda number: f"row {number}")
    unique_names(scan.index, files)
    labels, names, told = _labels(scan, known, what)
    notes = [plural(len(files), "file")] * (len(files) > 1) + (
        [f"labels of {told}"] if told else []
    )
    listing = Listing(described(what, labels, notes), names, scan.index, labels)
    return CompactSource(listing, files, extract=picture_in)


def picture_in(data: bytes) -> bytes:
    """Return the picture file in a record and its checksum; Unreadable if they are damaged."""
    if not _is_sound(data):
        raise Unreadable(_DAMAGED)
    try:
        values = single_values(data[:-4])
    except ValueError as error:
        raise Unreadable(f"The record is no tf.train.Example: {error}.") from error
    kinds = (bytes, Several)
    picture = next((values[name] for name in IMAGES if isinstance(values.get(name), kinds)), None)
    if isinstance(picture, Several):
        raise Unreadable(
            "The record holds several pictures, and which of them is the image is not clear."
        )
    if not isinstance(picture, bytes):
        raise Unreadable(f"The record holds no picture in {IMAGES[0]} or image.")
    if len(picture) > MAX_BYTES:
        raise Unreadable(f"It is larger than {MAX_BYTES >> 20} MiB, the most that is read.")
    return picture


def _is_sound(data: bytes) -> bool:
    """Whether a record has the checksum at its end."""
    return masked(data[:-4]) == int.from_bytes(data[-4:], "little")


def _index(scan: _Scan, number: int, file: ByteFile) -> None:
    blocks, offset = Blocks(file), 0
    expect_no_page(file, blocks.get(0, 64, file.chunk))
    if blocks.get(0, 2, file.chunk)[:2] == b"\x1f\x8b":
        raise ImagesError(
            f"{file.name} is packed by gzip as a whole, so its records cannot be read at their places; "
            "expected plain TFRecords. Unpack it once (gunzip)."
        )
    while offset < file.size:
        header = blocks.get(offset, 12, file.chunk)
        size = int.from_bytes(header[:8], "little")
        if len(header) < 12 or masked(header[:8]) != int.from_bytes(header[8:], "little"):
            raise _broken(file, offset, "the length of a record is damaged")
        if offset + 16 + size > file.size:
            raise _broken(file, offset, "it ends within a record, as half a download does")
        if size > MAX_RECORD:
            _add(scan, number, (offset + 12, size), {}, "The record is larger than any picture.")
        else:
            data = blocks.get(offset + 12, size + 4, file.chunk)
            values, fault = _values(scan, data)
            _add(scan, number, (offset + 12, size), values, fault)
        offset += 16 + size


def _values(scan: _Scan, data: bytes) -> tuple[dict[str, Value], str]:
    """The features of a record, and why there are none.

    A label must not come from a damaged record: it would be a class of its own, or no class at all. So the
    first record with a label is checked; checking all would take as long as reading all pictures.
    """
    try:
        values = single_values(data[:-4])
    except ValueError:
        return {}, "The record is no tf.train.Example."
    label = _label(scan, values)
    if label not in scan.labels:
        if not _is_sound(data):
            return {}, _DAMAGED
        scan.labels.add(label)
    return values, ""


def _label(scan: _Scan, values: dict[str, Value]) -> tuple[Value, Value]:
    """The label of a record as a number (or text), and the text beside it."""
    if scan.asked is None:
        return tuple(
            next((values[one] for one in some if one in values), None) for some in (LABELS, TEXTS)
        )  # type: ignore[return-value]
    return (None if scan.asked.casefold() == csv_columns.NONE else values.get(scan.asked)), None


def _add(
    scan: _Scan, number: int, place: tuple[int, int], values: dict[str, Value], fault: str
) -> None:
    if len(scan.seen) < 1000:
        scan.seen |= values.keys()
    name = _text(next((values[one] for one in NAMES if one in values), None))
    scan.named = scan.named and (bool(name) or bool(fault))
    scan.index.add(name or f"row {len(scan.index)}", number, place[0], place[1] + 4, fault)
    value, beside = _label(scan, values)
    text = _text(beside)
    if isinstance(value, bytes):
        value, text = None, _text(value)
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN is no label
        value = None
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int | None) or isinstance(beside, Several):
        raise ImagesError(
            f"Record {len(scan.index) - 1} has {_shown(beside if whole is None else whole)} as its label; "
            "expected one whole number or text, not one-hot or several labels. Name another feature with "
            "--label-column (label_column= in Python); none for no labels."
        )
    scan.numbers.append(whole if whole is not None and abs(whole) < -_NONE else _NONE)
    scan.texts.append(scan.words.number(text) if text else -1)


def _shown(value: Value) -> str:
    return value.value if isinstance(value, Several) else repr(value)


def _text(value: Value) -> str:
    return value.decode("utf-8", "replace").strip()[:1000] if isinstance(value, bytes) else ""


def _labels(
    scan: _Scan, known: Sequence[str] | None, what: str
) -> tuple[np.ndarray, tuple[str, ...] | None, str]:
    """The labels, the class names, and where the labels are.

    Texts beside numbers are the names of the classes, in the order of the numbers.
    """
    numbers = np.frombuffer(scan.numbers, np.int64)
    texts = _completed(numbers, np.frombuffer(scan.texts, np.int64))
    has_number, has_text = numbers != _NONE, texts >= 0
    asked = (
        scan.asked if scan.asked is not None and scan.asked.casefold() != csv_columns.NONE else None
    )
    if asked is not None and asked not in scan.seen:
        features = ", ".join(sorted(key_of(one) for one in scan.seen)[:20])
        raise ImagesError(
            f"{what} holds records with {features}; expected the labels {asked!r} to be one of them."
        )
    told = asked or next((one for one in LABELS if one in scan.seen), "")
    if has_text.any() and (has_text | ~has_number).all():
        told = asked or next((one for one in TEXTS if one in scan.seen), told)
        words = scan.words.texts()
        if not (has_text & has_number).any():
            return *labels_of_words(words, texts, known, what), told
        return *_named_numbers(scan, texts, known, what), told
    if not has_number.any():
        return np.full(len(numbers), -1), None if known is None else tuple(known), ""
    distinct, places = np.unique(np.where(has_number, numbers, 0), return_inverse=True)
    labels, names = labels_of_words(
        [str(one) for one in distinct.tolist()], np.where(has_number, places, -1), known, what
    )
    if nameless := int((has_number & ~has_text).sum()) if has_text.any() else 0:
        beside = next((one for one in TEXTS if one in scan.seen), "text")
        told += f" ({beside} is left out: {plural(nameless, 'record')} of labels without a text)"
    return labels, names, told


def _completed(numbers: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """The texts, where they are missing those that other records have beside the same number."""
    both = (numbers != _NONE) & (texts >= 0)
    known, first = np.unique(numbers[both], return_index=True)
    if not len(known):
        return texts
    place = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    found = (texts < 0) & (known[place] == numbers)
    return np.where(found, texts[both][first][place], texts)


def _named_numbers(
    scan: _Scan, texts: np.ndarray, known: Sequence[str] | None, what: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The labels and class names of numbers with texts beside them; each number has one text.

    Two numbers may have one text: of ImageNet's classes two are called "crane".
    """
    numbers = np.frombuffer(scan.numbers, np.int64)
    both, words = (texts >= 0) & (numbers != _NONE), scan.words.texts()
    pairs = np.unique(np.stack([numbers[both], texts[both]]), axis=1)
    distinct, counts = np.unique(pairs[0], return_counts=True)
    if (counts > 1).any():
        number = int(distinct[counts > 1][0])
        named = [words[text] for text in pairs[1][pairs[0] == number].tolist()]
        raise ImagesError(
            f"{what}: label {number} is called {', '.join(map(repr, named[:4]))} in different records; "
            "expected one name. Name the feature to use with --label-column (label_column= in Python)."
        )
    if len(np.unique(pairs[1])) == len(distinct):
        return labels_of_words(words, texts, known or [words[text] for text in pairs[1]], what)
    named = [words[text] for text in pairs[1].tolist()]
    times = Counter(named)
    once = {text: place for place, text in enumerate(named) if times[text] == 1}
    if known is not None and (
        len(known) != len(named)
        or any(known.index(text) != place for text, place in once.items() if text in known)
    ):
        raise ImagesError(
            f"{what}: some of {len(named):,} labels have the same name, so they do not tell which label is "
            f"which of {len(known):,} classes. Name the feature of the numbers with --label-column "
            "(label_column= in Python)."
        )
    labels = np.where(numbers == _NONE, -1, np.searchsorted(distinct, numbers))
    unique = [
        text if text in once else f"{text} ({number})"
        for text, number in zip(named, distinct.tolist(), strict=True)
    ]
    return labels, tuple(known or unique)


def _broken(file: ByteFile, offset: int, why: str) -> ImagesError:
    return ImagesError(
        f"{file.name} cannot be read ({why}, at byte {offset:,}); expected sound TFRecords. Make it or fetch "
        "it again."
    )
