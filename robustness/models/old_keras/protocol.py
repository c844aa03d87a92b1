"""Messages between two processes: a line of JSON, then the bytes of arrays, within limits."""

from __future__ import annotations

import json
import math
from typing import IO, Any

import numpy as np

MAX_LINE = 1 << 20
MAX_AXES = 5
MAX_BYTES = 4 << 30
"""Largest sum of the arrays of one message, in bytes."""
_DTYPES = ("float32", "float64", "uint8", "int32", "int64")


class BrokenMessageError(Exception):
    """The other process ended, or has sent something else than a message."""


def send(stream: IO[bytes], head: dict[str, Any], *arrays: np.ndarray) -> None:
    """Write a message.

    Parameters
    ----------
    stream : of the pipe.
    head : JSON values.
    arrays : numbers of the dtypes float32, float64, uint8, int32 or int64.
    """
    plain = [np.ascontiguousarray(array) for array in arrays]
    shapes = [[str(array.dtype), *array.shape] for array in plain]
    stream.write(json.dumps(head | {"arrays": shapes}).encode() + b"\n")
    for array in plain:
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read a message: its JSON values and its arrays.

    Raises
    ------
    BrokenMessageError
        The stream has ended, or its content is no message within the limits.
    """
    line = stream.readline(MAX_LINE)
    try:
        head = json.loads(line)
        shapes = head.pop("arrays")
        kinds = [(str(dtype), tuple(map(int, shape))) for dtype, *shape in shapes]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenMessageError("no message") from error
    total = 0
    for dtype, shape in kinds:
        if dtype not in _DTYPES or len(shape) > MAX_AXES or any(n < 0 for n in shape):
            raise BrokenMessageError("an array of another kind")
        total += math.prod(shape) * np.dtype(dtype).itemsize
    if total > MAX_BYTES:
        raise BrokenMessageError(f"{total:,} bytes of arrays")
    return head, [_array(stream, dtype, shape) for dtype, shape in kinds]


def _array(stream: IO[bytes], dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    data = stream.read(size)
    if len(data) < size:
        raise BrokenMessageError("the end of the stream")
    return np.frombuffer(data, dtype).reshape(shape)
