"""The float twin of a model that takes whole numbers.

Keras casts what a model is given to the type of its input. Of an input of whole numbers (`uint8` and its
kind) that cast has no gradient, whatever stands behind it. The twin is the same graph of the same layers,
called on an input of floats: nothing is copied, and on whole counts it answers alike. Attacks look at the
twin; the judge asks the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness.models.heads import own_outputs
from robustness.models.layers import entry_dtype, is_whole

TABLES = {
    *(
        "Embedding",
        "CategoryEncoding",
        "Discretization",
        "Hashing",
        "IntegerLookup",
        "StringLookup",
    ),
    "OneHot",
}
"""Layers and operations that look whole numbers up: floats between two of them mean nothing to them."""


@dataclass(frozen=True)
class Twin:
    """What attacks look at: a model like the user's own with a float input, or that model itself.

    Attributes
    ----------
    model: a Keras model that shares the layers of the user's own.
    reason: why there is no float twin where one is needed, a sentence; "" where there is one, or none is
        needed.
    """

    model: Any
    reason: str = ""


def takes_whole(model: Any) -> bool:
    """Whether `model`, or a model within it, has an input of whole numbers."""
    if is_whole(entry_dtype(model)):
        return True
    return any(takes_whole(layer) for layer in getattr(model, "layers", ()))


def float_twin(model: Any, probe: Any) -> Twin:
    """The twin of `model`; the model itself where every input is float already.

    Parameters
    ----------
    model: a built Keras model.
    probe: whole numbers (n, height, width, channels), float32, as the model takes them. A twin that answers
        otherwise than the model on these is none.
    """
    if not takes_whole(model):
        return Twin(model)
    if not _is_graph(model):
        return Twin(model, "its graph of layers is not known, as of a subclassed model")
    try:
        twin = _rebuilt(model)
        same = _alike(own_outputs(twin)(probe), own_outputs(model)(probe))
    except Exception as error:
        # Keras raises whatever its layers raise.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Twin(model, f"its layers do not take float numbers ({said[:160]})")
    if not same:
        return Twin(model, "its layers answer otherwise to float numbers than to whole ones")
    return Twin(twin)


def without_slope(model: Any) -> str:
    """The first operation of a model's graph that has no gradient, in words; "" if none is known."""
    if not _is_graph(model):
        return ""
    for operation in keras.Model(model.inputs[0], model.outputs[0]).operations:
        kind = type(operation).__name__
        if kind == "InputLayer":
            continue
        if hasattr(operation, "layers"):
            if found := without_slope(operation):
                return found
        elif kind in TABLES:
            return f"{kind} {operation.name!r} looks whole numbers up in a table"
        else:
            made = keras.tree.flatten(getattr(operation, "output", None))
            whole = [t.dtype for t in made if is_whole(str(getattr(t, "dtype", "")))]
            if whole:
                return f"{kind} {operation.name!r} makes whole numbers of what it gets ({whole[0]})"
    return ""


def _is_graph(model: Any) -> bool:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    return len(inputs or ()) == len(outputs or ()) == 1


def _rebuilt(model: Any) -> Any:
    """The graph of `model`, its own layers called on a float input; that of models within it, too."""

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        inside = _rebuilt(layer) if takes_whole(layer) else layer
        return inside(*args, **kwargs)

    source = model.inputs[0]
    return keras.models.clone_model(
        keras.Model(source, model.outputs[0]),
        input_tensors=keras.Input(batch_shape=source.shape, dtype="float32"),
        clone_function=lambda layer: layer,
        call_function=call,
    )


def _alike(some: Any, others: Any) -> bool:
    """Whether two outputs are the same but for rounding."""
    first, second = (
        np.asarray(ops.convert_to_numpy(ops.cast(x, "float32"))) for x in (some, others)
    )
    if first.shape != second.shape:
        return False
    with np.errstate(invalid="ignore"):
        size = float(np.nanmax(np.abs(second))) if np.isfinite(second).any() else 1.0
    return bool(np.allclose(first, second, rtol=1e-4, atol=1e-5 * min(size, 1e30), equal_nan=True))
