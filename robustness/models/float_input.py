"""Builds the float twin of a model that takes whole numbers, so that attacks have gradients.

Keras casts the input of a model to the dtype of its input layer. A cast to whole numbers (`uint8`, say) has
no gradient, whatever follows it. The twin is the same graph on a float input, of copies of the layers that
share their variables; on whole counts its outputs are the same. Attacks compute gradients with the twin; the
judge must use the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness.backend._private import detached
from robustness.backend.types import Tensor
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
"""Layers and operations that use their input as table indices: fractions have no meaning there."""


@dataclass(frozen=True)
class Twin:
    """The model that attacks differentiate: the float twin of the user's model, or that model itself.

    Attributes
    ----------
    model : a Keras model that shares the variables of the user's model.
    reason : why a float twin that is needed does not exist, a part of a sentence; "" if it exists or is not
        needed.
    """

    model: keras.Model
    reason: str = ""


def takes_whole(model: keras.Layer) -> bool:
    """Return whether `model`, or a model within it, has an input of whole numbers."""
    if is_whole(entry_dtype(model)):
        return True
    return any(takes_whole(layer) for layer in getattr(model, "layers", ()))


def float_twin(model: keras.Model, probe: Tensor) -> Twin:
    """Build the float twin of `model`, or return the model itself if all its inputs are float already.

    Parameters
    ----------
    model : a built Keras model.
    probe : whole numbers (n, height, width, channels), float32, as the model takes them. A twin whose outputs
        for these differ from the model's is rejected.
    """
    if not takes_whole(model):
        return Twin(model)
    if not _is_graph(model):
        return Twin(model, "its graph of layers is not known, as of a subclassed model")
    try:
        twin = _rebuilt(model)
        same = _alike(own_outputs(twin)(probe), own_outputs(model)(probe))
    except Exception as error:
        # Layers may raise any exception.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Twin(model, f"its layers do not take float numbers ({reason[:160]})")
    if not same:
        return Twin(model, "its layers answer otherwise to float numbers than to whole ones")
    return Twin(twin)


def without_slope(model: keras.Model) -> str:
    """Return a phrase for the first operation of `model` without a gradient; "" if none is known."""
    if not _is_graph(model):
        return ""
    for operation in keras.Model(model.inputs[0], model.outputs[0]).operations:
        kind = type(operation).__name__
        if kind == "InputLayer":
            continue
        if hasattr(operation, "layers"):
            if inner := without_slope(operation):
                return inner
        elif kind in TABLES:
            return f"{kind} {operation.name!r} looks whole numbers up in a table"
        else:
            made = keras.tree.flatten(getattr(operation, "output", None))
            whole = [t.dtype for t in made if is_whole(str(getattr(t, "dtype", "")))]
            if whole:
                return f"{kind} {operation.name!r} makes whole numbers of what it gets ({whole[0]})"
    return ""


def _is_graph(model: keras.Layer) -> bool:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    return len(inputs or ()) == len(outputs or ()) == 1


def _rebuilt(model: keras.Model) -> keras.Model:
    """The graph of `model` on a float input; nested models that take whole numbers are rebuilt, too."""

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        inside = _rebuilt(layer) if takes_whole(layer) else layer
        return inside(*args, **kwargs)

    source = model.inputs[0]
    return keras.models.clone_model(
        keras.Model(source, model.outputs[0]),
        input_tensors=keras.Input(batch_shape=source.shape, dtype="float32"),
        clone_function=detached,
        call_function=call,
    )


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs are equal up to rounding."""
    first, second = (np.asarray(ops.convert_to_numpy(ops.cast(x, "float32"))) for x in (one, other))
    if first.shape != second.shape:
        return False
    with np.errstate(invalid="ignore"):
        size = float(np.nanmax(np.abs(second))) if np.isfinite(second).any() else 1.0
    return bool(np.allclose(first, second, rtol=1e-4, atol=1e-5 * min(size, 1e30), equal_nan=True))
