"""Finds out whether a model scales its inputs itself, from its first layers or by probing what it computes.

A model that divides counts by 255 inside takes counts, however it does so: by Rescaling or Normalization, by
arithmetic in its graph (``x / 255``), by a Lambda layer, in `call` of a subclass, or in a nested model. So
the numbers that arrive at the first layer with weights are looked at, for images of one brightness each.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness.backend import _private
from robustness.models.layers import entry_dtype, is_whole, leaves

WIDE = 32.0
"""The variance of counts is larger; that of inputs from -1 to 1 is at most 1."""
_BRIGHTNESS = (0.0, 1.0, 255.0)
_SMALL, _BELOW = 1 / 16, -32.0


@dataclass(frozen=True)
class InnerScaling:
    """What the first layers of a model do to its inputs.

    Attributes
    ----------
    counts : whether they are made for counts, 0..255.
    sentence : what they do, for messages and the manifest; "" if nothing was found.
    """

    counts: bool
    sentence: str


class _Reached(BaseException):  # Keras changes the type of an Exception on its way out
    """The first layer with weights was called; the rest of the model need not run."""


def inner_scaling(model: Any) -> InnerScaling:
    """Find out what the first layers of a model do to its inputs.

    Parameters
    ----------
    model : a built Keras model. It runs on three small inputs at most, and is not changed.

    Returns
    -------
    What was found. Whole-number inputs, and a Rescaling or Normalization whose numbers are for counts, say
    that the model takes counts. So does arithmetic that divides by 16 or more, or subtracts 32 or more,
    before the first layer with weights. A Rescaling by 2 and -1 is for another range, which is not guessed.
    """
    dtype = entry_dtype(model)
    if is_whole(dtype):
        return InnerScaling(True, f"Its input holds whole numbers ({dtype}).")
    return _by_layers(model) or _by_probing(model)


def _by_layers(model: Any) -> InnerScaling | None:
    """What a Rescaling or Normalization before all layers with weights says; None if it does not decide."""
    for layer in leaves(model):
        kind = type(layer).__name__
        if kind == "Rescaling":
            # 1/127.5 and 1/255 are for counts, and so are means near 120; 1 or 2 are for 0..1.
            small = float(np.max(np.abs(np.asarray(layer.scale, "float64")))) <= 1 / 32
            means = float(np.max(np.abs(np.asarray(layer.offset, "float64")))) > -_BELOW
            found = "It begins with a Rescaling for counts."
            return InnerScaling(True, found) if small or means else None
        if kind == "Normalization":
            wide = float(np.max(np.asarray(ops.convert_to_numpy(layer.variance)))) > WIDE
            found = "It begins with a Normalization whose variance is that of counts."
            return InnerScaling(True, found) if wide else None
        if layer.weights:
            return None
    return None


def _by_probing(model: Any) -> InnerScaling:
    """What arrives at the first layer with weights, for images that are black, dark and white."""
    nothing = InnerScaling(False, "")
    try:
        shape = tuple(model.inputs[0].shape)[1:] if getattr(model, "inputs", None) else None
        shape = shape or tuple((model.get_build_config() or {})["input_shape"])[1:]
        images = np.stack([np.full(shape, level, "float32") for level in _BRIGHTNESS])
        layer, inner = _first_weighted_input(model, images)
    # Layers of others may raise anything when they run; the labels decide then.
    except Exception:
        return nothing
    if layer is None or inner.shape[:1] != (3,) or not np.isfinite(inner).all():
        return nothing
    black, dark, white = (part.ravel() for part in inner.astype("float64"))
    slope = (white - black) / 255
    moving = np.abs(slope) > 1e-9  # padding does not move
    straight = np.abs(dark - black - slope) <= 1e-3 * np.abs(slope) + 1e-5 * (1 + np.abs(black))
    if not moving.any() or not straight.all():
        return nothing
    slope, start = slope[moving], black[moving]
    ends = np.concatenate([start, start + 255 * slope])
    said = (
        f"Counts 0..255 arrive at its first layer with weights ({layer.name}) as {ends.min():.4g} to "
        f"{ends.max():.4g}"
    )
    steep = float(np.abs(slope).max())
    if steep <= _SMALL or (0.5 <= steep <= 2 and float(start.max()) <= _BELOW):
        return InnerScaling(True, f"{said}: it scales them itself.")
    spread = _spread_before(layer, slope)
    if spread > WIDE:
        return InnerScaling(
            True,
            f"Its first BatchNormalization was trained on inputs of variance {spread:.3g}, as counts have.",
        )
    same = np.allclose(slope, 1) and np.allclose(start, 0, atol=1e-6)
    return (
        nothing if same else InnerScaling(False, f"{said}, which is for inputs of another range.")
    )


def _spread_before(layer: Any, slope: np.ndarray) -> float:
    """The variance of the inputs on which a first BatchNormalization was trained; 0 if that is not known."""
    if type(layer).__name__ != "BatchNormalization":
        return 0.0
    variance = np.asarray(ops.convert_to_numpy(layer.moving_variance), "float64")
    return float(np.median(variance) / np.median(np.abs(slope)) ** 2)


def _first_weighted_input(model: Any, images: np.ndarray) -> tuple[Any, np.ndarray]:
    """The first layer with weights of its own that the model calls, and its input; (None, empty) if none."""
    seen: list[tuple[Any, Any]] = []
    layers = [one for one in _private.every_layer(model) if _weighted(one)]
    with contextlib.suppress(_Reached), _watched(layers, seen):
        model(ops.convert_to_tensor(images), training=False)
    if not seen:
        return None, np.zeros(0)
    layer, value = seen[0]
    return layer, np.asarray(ops.convert_to_numpy(keras.tree.flatten(value)[0]))


def _weighted(layer: Any) -> bool:
    """Whether a layer has weights of its own, other than those of its layers or of a Normalization."""
    if type(layer).__name__ == "Normalization" or not layer.weights:
        return False
    inner = {id(weight) for one in _private.every_layer(layer)[1:] for weight in one.weights}
    return any(id(weight) not in inner for weight in layer.weights)


@contextlib.contextmanager
def _watched(layers: list[Any], seen: list[tuple[Any, Any]]) -> Iterator[None]:
    """Note the input of the first of `layers` that is called, and stop there."""
    kept = [(layer, layer.__dict__.get("call")) for layer in layers]
    for layer in layers:
        own = layer.call

        @functools.wraps(own)
        def watching(*args: Any, _layer: Any = layer, **kwargs: Any) -> Any:
            seen.append((_layer, args or tuple(kwargs.values())))
            raise _Reached

        layer.__dict__["call"] = watching  # not by setattr, which Keras tracks
    try:
        yield
    finally:
        for layer, before in kept:
            if before is None:
                layer.__dict__.pop("call", None)
            else:
                layer.__dict__["call"] = before
