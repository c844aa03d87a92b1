"""Reads from its annotation what a preprocessing function takes: bytes, a PIL image, or an array."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from robustness.errors import SettingError

BYTES, PIL, ARRAY = "bytes", "pil", "array"
TAKES = (BYTES, PIL, ARRAY)
"""The content of the file; `PIL.Image.Image`; uint8 (height, width, channels)."""
_TYPES: dict[type, str] = {bytes: BYTES, Image.Image: PIL, np.ndarray: ARRAY}
_WORDS = {
    re.compile(r"\bbytes\b"): BYTES,
    re.compile(r"\bImage\b"): PIL,
    re.compile(r"\b(ndarray|NDArray)\b"): ARRAY,
}


def takes_of(function: Callable[..., Any], text: str) -> str | None:
    """Return what the first parameter is annotated with, one of `TAKES`; None if it says none of these.

    Raises
    ------
    SettingError
        The function cannot be called with one picture.
    """
    parameter = _first_parameter(function, text)
    if parameter is None or parameter.annotation is parameter.empty:
        return None
    kinds = _kinds(parameter.annotation)
    return kinds.pop() if len(kinds) == 1 else None


def _first_parameter(function: Callable[..., Any], text: str) -> inspect.Parameter | None:
    """The first parameter; None for a function that cannot be inspected."""
    try:
        signature = _signature(function)
    except (TypeError, ValueError):  # compiled code
        return None
    try:
        signature.bind(None)
    except TypeError as error:
        raise SettingError(
            f"{text} cannot be called with one picture: {error}; its parameters are {signature}. Expected a "
            "function of one picture; further parameters need a default."
        ) from None
    return next(iter(signature.parameters.values()))


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature with its annotations evaluated, as far as their names exist."""
    try:
        return inspect.signature(function, eval_str=True)
    except (TypeError, ValueError):
        raise
    except Exception:  # names that only a type checker imports
        return inspect.signature(function)


def _kinds(annotation: Any) -> set[str]:
    if isinstance(annotation, str):
        return {kind for word, kind in _WORDS.items() if word.search(annotation)}
    if annotation is Image:  # the module, which is often written for its class
        return {PIL}
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return {kind for one in typing.get_args(annotation) for kind in _kinds(one)}
    kind = origin or annotation
    if not isinstance(kind, type):
        return set()
    return {name for known, name in _TYPES.items() if issubclass(kind, known)}
