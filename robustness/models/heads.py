"""From a model's last layer to logits.

Attacks need logits: a softmax in float32 saturates, and a saturated softmax has no gradient. Where
the graph of the model is known (Sequential, Functional, nested) the logits are computed from the
input of the final activation, with the very same layers. Nothing is cloned or rebuilt from a
configuration. Where it is not (subclassed models, Lambda layers, averages of softmaxes), the backend is
asked for what the operations at the end are applied to (`gradients.unsaturated`); where it does not know
either, logits are the logarithm of the probabilities, which saturates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness import backend
from robustness.errors import ModelError, SettingError
from robustness.models.layer_order import pool_before_activation
from robustness.numerics.batch_invariant import batch_invariant

HEADS = ("softmax", "logits", "sigmoid", "sigmoid-logit")
_FLOOR = 1e-30  # log(1e-30) = -69: below it float32 probabilities are zero or not to be trusted
_PASSING = {"Identity", "Dropout", "ActivityRegularization"}
_Ending = tuple[str, Callable[[Any], Any] | None]
UNKNOWN: _Ending = ("", None)
_NAMES = {"softmax": "softmax", "softmax_v2": "softmax", "sigmoid": "sigmoid"}


def _log(probabilities: Any) -> Any:
    return batch_invariant(ops.log, ops.maximum(probabilities, _FLOOR))


@dataclass(frozen=True)
class Head:
    """How a model ends: `outputs` are its own, `raw` what its last activation is applied to."""

    kind: str
    """`softmax`, `logits`, `sigmoid` (one unit) or `sigmoid-logit` (one unit, no activation)."""
    rebuilt: bool
    """Logits come from before the activation, or need none; False: logarithm of probabilities."""
    outputs: Callable[[Any], Any]
    raw: Callable[[Any], Any]
    """What logits are computed from: before the last activation if `rebuilt`, else the outputs."""
    classes: int
    followed: bool = False
    """Logits come from the operations at the end, not from a layer that was left out."""

    def logits(self, inputs: Any) -> Any:
        """Logits (n, classes), float32, of inputs as the model takes them."""
        raw = ops.cast(self.raw(inputs), "float32")
        if self.kind in ("sigmoid", "sigmoid-logit"):
            if not self.rebuilt:
                raw = _log(raw) - _log(1 - raw)
            return ops.concatenate([ops.zeros_like(raw), raw], axis=-1)
        return raw if self.rebuilt else _log(raw)

    def probabilities(self, inputs: Any) -> Any:
        """Probabilities (n, classes), float32, from the model's own outputs."""
        outputs = ops.cast(self.outputs(inputs), "float32")
        if self.kind == "softmax":
            return outputs
        if self.kind == "logits":
            return ops.softmax(outputs, axis=-1)
        if self.kind == "sigmoid-logit":
            # sigmoid(-z), not 1 - sigmoid(z): keeps small probabilities.
            return batch_invariant(ops.sigmoid, ops.concatenate([-outputs, outputs], axis=-1))
        return ops.concatenate([1 - outputs, outputs], axis=-1)

    @property
    def sentence(self) -> str:
        """The head in words."""
        if not self.rebuilt:
            return (
                f"The model ends in a {self.kind} that cannot be taken off (no graph of layers): "
                "logits are the logarithm of its probabilities, which has no gradient where a "
                "probability is exactly 0 or 1."
            )
        if self.followed:
            return (
                f"The model ends in a {self.kind} that is no layer of its own: logits are computed from "
                "what the operations at its end are applied to."
            )
        return {
            "softmax": "The softmax at the end is left out: logits are what it is applied to.",
            "logits": "The model gives logits.",
            "sigmoid": "One sigmoid unit: its input z becomes the two logits (0, z).",
            "sigmoid-logit": "One unit without activation: its value z becomes the logits (0, z).",
        }[self.kind]


def find_head(model: Any, probe: Any, kind: str | None = None, *, twin: Any = None) -> Head:
    """The head of `model`.

    `probe` is a small batch of inputs as the model takes them: where the graph does not say what
    the outputs are, their values do. `kind` is what the user says, one of `HEADS`. Logits are computed
    by `twin`, a model that answers alike (`float_input.float_twin`), where there is one. Raises
    ModelError for models that do not give one row of classes per image, or stay ambiguous.
    """
    if kind is not None and kind not in HEADS:
        raise SettingError(f"Head {kind!r} is not known; expected one of {', '.join(HEADS)}.")
    outputs = own_outputs(model)
    values = np.asarray(ops.convert_to_numpy(outputs(probe)), "float64")
    if values.ndim != 2 or len(values) != len(probe):
        raise ModelError(
            f"The model turns {len(probe)} images into an output of shape {values.shape}; expected "
            "one row of classes per image. Audit the classifier part, or add pooling or Flatten."
        )
    units = values.shape[1]
    twin = model if twin is None else twin
    activation, raw = _final_activation(twin)
    kind = _kind(kind or "", activation, values)
    bare = kind in ("logits", "sigmoid-logit")
    if (kind in ("sigmoid", "sigmoid-logit")) != (units == 1):
        wanted = "one output" if units > 1 else "two outputs or more"
        raise ModelError(f"The model has {units} output(s), but a {kind} head has {wanted}.")
    if kind in ("softmax", "sigmoid") and np.isfinite(values).all() and not _between(values):
        raise ModelError(
            f"A {kind} head was given, but the model's outputs are no probabilities (they range "
            f"from {values.min():.3g} to {values.max():.3g}). Leave head out, or say 'logits'."
        )
    # Where the user says otherwise than the graph, the user is right.
    stripped = None if bare and activation != "linear" else raw
    if stripped is not None and not _agrees(kind, stripped(probe), values):
        stripped = None
    classes = max(units, 2)
    seen = outputs if twin is model else own_outputs(twin)
    if bare or stripped is not None:
        return Head(kind, True, outputs, stripped or seen, classes)
    followed = backend.unsaturated(seen, probe, single=units == 1)
    if followed is not None and _agrees(kind, followed(probe), values):
        return Head(kind, True, outputs, followed, classes, followed=True)
    return Head(kind, False, outputs, seen, classes)


