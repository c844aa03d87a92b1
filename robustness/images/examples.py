"""Reads `tf.train.Example` without TensorFlow: features by name, with their single value.

References
----------
TensorFlow, core/example/example.proto and feature.proto. Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum

MAX_FEATURES = 1000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Several(Enum):
    """Stands for the values of a feature that has more than one."""

    VALUES = "several values"


Value = bytes | int | float | Several | None
"""The value of a feature; None for none, `Several.VALUES` for more than one."""


def single_values(data: bytes) -> dict[str, Value]:
    """Return the value of each feature of a serialized Example.

    Raises
    ------
    ValueError
        It is no sound Example, has too many features, or one of them twice.
    """
    view = memoryview(data)
    values: dict[str, Value] = {}
    for number, part in _numbered_parts(view):
        if number != 1 or not isinstance(part, memoryview):
            continue
        for inner, entry in _numbered_parts(part):
            if inner != 1 or not isinstance(entry, memoryview):
                continue
            name, value = _entry(entry)
            if name in values:
                raise ValueError(f"it holds the feature {name[:80]!r} twice")
            values[name] = value
            if len(values) > MAX_FEATURES:
                raise ValueError(f"it holds more than {MAX_FEATURES:,} features")
    return values


def _entry(entry: memoryview) -> tuple[str, Value]:
    """The name and the first value of an entry of the map of features."""
    name, value = "", None
    for number, part in _numbered_parts(entry):
        if number == 1 and isinstance(part, memoryview):
            name = bytes(part).decode("utf-8")
        elif number == 2 and isinstance(part, memoryview):
            value = _feature(part)
    return name, value


def _feature(feature: memoryview) -> Value:
    found: Value = None
    for kind, values in _numbered_parts(feature):
        if not isinstance(values, memoryview):
            continue
        for number, part in _numbered_parts(values):
            value = _value(kind, part) if number == 1 else None
            if value is not None and found is not None:
                return Several.VALUES
            found = found if value is None else value
    return found


def _value(kind: int, part: memoryview | int) -> Value:
    """The value in a part of a list of bytes (1), floats (2) or whole numbers (3)."""
    if kind == 1 and isinstance(part, memoryview):
        return bytes(part)
    if kind == 2 and isinstance(part, memoryview) and len(part) >= 4:
        return float(struct.unpack("<f", part[:4])[0]) if len(part) == 4 else Several.VALUES
    if kind != 3 or (isinstance(part, memoryview) and not part):
        return None
    value, end = _varint(part, 0) if isinstance(part, memoryview) else (part, 0)
    if isinstance(part, memoryview) and end < len(part):
        return Several.VALUES
    return value - (1 << 64) if value >= 1 << 63 else value


def _numbered_parts(view: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The numbers and values of the fields of a message."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(view, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(view, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("it holds a field of an unknown kind")
        if at + size > len(view):
            raise ValueError("it ends within a field")
        yield number, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise ValueError("it ends within a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
    raise ValueError("it holds a number of more than ten bytes")
