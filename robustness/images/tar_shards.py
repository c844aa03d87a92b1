"""Opens tar files of pictures where they lie: one, a folder of shards, or a numbered range (WebDataset).

One pass over the headers makes an index of offsets; after that every picture is read at its place. Members
called alike up to the first dot of the file name are one sample: `x.jpg` with its class in `x.cls`, or in
`x.json`. Without such members the class is the folder of a picture, as in a zip archive.

References
----------
WebDataset, https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from robustness.errors import ImagesError
from robustness.files.bounded import parse_json
from robustness.files.places import ByteFile
from robustness.images import archives, csv_columns, folders
from robustness.images.compact import TOO_LARGE, CompactSource, Listing, described, labels_of_words
from robustness.images.decode import SUFFIXES
from robustness.images.entries import key_of
from robustness.images.labels import Labelling, by_path
from robustness.images.picture_index import MAX_INDEXED, Index, Words, unique_names
from robustness.images.png import MAX_BYTES
from robustness.images.shards import expect_no_page, in_turn
from robustness.images.tar_index import MAX_MEMBERS, Blocks, Member, members
from robustness.text import plural

MAX_LABEL = 1 << 16
"""The largest member with a label in bytes."""
_LONGEST = 1000
"""The most characters of a label that are kept."""
_SEVERAL = "Its sample holds several pictures, and which of them is the image is not clear."
_TWO_LABELS = "Its sample holds several labels, and which of them is its class is not clear."
_ASK = "say which with --label-column NAME (label_column= in Python); none for no labels"


@dataclass
class _Scan:
    """What one pass over the shards has found."""

    asked: str | None
    index: Index = field(default_factory=Index)
    samples: array[int] = field(default_factory=lambda: array("q"))
    """The hash of the sample of each picture."""
    plain: array[int] = field(default_factory=lambda: array("B"))
    """Whether the suffix of each picture is a single one, as in `x.jpg`."""
    words: Words = field(default_factory=Words)
    labelled: dict[str, tuple[array[int], array[int]]] = field(default_factory=dict)
    """By suffix: the hashes of samples, and the numbers of their labels."""
    keys: Counter[str] = field(default_factory=Counter)
    """The JSON keys that may be the label."""
    others: int = 0
    unread: int = 0
    """Members with labels that could not be read."""
    dotted: str = ""
    """A member such as `a.1.cls`, which is no label of `a.1.jpg`: names of samples end at the first dot."""


def open_shards(
    files: Sequence[ByteFile], what: str, known: Sequence[str] | None, label_column: str | None
) -> CompactSource:
    """Open tar files as one source.

    Parameters
    ----------
    files : the tar files, in the order of their names.
    what : what they are, for the report.
    known : the class names; None if they are not known.
    label_column : the suffix of the members with the labels (`cls`, `txt`), or the key in the `.json`
        members; "none" for no labels; None to find it.

    Raises
    ------
    ImagesError
        A file cannot be read as a whole, there are no pictures or too many, or a label is not a class.
    """
    scan, total = _Scan(label_column), 0
    for number, file in enumerate(in_turn(files)):
        blocks = Blocks(file)
        expect_no_page(file, blocks.get(0, 64, file.chunk))
        for member in members(file, blocks):
            total += 1
            if total > MAX_MEMBERS or len(scan.index) > MAX_INDEXED:
                raise ImagesError(
                    f"{what} holds more than {MAX_INDEXED:,} pictures or {MAX_MEMBERS:,} files, the most "
                    "that are read."
                )
            _see(scan, number, member, blocks)
    if not len(scan.index):
        some = f" ({plural(scan.others, 'other file')} skipped)" if scan.others else ""
        raise ImagesError(
            f"{what} holds no pictures{some}; expected PNG, JPEG, BMP, WebP, GIF or TIFF files."
        )
    return _source(scan, files, what, known)


def _see(scan: _Scan, number: int, member: Member, blocks: Blocks) -> None:
    """Take note of one member."""
    path = member.name.replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    if member.is_folder or any(folders.hidden(part) for part in path.split("/") if part != ".."):
        return
    around, slash, base = path.rpartition("/")
    first, dot, suffix = base.partition(".")
    sample = hash((number, around + slash + first))
    if dot and f".{suffix.rpartition('.')[2].lower()}" in SUFFIXES:
        scan.index.add(path, number, member.offset, member.size, _fault(member, path))
        scan.samples.append(sample)
        scan.plain.append("." not in suffix)
    elif dot and member.regular and not member.sparse and (kind := _label_kind(scan, suffix)):
        try:
            if member.size > MAX_LABEL:
                raise ValueError("too large")
            word = _word(scan, blocks.get(member.offset, member.size), kind)
        except ValueError:
            scan.unread += 1
            return
        if word:
            hashes, numbers = scan.labelled.setdefault(kind, (array("q"), array("q")))
            hashes.append(sample)
            numbers.append(scan.words.number(word[:_LONGEST]))
    else:
        scan.others += 1
        if suffix.lower().endswith(".cls"):
            scan.dotted = scan.dotted or key_of(base[:100])


def _fault(member: Member, path: str) -> str:
    if named := archives.name_fault(path):
        return named
    if member.sparse:
        return "It is a file with holes in the archive, which is not read."
    if not member.regular:
        return archives.NO_FILE
    return TOO_LARGE if member.size > MAX_BYTES else ""


def _label_kind(scan: _Scan, suffix: str) -> str:
    """The suffix if a member with it may hold labels; "" if not."""
    suffix = suffix.lower()
    if scan.asked is None:
        return suffix if suffix in ("cls", "json") else ""
    if scan.asked.casefold() == csv_columns.NONE:
        return ""
    return suffix if suffix in ("json", scan.asked.lower().lstrip(".")) else ""


def _word(scan: _Scan, data: bytes, kind: str) -> str:
    """The label in a member; "" if it holds none. ValueError if it cannot be read."""
    text = data.decode("utf-8-sig")
    if kind != "json":
        return _one_label(text.strip())
    table = parse_json(text, max_bytes=MAX_LABEL)
    if not isinstance(table, dict):
        return ""
    if scan.asked is not None:
        value = table.get(scan.asked)
    else:
        keys = [key for key in table if csv_columns.is_one(str(key), csv_columns.LABELS)]
        for key in keys[:8]:
            if len(scan.keys) < 64:
                scan.keys[str(key)[:80]] += 1
        value = table.get("label", table[keys[0]] if keys else None)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("no number and no name")  # noqa: TRY004 - a member that cannot be read
    return _one_label(str(value).strip())


def _one_label(text: str) -> str:
    """A label; ValueError for binary data, several lines and several numbers."""
    parts = text.split()
    if any(ord(letter) < 32 for letter in text) or (
        len(parts) > 1 and all(part.isdecimal() for part in parts)
    ):
        raise ValueError("no single label")
    return text


def _source(
    scan: _Scan, files: Sequence[ByteFile], what: str, known: Sequence[str] | None
) -> CompactSource:
    count, notes = len(scan.index), [f"{plural(len(files), 'file')}"] * (len(files) > 1)
    samples = np.frombuffer(scan.samples, np.int64).copy()
    words, kind = _joined(scan, samples)
    keep = np.ones(count, bool)
    table, left_out = None, 0
    if kind:
        notes.append(f"labels of {kind}")
        keep = _one_each(scan, samples, words >= 0)
        if dropped := int((~keep).sum()):
            notes.append(f"{plural(dropped, 'other picture')} of the same samples skipped")
    unique_names(scan.index, files, archives.TWICE)
    if kind:
        labels, names = labels_of_words(scan.words.texts(), words, known, what)
    elif scan.asked is not None:
        if scan.asked.casefold() != csv_columns.NONE:
            raise ImagesError(
                f"{what} holds no label called {scan.asked!r}; expected members x.{scan.asked} beside x.jpg, "
                f"or that key in x.json."
            )
        labels, names = np.full(count, -1), None if known is None else tuple(known)
    else:
        labelling = _by_folders(scan.index, known)
        labels = np.array([-1 if label is None else label for label in labelling.labels])
        names, table = labelling.class_names, labelling.table
        keep[list(labelling.left_out)] = False
        left_out = len(labelling.left_out)
    if scan.unread:
        notes.append(f"{plural(scan.unread, 'label')} could not be read")
    if scan.dotted:
        notes.append(
            f"files such as {scan.dotted} hold no label, as a sample's name ends at its first dot"
        )
    if scan.others:
        notes.append(f"{plural(scan.others, 'other file')} skipped")
    labels = labels[keep]
    told = described(what, labels, notes, left_out)
    return CompactSource(Listing(told, names, scan.index.kept(keep), labels, table), files)


def _joined(scan: _Scan, samples: np.ndarray) -> tuple[np.ndarray, str]:
    """The number of the label of each picture, -1 for none; and where the labels are, "" for nowhere."""
    words, kinds = np.full(len(samples), -1), []
    # A member of its own that is called by the class has precedence over a key in a JSON.
    for kind in sorted(scan.labelled, key=lambda one: one == "json"):
        hashes, numbers = (np.frombuffer(one, np.int64) for one in scan.labelled[kind])
        order = np.argsort(hashes, kind="stable")
        hashes, numbers = hashes[order], numbers[order]
        place = np.searchsorted(hashes, samples)
        place = np.minimum(place, len(order) - 1)
        found = (hashes[place] == samples) & (words < 0)
        if not found.any():
            continue
        words[found] = numbers[place][found]
        for picture in np.flatnonzero(found & np.isin(samples, _in_doubt(hashes, numbers))):
            scan.index.blame(int(picture), _TWO_LABELS)
        kinds.append(f".{kind}" if kind != "json" else f"{_json_key(scan)} in .json")
    return words, " and ".join(kinds)


def _in_doubt(hashes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The samples that have different labels, of labels sorted by sample."""
    return hashes[1:][(hashes[1:] == hashes[:-1]) & (numbers[1:] != numbers[:-1])]