def _kind(said: str, activation: str, values: np.ndarray) -> str:
    units = values.shape[1]
    if said:
        return said
    if activation == "sigmoid" and units > 1:
        raise ModelError(
            f"The model ends in {units} independent sigmoid units (several labels per image); "
            "expected one class per image: a softmax, logits, or one sigmoid unit."
        )
    if activation == "sigmoid" or (activation == "softmax" and units > 1):
        return activation
    if units == 1:
        # A softmax of one unit is constant; a subclassed model may still end in a sigmoid.
        if activation == "" and _between(values):
            return "sigmoid"
        raise ModelError(
            "The model has one output and no sigmoid, so it could be a logit or a regression. If "
            "it was trained with from_logits=True, say head='sigmoid-logit'."
        )
    return "softmax" if activation != "linear" and _distributions(values) else "logits"


def _distributions(values: np.ndarray) -> bool:
    return _between(values) and bool(np.allclose(values.sum(axis=1), 1.0, atol=1e-2))


def _between(values: np.ndarray) -> bool:
    return bool(np.all((values >= -1e-6) & (values <= 1 + 1e-6)))


def _agrees(kind: str, raw: Any, values: np.ndarray) -> bool:
    z = np.asarray(ops.convert_to_numpy(ops.cast(raw, "float32")), "float64")
    if z.shape != values.shape:
        return False
    with np.errstate(all="ignore"):
        if kind == "softmax":
            z = np.exp(z - z.max(axis=1, keepdims=True))
            expected = z / z.sum(axis=1, keepdims=True)
        else:
            expected = 1 / (1 + np.exp(-z)) if kind == "sigmoid" else z
    return bool(np.allclose(expected, values, atol=1e-2, equal_nan=True))


def own_outputs(model: Any) -> Callable[[Any], Any]:
    """The model itself as a function of one tensor, in inference mode."""
    names: Any = getattr(model, "input", None) if getattr(model, "inputs", None) else None

    def call(inputs: Any) -> Any:
        given = inputs
        if isinstance(names, (dict, list, tuple)):
            given = keras.tree.map_structure(lambda _: inputs, names)
        results = keras.tree.flatten(model(given, training=False))
        if len(results) != 1:
            raise ModelError(
                f"The model has {len(results)} outputs; expected one. Make a model of the one to "
                "audit: keras.Model(model.inputs, model.outputs[0])."
            )
        return results[0]

    return call


def _final_activation(model: Any) -> _Ending:
    """The name of the last activation (`linear` for none) and the function before it."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1 or len(model.inputs) != 1:
        return UNKNOWN
    return _strip(model.inputs[0], outputs[0])


def _strip(source: Any, tensor: Any) -> _Ending:
    before = _only_input(tensor)
    if before is None or tensor is source:
        return UNKNOWN
    layer = tensor._keras_history.operation
    if type(layer).__name__ in _PASSING:
        return _strip(source, before)
    if hasattr(layer, "layers") and getattr(layer, "outputs", None):
        name, inner = _final_activation(layer)
        return name, None if inner is None else _chain(_trunk(source, before), inner)
    name, after = _peel(layer, before)
    return name, None if after is None else _chain(_trunk(source, before), after)


def _only_input(tensor: Any) -> Any:
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.node_index >= len(history.operation._inbound_nodes):
        return None
    inputs = history.operation._inbound_nodes[history.node_index].input_tensors
    # Several inputs (an average of softmaxes, say): only the values can tell what comes out.
    return inputs[0] if len(inputs) == 1 else None


def _peel(layer: Any, before: Any) -> _Ending:
    """The activation of one layer and, where it can be left out, the layer without it."""
    kind = type(layer).__name__
    activation = getattr(layer, "activation", None)
    name = _NAMES.get(getattr(activation, "__name__", ""), "")
    product = isinstance(layer, keras.layers.Dense) and not getattr(
        layer, "quantization_mode", None
    )
    if kind in ("Softmax", "Sigmoid"):
        last = getattr(layer, "axis", -1) in (-1, len(before.shape) - 1)
        return (kind.lower(), _same) if last else UNKNOWN
    if activation is keras.activations.linear and product:
        return "linear", partial(_without_activation, layer)
    if name and kind == "Activation":
        return name, _same
    if name and product:
        return name, partial(_without_activation, layer)
    return name, None


def _same(inputs: Any) -> Any:
    return inputs


def _trunk(source: Any, tensor: Any) -> Callable[[Any], Any]:
    if tensor is source:
        return lambda inputs: inputs
    model = pool_before_activation(keras.Model(source, tensor))
    return lambda inputs: model(inputs, training=False)


def _chain(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda inputs: second(first(inputs))


def _without_activation(layer: Any, inputs: Any) -> Any:
    # In the layer's own precision, so that the logits are those the model computes.
    dtype = layer.compute_dtype
    outputs = ops.matmul(ops.cast(inputs, dtype), ops.cast(layer.kernel, dtype))
    return outputs + ops.cast(layer.bias, dtype) if layer.use_bias else outputs
