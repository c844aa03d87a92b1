"""Checks the structure and declared sizes of an untrusted HDF5 file before its arrays are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from robustness.models.scan.config_safety import MAX_OBJECTS, quote

MAX_DATASET_BYTES = 4 << 30
MAX_EXPANSION = 64
EXPANSION_FLOOR_BYTES = 64 << 20
MAX_ATTRIBUTE_BYTES = 64 << 20
MAX_ATTRIBUTES = 1_000_000
# For any other filter HDF5 loads a plug-in library.
_H5_FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # gzip, shuffle, fletcher32, szip, nbit, scaleoffset, lzf


@dataclass
class H5Facts:
    """Declared content of an HDF5 file.

    Attributes
    ----------
    findings : reasons not to read the file.
    declared : size of all arrays in bytes.
    numbers : number of elements of all arrays.
    words : whether the attributes of the file are safe to read.
    """

    findings: list[str] = field(default_factory=list)
    declared: int = 0
    numbers: int = 0
    words: bool = True


def h5_facts(file: Any, size: int) -> H5Facts:
    """Check an open `h5py.File` for links, external storage and arrays that declare too much.

    Each link is checked before it is followed, and only hard links are followed. No array is read.

    Parameters
    ----------
    file : the open file.
    size : size of the file in bytes.
    """
    import h5py  # noqa: PLC0415 - keeps scans without an HDF5 file fast

    facts = H5Facts(_attribute_findings(file, "the file"))
    facts.words = not facts.findings
    seen: set[int] = set()
    pending = [file]
    while pending and len(facts.findings) < MAX_OBJECTS:
        group = pending.pop()
        for key in group:
            link = group.get(key, getlink=True)
            place = f"entry {quote(f'{group.name}/{key}')}"
            if not isinstance(link, h5py.HardLink):
                facts.findings.append(
                    f"{place} is a {type(link).__name__}, which points somewhere else"
                )
                continue
            member = group[key]
            identity = h5py.h5o.get_info(member.id).addr
            if identity in seen:
                continue
            seen.add(identity)
            if len(seen) > MAX_OBJECTS:
                facts.findings.append(f"the file holds more than {MAX_OBJECTS} entries")
                return facts
            facts.findings += _attribute_findings(member, place)
            if isinstance(member, h5py.Group):
                pending.append(member)
            elif isinstance(member, h5py.Dataset):
                facts.findings += _dataset_findings(member, place)
                facts.declared += _declared_bytes(member)
                facts.numbers += int(member.size or 0)
    if facts.declared > EXPANSION_FLOOR_BYTES and facts.declared > MAX_EXPANSION * size:
        facts.findings.append(
            f"the arrays claim {_size(facts.declared)} in a file of {_size(size)}, "
            f"more than {MAX_EXPANSION} times its size"
        )
    return facts


def _attribute_findings(member: Any, place: str) -> list[str]:
    """Findings for attributes that are larger or more numerous than those of Keras."""
    return list(_attributes_at_fault(member, place))


def _attributes_at_fault(member: Any, place: str) -> Iterator[str]:
    for count, name in enumerate(member.attrs):
        if count >= MAX_ATTRIBUTES:
            yield f"{place} has more than {MAX_ATTRIBUTES} attributes"
            return
        told = member.attrs.get_id(name)
        claimed = math.prod(told.shape or ()) * told.dtype.itemsize
        if claimed > MAX_ATTRIBUTE_BYTES:
            yield (
                f"{place} has an attribute {quote(name)} that claims {_size(claimed)}; at most "
                f"{_size(MAX_ATTRIBUTE_BYTES)} are read"
            )


def _dataset_findings(dataset: Any, place: str) -> list[str]:
    if dataset.external:
        return [f"{place} keeps its numbers in another file: {quote(dataset.external[0][0])}"]
    if dataset.is_virtual:
        return [f"{place} is a virtual dataset, which reads other files"]
    found = []
    if dataset.dtype.kind == "O":
        found.append(f"{place} holds {dataset.dtype} values, not numbers")
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if unknown := [number for number in filters if number not in _H5_FILTERS]:
        found.append(f"{place} needs the HDF5 plug-in {unknown[0]}")
    if (declared := _declared_bytes(dataset)) > MAX_DATASET_BYTES:
        most = _size(MAX_DATASET_BYTES)
        found.append(f"{place} claims {_size(declared)}; at most {most} is read")
    return found


def _declared_bytes(dataset: Any) -> int:
    """Bytes of the array or of one chunk, if larger: reading any part of a chunk unpacks all of it."""
    numbers = max(int(dataset.size or 0), math.prod(dataset.chunks or (0,)))
    return numbers * int(dataset.dtype.itemsize)


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
