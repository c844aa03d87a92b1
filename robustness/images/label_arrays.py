"""Converts arrays of labels (class numbers, class names or one-hot rows) into class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robustness.errors import ImagesError
from robustness.images.labels import Labelling, brief, by_number, by_word

_EXPECTED = "expected a class number or name for each image, or a one-hot row"


def by_array(labels: Any, count: int, known: Sequence[str] | None) -> Labelling:
    """Convert an array or list of labels into class indices.

    Parameters
    ----------
    labels : array_like
        (count,) or (count, 1) class numbers from 0 (integers, booleans, whole floats) or class names (text
        or bytes); or (count, classes) with a single 1 in each row. None, NaN and masked values are images
        without label.
    count : int
        The number of images.
    known : sequence of str or None
        The class names; None if they are not known.

    Raises
    ------
    ImagesError
        The labels have another form; the message shows the values found.
    """
    values = _flat(labels, count, known)
    missing = [_is_missing(value) for value in values]
    told = [value for value, gap in zip(values, missing, strict=True) if not gap]
    words = [isinstance(value, (str, bytes)) for value in told]
    if any(words) and not all(words):
        raise ImagesError(
            f"the labels mix names and numbers ({_few(told)}); {_EXPECTED}, all of one kind"
        )
    if told and all(words):
        return by_word(
            ["" if gap else _text(v) for v, gap in zip(values, missing, strict=True)], known
        )
    numbers = [None if gap else _whole(v) for v, gap in zip(values, missing, strict=True)]
    return by_number(numbers, known)


def _flat(labels: Any, count: int, known: Sequence[str] | None) -> list[Any]:
    """One value for each image."""
    try:
        array = labels if isinstance(labels, np.ma.MaskedArray) else np.asarray(labels)
    except ValueError as error:
        raise ImagesError(f"the labels are no array ({error}); {_EXPECTED}") from error
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.shape == (count,):
        return list(array.tolist())
    if array.ndim == 2 and len(array) == count and array.dtype.kind in "biuf":
        return _hot(np.ma.getdata(array), known)
    raise ImagesError(
        f"the labels have the shape {array.shape} and the type {array.dtype}; {_EXPECTED}: "
        f"({count},), ({count}, 1) or ({count}, classes)"
    )


def _hot(rows: np.ndarray, known: Sequence[str] | None) -> list[Any]:
    """The index of the 1 in each row."""
    wrong = ~(np.isin(rows, (0, 1)).all(axis=1) & (rows.sum(axis=1) == 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ImagesError(
            f"the labels have the shape {rows.shape}, but {int(wrong.sum())} rows are not one-hot (row "
            f"{first} is {_few(rows[first].tolist())}); expected a single 1 and else 0 in each. Of "
            "probabilities take np.argmax(labels, axis=1)"
        )
    if known is not None and rows.shape[1] != len(known):
        raise ImagesError(
            f"the one-hot labels have {rows.shape[1]} columns; expected {len(known)}, one for each of "
            f"the classes {', '.join(known)}. np.argmax(labels, axis=1) turns rows into numbers"
        )
    return list(rows.argmax(axis=1).tolist())


def _is_missing(value: Any) -> bool:
    """True for None, NaN, pandas' NA and NaT, and masked values."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, float) and value != value  # noqa: PLR0124


def _text(value: str | bytes) -> str:
    try:
        return (value.decode("utf-8") if isinstance(value, bytes) else value).strip()
    except UnicodeDecodeError as error:
        raise ImagesError(
            f"the label {brief(_shown(value))} is no text in UTF-8; {_EXPECTED}"
        ) from error


def _whole(value: Any) -> int:
    """A class number; bools are 0 and 1."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise ImagesError(f"the label {brief(_shown(value))} is no whole number; {_EXPECTED}")


def _shown(value: Any) -> object:
    return value if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _few(values: Sequence[Any], most: int = 6) -> str:
    shown = ", ".join(brief(_shown(value)) for value in values[:most])
    return shown + (", ..." if len(values) > most else "")
