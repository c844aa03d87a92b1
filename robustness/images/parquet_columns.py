"""Finds the columns of pictures, names and labels in the schema of a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.errors import ImagesError
from robustness.files.bounded import parse_json
from robustness.images import csv_columns
from robustness.images.compact import labels_of_words

MAX_FOOTER = 256 << 20
"""The largest description of a file's columns and row groups in bytes."""
_NO_LABEL = {"", "-1", "-1.0", "nan"}


@dataclass(frozen=True)
class Columns:
    """Which columns hold pictures, names and labels, and the class names that the file states."""

    image: str
    nested: bool
    """Whether the column of pictures has the parts `bytes` and perhaps `path`."""
    path: bool
    label: str
    class_names: tuple[str, ...] | None

    @property
    def leaf(self) -> str:
        """What the picture files are called in the file."""
        return f"{self.image}.bytes" if self.nested else self.image


def find_columns(name: str, table: Any, asked: str | None) -> Columns:
    """Find the columns, by Hugging Face's description in the schema, by their types, and by their names."""
    schema = table.schema_arrow
    features = _features(schema)
    typed = [f.name for f in schema if _holds_pictures(f.type)]
    marked = [n for n in typed if features.get(n, {}).get("_type") == "Image"]
    known = [n for n in typed if csv_columns.is_one(n, csv_columns.PATHS)]
    images = next((some for some in (marked, typed, known) if len(some) == 1), [])
    held = f"{name} has the columns {', '.join(schema.names[:20])}"
    if not images:
        number = "several" if len(typed) > 1 else "none"
        raise ImagesError(
            f"{held}, and {number} of them may hold the pictures; expected one of bytes, or of bytes and "
            "path, such as `image`."
        )
    image = images[0]
    kind = schema.field(image).type
    inner = {kind.field(n).name for n in range(kind.num_fields)}
    if schema.names.count(image) > 1:
        raise ImagesError(f"{held}; expected a single column called {image}.")
    label = _label(held, schema, features, asked, image)
    stated = features.get(label, {})
    if label:
        _expect_plain_labels(held, schema, label)
    names = stated.get("names") if stated.get("_type") == "ClassLabel" else None
    if isinstance(names, dict) and set(names) == set(map(str, range(len(names)))):
        names = [names[str(number)] for number in range(len(names))]  # of old versions
    classes = tuple(map(str, names)) if isinstance(names, list) and names else None
    return Columns(image, bool(inner), "path" in inner, label, classes)


def _expect_plain_labels(held: str, schema: Any, label: str) -> None:
    """ImagesError unless a column holds one number or text in each row."""
    import pyarrow.types as types  # noqa: PLC0415, PLR0402 - an extra

    if schema.names.count(label) > 1:
        raise ImagesError(f"{held}; expected a single column called {label}.")
    kind = schema.field(label).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_nested(kind) or types.is_temporal(kind):
        raise ImagesError(
            f"{held}; {label} holds {kind} in each row, and expected is one number or name. Name another "
            "column with --label-column (label_column= in Python); none for no labels."
        )


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What Hugging Face's description in the schema says about each column."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        found = parse_json(text, max_bytes=MAX_FOOTER).get("info", {}).get("features", {})
        return {str(k): v for k, v in found.items() if isinstance(v, dict)}
    except (ValueError, AttributeError):
        return {}


def _holds_pictures(kind: Any) -> bool:
    import pyarrow.types as types  # noqa: PLC0415, PLR0402 - an extra

    def binary(one: Any) -> bool:
        one = one.value_type if types.is_dictionary(one) else one
        kinds = ("is_binary", "is_large_binary", "is_fixed_size_binary", "is_binary_view")
        return any(getattr(types, kind, lambda _: False)(one) for kind in kinds)

    if not types.is_struct(kind):
        return binary(kind)
    inner = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
    return "bytes" in inner and binary(inner["bytes"])


def _label(
    held: str, schema: Any, features: dict[str, dict[str, Any]], asked: str | None, image: str
) -> str:
    """The column of labels; "" for none. ImagesError if it is not clear."""
    others = [name for name in schema.names if name != image]
    if asked is not None:
        if asked.casefold() == csv_columns.NONE:
            return ""
        if asked not in others:
            raise ImagesError(f"{held}; expected the label column {asked!r} to be one of them.")
        return asked
    marked = [name for name in others if features.get(name, {}).get("_type") == "ClassLabel"]
    known = [name for name in others if csv_columns.is_one(name, csv_columns.LABELS)]
    for some in (["label"] if "label" in others else [], marked, known):
        if len(some) == 1:
            return some[0]
    if len(marked) > 1 or len(known) > 1:
        raise ImagesError(
            f"{held}; {', '.join(marked or known)} may each be the label. Say which: --label-column NAME on "
            "the command line, label_column=NAME in Python."
        )
    return ""


def class_labels(
    what: str,
    texts: list[str],
    words: np.ndarray,
    names: tuple[str, ...],
    known: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels of numbers whose names the schema states; -1 is no label, as in Hugging Face's test splits."""
    numbers = [_number(text, names) for text in texts]
    wrong = [
        t for t, n in zip(texts, numbers, strict=True) if n is None or not -1 <= n < len(names)
    ]
    if wrong:
        raise ImagesError(
            f"{what}: label {wrong[0][:60]!r} is not a class; expected a number from 0 to {len(names) - 1}, "
            "or a name, as the schema states."
        )
    of_text = np.array([-1 if n is None or n < 0 else n for n in numbers] + [-1])
    labels = of_text[words]
    if known is None or tuple(known) == names:
        return labels, names
    return labels_of_words(names, labels, known, what)


def _number(text: str, names: tuple[str, ...]) -> int | None:
    """The number of a class that is stated as a number or by its name; -1 for no label."""
    if text in names:
        return names.index(text)
    if text.casefold() in _NO_LABEL:
        return -1
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
