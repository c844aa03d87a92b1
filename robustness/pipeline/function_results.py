"""Makes a model's input of what a preprocessing function returns, or says why it is none."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from robustness.errors import PipelineError
from robustness.pipeline.decoders import first_line
from robustness.pipeline.preprocessing import ImageShape
from robustness.text import plural

_EXPECTED = "an array or tensor, the input of the model"


def model_input(
    result: Any, shape: ImageShape, said: str, *, channels_first: bool = False
) -> np.ndarray:
    """Return a copy of a function's result as the model's input for one picture.

    Parameters
    ----------
    result : NumPy array, or tensor of any framework; a batch axis of 1 may stand before it.
    shape : (height, width, channels) of the model's images.
    said : the function and the picture, the beginning of a sentence.
    channels_first : whether the model takes, and the function returns, (channels, height, width).

    Returns
    -------
    `shape`, uint8 where the result is uint8, else float32.

    Raises
    ------
    PipelineError
        The result is of another kind or shape, or has numbers that are not finite.
    """
    array = _array(result, said)
    wanted = (shape[2], *shape[:2]) if channels_first else shape
    allowed = [wanted, (1, *wanted)]
    if shape[2] == 1:
        allowed.append(shape[:2])
    if array.shape not in allowed:
        raise PipelineError(
            f"{said} returned shape {array.shape}; the model takes {wanted}, with or without a batch axis of "
            f"1 before it.{_shape_advice(array.shape, shape, channels_first)}"
        )
    array = array.reshape(wanted)
    if channels_first:
        array = np.moveaxis(array, 0, -1)
    array = np.array(array, np.uint8 if array.dtype == np.uint8 else np.float32, order="C")
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise PipelineError(
            f"{said} returned {plural(bad, 'number')} of {array.size:,} that are NaN or infinite; expected "
            "finite numbers. A division by a standard deviation of 0 is a usual cause."
        )
    return array


def _shape_advice(got: tuple[int, ...], shape: ImageShape, channels_first: bool) -> str:
    first, last = (shape[2], *shape[:2]), shape
    other = last if channels_first else first
    if got in (other, (1, *other)):
        order = "last" if channels_first else "first"
        return f" Its channels are {order}, those of the model are not: transpose the result."
    if len(got) == 4 and got[0] != 1:
        return " Return the input for one picture."
    return ""


def _array(result: Any, said: str) -> np.ndarray:
    """The numbers of a result, still of its own type."""
    if result is None:
        raise PipelineError(f"{said} returned None; expected {_EXPECTED}. Does a `return` lack?")
    if isinstance(result, (Image.Image, list, tuple, dict, str, bytes)):
        kind = "a PIL image" if isinstance(result, Image.Image) else type(result).__name__
        raise PipelineError(
            f"{said} returned {kind}; expected {_EXPECTED}. np.asarray(...) makes an array of images and of "
            "lists of numbers."
        )
    try:
        tensor = result.detach().cpu() if hasattr(result, "detach") else result
        values = tensor.numpy() if callable(getattr(tensor, "numpy", None)) else tensor
        if not hasattr(values, "__array__"):
            raise TypeError("it is no array")
        array = np.asarray(values)
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
    except Exception as error:  # tensors of frameworks raise many types
        raise PipelineError(
            f"{said} returned {type(result).__name__}, which gives no array ({first_line(error)}); expected "
            f"{_EXPECTED}."
        ) from error
    if array.dtype.kind not in "fui":
        raise PipelineError(
            f"{said} returned numbers of the type {array.dtype}; expected float32 or uint8."
        )
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):  # too large for float32: told as infinite
            array = array.astype(np.float32)
    return array
