"""Compares a model as `model(images)` calls it with the same model in inference mode.

Keras calls layers in inference mode in `predict`, and so does an audit. Layers that the model itself calls
with ``training=True``, and layers whose own default is training, run in training mode where `model(images)`
is called without saying which: dropout and noise are then active, and batch normalisation takes its mean from
the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness.models.layers import leaves


def may_depend_on_mode(model: keras.Model) -> bool:
    """Return whether `model(images)` may differ from inference mode, judged by its layers and its graph.

    True for code that is not that of Keras, which may do anything.
    """
    parts = [model, *leaves(model)]
    if not all(str(type(part).call.__module__).partition(".")[0] == "keras" for part in parts):
        return True
    if any(_trains_by_default(part) for part in parts):
        return True
    try:
        return _states_training(model.get_config())
    except Exception:  # of a model that cannot be written down nothing is known
        return True


def outputs_by_mode(model: keras.Model, inputs: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the outputs of `model(inputs)` and of inference mode, (n, units); None if the first fails.

    Parameters
    ----------
    model : of one output. Its variables are not changed.
    inputs : (n, height, width, channels) as the model takes them.
    """
    variables = (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )
    named, given = getattr(model, "input", None) if getattr(model, "inputs", None) else None, inputs
    if isinstance(named, dict | list | tuple):
        given = keras.tree.map_structure(lambda _: inputs, named)
    try:
        # Batch normalisation in training mode would change its moving mean.
        plain, _ = model.stateless_call(*variables, given)
        inference, _ = model.stateless_call(*variables, given, training=False)
    except Exception:  # the code of others may raise anything in a mode that the audit does not use
        return None
    return _numpy(plain), _numpy(inference)


def _numpy(outputs: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(keras.tree.flatten(outputs)[0]), "float64")


def _trains_by_default(layer: keras.Layer) -> bool:
    """Whether a layer takes training mode where none is said, as those that augment images do."""
    try:
        training = inspect.signature(type(layer).call).parameters.get("training")
    except (TypeError, ValueError):
        return True
    return training is not None and training.default is True


def _states_training(config: Any) -> bool:
    """Whether a model's configuration calls a layer with ``training=True``."""
    found = [config]
    while found:
        value = found.pop()
        if isinstance(value, Mapping):
            arguments = value.get("kwargs")
            if isinstance(arguments, Mapping) and arguments.get("training"):
                return True
            found += value.values()
        elif isinstance(value, list | tuple):
            found += value
    return False
