"""The process that loads a model with tf_keras and answers: outputs, and gradients.

Run as ``python -m robustness.models.old_keras.worker FILE [--trust]`` by `model.Worker`. Messages come by
stdin and go to the stdout that it was started with; what libraries print goes to stderr.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from robustness.models.old_keras.protocol import BrokenMessageError, receive, send

ACTIVATIONS = ("softmax", "sigmoid")
TOLERANCE = 1e-4
_OPERATIONS = {"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"}
"""Layers of Keras 2 that apply a function of TensorFlow by its name."""
_PURE = re.compile(
    r"__operators__\.\w+|(math|nn|image|keras\.activations)\.[a-z_0-9]+|compat\.v1\.(shape|transpose)|"
    r"(cast|reshape|concat|split|stack|unstack|squeeze|expand_dims|transpose|clip_by_value|identity|shape|"
    r"broadcast_to|tile|pad|zeros_like|ones_like|reverse|gather|strided_slice|where|one_hot|"
    r"convert_to_tensor|(keras\.backend\.)?(mean|sum|max|min|square|sqrt|abs|l2_normalize))"
)
"""Functions that compute numbers from numbers; others of TensorFlow write files or run code."""


def main(path: str, trusted: bool) -> None:
    """Load the model at `path`, describe it, and answer until stdin ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf  # noqa: PLC0415 - after the environment is set
    import tf_keras  # noqa: PLC0415

    from robustness.models.scan import limited_process  # noqa: PLC0415

    tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64)))
    # Audits take hours of processor time.
    limited_process.limit_memory(processor_seconds=None)
    try:
        if not trusted and (wrong := unsafe_operations(path)):
            raise ValueError(f"it applies {wrong[0]!r}, which is no plain arithmetic")
        model = tf_keras.models.load_model(path, compile=False, safe_mode=not trusted)
        answers, about = described(model, tf, tf_keras)
    # The loader and layers may raise anything.
    except Exception as error:
        send(out, {"error": f"{type(error).__name__}: {str(error)[:300]}"})
        return
    send(out, about)
    serve(answers, sys.stdin.buffer, out)


def serve(answers: dict[str, Callable[..., np.ndarray]], into: Any, out: Any) -> None:
    """Answer messages until the stream ends."""
    while True:
        try:
            head, arrays = receive(into)
        except BrokenMessageError:
            return
        try:
            answer = answers[str(head.get("do"))](*arrays)
        except Exception as error:
            send(out, {"error": f"{type(error).__name__}: {str(error)[:300]}"})
        else:
            send(out, {}, np.asarray(answer, "float32"))


def described(
    model: Any, tf: Any, tf_keras: Any
) -> tuple[dict[str, Callable[..., np.ndarray]], dict[str, Any]]:
    """The functions that answer, and what the model is, as JSON values."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one each"
        )
    shape = [None if n is None else int(n) for n in model.inputs[0].shape[1:]]
    units = [None if n is None else int(n) for n in model.outputs[0].shape[1:]]
    probe = tf.random.stateless_uniform((2, *(n or 64 for n in shape)), (1, 2), 0, 1)
    outputs = tf.function(lambda x: model(x, training=False))
    layer = last_layer(model)
    activation = ""
    raw = outputs
    if layer is not None:
        activation, raw = without_activation(model, layer, tf, tf_keras)
        applied = getattr(tf_keras.activations, activation)(raw(probe)) if activation else None
        if applied is None or not np.allclose(applied, outputs(probe), atol=TOLERANCE):
            activation, raw = "", outputs

    @tf.function
    def pull(points: Any, weights: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            values = tf.cast(raw(points), tf.float32)
        slopes = tape.gradient(values, points, output_gradients=weights)
        return tf.zeros_like(points) if slopes is None else slopes

    answers: dict[str, Callable[..., np.ndarray]] = {
        "raw": lambda x: raw(tf.constant(x)).numpy(),
        "outputs": lambda x: outputs(tf.constant(x)).numpy(),
        "pull": lambda x, w: pull(tf.constant(x), tf.constant(w)).numpy(),
    }
    about = {
        "shape": shape,
        "units": units,
        "activation": activation,
        "sha256": digest(model),
        "parameters": int(model.count_params()),
        "version": str(tf_keras.__version__),
        "name": str(model.name),
    }
    return answers, about


def last_layer(model: Any) -> Any:
    """The layer that computes the output of a model, within nested models; None if it is not known."""
    history = getattr(model.outputs[0], "_keras_history", None)
    layer = getattr(history, "layer", None)
    if hasattr(layer, "layers") and getattr(layer, "outputs", None):
        return last_layer(layer)
    return layer


def without_activation(model: Any, layer: Any, tf: Any, tf_keras: Any) -> tuple[str, Any]:
    """The name of the last activation, and the model without it; "" and the model if it has none."""
    name = getattr(getattr(layer, "activation", None), "__name__", "")
    if type(layer).__name__ == "Softmax":
        name = "softmax"
    if name not in ACTIVATIONS:
        return "", tf.function(lambda x: model(x, training=False))

    def call(points: Any) -> Any:
        # While it is traced, which happens once for each shape.
        kept = {key: layer.__dict__.get(key) for key in ("activation", "call")}
        if type(layer).__name__ == "Softmax":
            layer.call = lambda inputs, *_, **__: inputs
        else:
            layer.activation = tf_keras.activations.linear
        try:
            return model(points, training=False)
        finally:
            for key, value in kept.items():
                if value is not None:
                    setattr(layer, key, value)

    return name, tf.function(call, autograph=False)


def digest(model: Any) -> str:
    """SHA-256 of the weights: shape, dtype and bytes in the model's order."""
    sha = hashlib.sha256()
    for values in model.get_weights():
        sha.update(f"{values.shape} {values.dtype}\n".encode())
        sha.update(np.ascontiguousarray(values).tobytes())
    return sha.hexdigest()


def unsafe_operations(path: str) -> list[str]:
    """The functions that a file names and that are not known to compute numbers only; nothing is loaded."""
    found = []
    for value in _tables(json.loads(_configuration(path))):
        name = str(value.get("class_name"))
        config = value.get("config")
        if name == "Lambda":
            found.append("Lambda")
        elif name in _OPERATIONS:
            function = str(config.get("function")) if isinstance(config, dict) else ""
            if not _PURE.fullmatch(function):
                found.append(function)
    return found


def _configuration(path: str) -> bytes | str:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return archive.read("config.json")
    import h5py  # noqa: PLC0415

    with h5py.File(path, "r") as file:
        text: bytes | str = file.attrs["model_config"]
        return text


def _tables(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


if __name__ == "__main__":
    main(sys.argv[1], "--trust" in sys.argv[2:])
