"""Finds the last activation of a model (its head) and computes the logits from before it.

Attacks need logits: a softmax in float32 saturates, and a saturated softmax has no gradient. If the graph of
the model is known (Sequential, Functional, nested), the logits are computed from the input of the final
activation, with the model's own variables. If it is not (subclassed models, Lambda layers, averages of
softmaxes), the backend searches for the input of the last operations (`backend.unsaturated`). If it does not
find it, the logits are the logarithms of the probabilities, which saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import keras
import numpy as np
from keras import ops

from robustness import backend
from robustness.backend import _private
from robustness.backend.types import Tensor
from robustness.errors import ModelError, SettingError
from robustness.models.layer_order import pool_before_activation
from robustness.numerics.batch_invariant import batch_invariant

HEADS = ("softmax", "logits", "sigmoid", "sigmoid-logit")
_FLOOR = 1e-30
"""log(1e-30) = -69: smaller float32 probabilities are zero or inexact."""
_PASSING = {"Identity", "Dropout", "ActivityRegularization"}
_Ending = tuple[str, Callable[[Tensor], Tensor] | None]
Way = Literal["layer", "operations", "outputs"]
UNKNOWN: _Ending = ("", None)
_BARE, _ONE_UNIT = ("logits", "sigmoid-logit"), ("sigmoid", "sigmoid-logit")
_NAMES = {"softmax": "softmax", "softmax_v2": "softmax", "sigmoid": "sigmoid"}


def _log(probabilities: Tensor) -> Tensor:
    return batch_invariant(ops.log, ops.maximum(probabilities, _FLOOR))


@dataclass(frozen=True)
class Head:
    """The head of a model: what its outputs are, and how logits are computed.

    Attributes
    ----------
    kind : `softmax`, `logits`, `sigmoid` (one unit) or `sigmoid-logit` (one unit, no activation).
    way : the source of the logits: "layer" is the input of the last activation, "operations" the input of the
        last operations, which are no layer of their own, and "outputs" the outputs of the model.
    outputs : function from inputs as the model takes them to its own outputs, (n, classes) or (n, 1).
    raw : function from inputs as the model takes them to the source of the logits, given by `way`.
    classes : number of classes.
    """

    kind: str
    way: Way
    outputs: Callable[[Tensor], Tensor]
    raw: Callable[[Tensor], Tensor]
    classes: int

    @property
    def followed(self) -> bool:
        """Whether logits are computed from the last operations instead of by omitting a layer."""
        return self.way == "operations"

    @property
    def rebuilt(self) -> bool:
        """Whether logits are exact; otherwise they are logarithms of probabilities, which saturate."""
        return self.way != "outputs" or self.kind in _BARE

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits (n, classes), float32, for inputs as the model takes them."""
        raw = ops.cast(self.raw(inputs), "float32")
        if self.kind in _ONE_UNIT:
            if not self.rebuilt:
                raw = _log(raw) - _log(1 - raw)
            return ops.concatenate([ops.zeros_like(raw), raw], axis=-1)
        return raw if self.rebuilt else _log(raw)

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Return probabilities (n, classes), float32, from the model's own outputs."""
        outputs = ops.cast(self.outputs(inputs), "float32")
        if self.kind == "softmax":
            return outputs
        if self.kind == "logits":
            return ops.softmax(outputs, axis=-1)
        if self.kind == "sigmoid-logit":
            # sigmoid(-z), not 1 - sigmoid(z): keeps small probabilities.
            return batch_invariant(ops.sigmoid, ops.concatenate([-outputs, outputs], axis=-1))
        return ops.concatenate([1 - outputs, outputs], axis=-1)

    def computed_by(self, model: keras.Model, probe: Tensor) -> Head:
        """Return this head with logits computed by a copy of its model.

        Parameters
        ----------
        model : the copy.
        probe : a small batch of inputs as the model takes them.

        Raises
        ------
        ModelError
            The logits of the copy cannot be found in the same way.
        """
        raw = _raw(self.way, model, probe, single=self.kind in _ONE_UNIT)
        if raw is None:
            raise ModelError("The logits of the copied model cannot be found in its operations.")
        return replace(self, raw=raw)

    @property
    def sentence(self) -> str:
        """A description of the head for reports."""
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