def _json_key(scan: _Scan) -> str:
    """The key of the labels in JSON members; ImagesError if several may be it."""
    if scan.asked is not None:
        return scan.asked
    if "label" not in scan.keys and len(scan.keys) > 1:
        shown = ", ".join(sorted(key_of(key) for key in scan.keys))
        raise ImagesError(
            f"The .json members hold {shown}, each of which may be the label; {_ASK}."
        )
    return "label" if "label" in scan.keys else next(iter(scan.keys))


def _one_each(scan: _Scan, samples: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Which pictures are the images of their samples; of `x.jpg` and `x.seg.png` it is the first."""
    keep = np.ones(len(samples), bool)
    _, inverse, counts = np.unique(samples, return_inverse=True, return_counts=True)
    plain = np.frombuffer(scan.plain, np.uint8).astype(bool)
    singles = np.bincount(inverse[plain], minlength=len(counts))
    several = (counts > 1)[inverse] & labelled
    clear = (singles == 1)[inverse]
    keep[several & clear & ~plain] = False
    for number in np.flatnonzero(several & ~clear).tolist():
        scan.index.blame(number, _SEVERAL)
    return keep


def _by_folders(index: Index, known: Sequence[str] | None) -> Labelling:
    """Labels by folder; pictures that are not read have none and define no class."""
    sound = [number for number in range(len(index)) if not index.fault[number]]
    inside = by_path([key_of(index.name(number)) for number in sound], known, archive=True)
    labels: list[int | None] = [None] * len(index)
    for number, label in zip(sound, inside.labels, strict=True):
        labels[number] = label
    out = frozenset(sound[number] for number in inside.left_out)
    return Labelling(inside.class_names, labels, inside.around, inside.table, out)