def find_head(
    model: keras.Model,
    probe: Tensor,
    kind: str | None = None,
    *,
    twin: keras.Model | None = None,
) -> Head:
    """Determine the head of `model`.

    Parameters
    ----------
    model : a built Keras model.
    probe : a small batch of inputs (n, height, width, channels) as the model takes them. If the graph does
        not show what the outputs are, their values for these inputs do.
    kind : one of `HEADS`, if the user states it.
    twin : the model that computes the logits, with the same outputs as `model`
        (`float_input.float_twin`); `model` itself if not given.

    Raises
    ------
    SettingError
        `kind` is not known.
    ModelError
        The model does not return one row of classes per image, does not match `kind`, or is ambiguous.
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
    if (kind in _ONE_UNIT) != (units == 1):
        wanted = "one output" if units > 1 else "two outputs or more"
        raise ModelError(f"The model has {units} output(s), but a {kind} head has {wanted}.")
    if kind in ("softmax", "sigmoid") and np.isfinite(values).all() and not _between(values):
        raise ModelError(
            f"A {kind} head was given, but the model's outputs are no probabilities (they range "
            f"from {values.min():.3g} to {values.max():.3g}). Leave head out, or say 'logits'."
        )
    head = Head(kind, "outputs", outputs, own_outputs(twin), max(units, 2))
    # What the user states takes precedence over the graph.
    contradicted = kind in _BARE and activation != "linear"
    if raw is not None and not contradicted and _agrees(kind, raw(probe), values):
        return replace(head, way="layer", raw=raw)
    if kind in _BARE:
        return head
    followed = _raw("operations", twin, probe, single=units == 1)
    if followed is not None and _agrees(kind, followed(probe), values):
        return replace(head, way="operations", raw=followed)
    return head


def _raw(
    way: Way, model: keras.Model, probe: Tensor, *, single: bool
) -> Callable[[Tensor], Tensor] | None:
    """The function for the source of the logits of `model`, given by `way`; None if there is none."""
    if way == "layer":
        return _final_activation(model)[1]
    outputs = own_outputs(model)
    return outputs if way == "outputs" else backend.unsaturated(outputs, probe, single=single)


def _kind(given: str, activation: str, values: np.ndarray) -> str:
    units = values.shape[1]
    if given:
        return given
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


def _agrees(kind: str, raw: Tensor, values: np.ndarray) -> bool:
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


def own_outputs(model: keras.Model) -> Callable[[Tensor], Tensor]:
    """Return `model` as a function from one tensor to one tensor, in inference mode.

    Raises ModelError, when called, if the model has several outputs.
    """
    names = getattr(model, "input", None) if getattr(model, "inputs", None) else None

    def call(inputs: Tensor) -> Tensor:
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


def _final_activation(model: keras.Model) -> _Ending:
    """The name of the last activation (`linear` for none), and the function before it."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1 or len(model.inputs) != 1:
        return UNKNOWN
    return _strip(model, outputs[0])


def _strip(model: keras.Model, tensor: keras.KerasTensor) -> _Ending:
    source, call = model.inputs[0], _private.call_behind(tensor, model)
    # Several inputs (an average of softmaxes, say): only the values show what the outputs are.
    if call is None or len(call.inputs) != 1 or tensor is source:
        return UNKNOWN
    layer, before = call.operation, call.inputs[0]
    if type(layer).__name__ in _PASSING:
        return _strip(model, before)
    if hasattr(layer, "layers") and getattr(layer, "outputs", None):
        name, after = _final_activation(layer)
    else:
        name, after = _peel(layer, before)
    return name, None if after is None else _chain(_trunk(source, before), after)


def _peel(layer: keras.Operation, before: keras.KerasTensor) -> _Ending:
    """The activation of one layer and, if it can be omitted, the layer without it."""
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


def _same(inputs: Tensor) -> Tensor:
    return inputs


def _trunk(source: keras.KerasTensor, tensor: keras.KerasTensor) -> Callable[[Tensor], Tensor]:
    if tensor is source:
        return lambda inputs: inputs
    model = pool_before_activation(keras.Model(source, tensor))
    return lambda inputs: model(inputs, training=False)


def _chain(
    first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda inputs: second(first(inputs))


def _without_activation(layer: keras.layers.Dense, inputs: Tensor) -> Tensor:
    # In the layer's own precision, so that the logits equal those of the model.
    dtype = layer.compute_dtype
    outputs = ops.matmul(ops.cast(inputs, dtype), ops.cast(layer.kernel, dtype))
    return outputs + ops.cast(layer.bias, dtype) if layer.use_bias else outputs
