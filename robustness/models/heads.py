"""Finds the last activation of a model (its head) and computes the logits from before it.

Attacks need logits: a softmax in float32 saturates, and a saturated softmax has no gradient. If the graph of
the model is known (Sequential, Functional, nested), the logits are computed from the input of the final
activation, with the model's own variables. If it is not (subclassed models, Lambda layers, averages of
softmaxes), the backend searches for the input of the last operations (`backend.unsaturated`). If it does not
find it, the logits are the logarithms of the probabilities, which saturate.
"""

from __future__ import annotations

import re
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
from robustness.configuration.choices import HEADS
from robustness.errors import ModelError, RobustnessError, SettingError
from robustness.models.head_kinds import between, kind_of
from robustness.models.label_sets import LabelSets
from robustness.models.layer_order import pool_before_activation
from robustness.numerics.batch_invariant import batch_invariant

_FLOOR = 1e-30
"""log(1e-30) = -69: smaller float32 probabilities are zero or inexact."""
_PASSING = {"Identity", "Dropout", "ActivityRegularization"}
_Ending = tuple[str, Callable[[Tensor], Tensor] | None]
Way = Literal["layer", "operations", "outputs"]
UNKNOWN: _Ending = ("", None)
_BARE, _ONE_UNIT = ("logits", "sigmoid-logit"), ("sigmoid", "sigmoid-logit")
_BY_INPUTS = ("sigmoid-argmax", "multi-label")
_BOUNDED = ("softmax", "sigmoid", "sigmoid-argmax")
_NAMES = {"softmax": "softmax", "softmax_v2": "softmax", "sigmoid": "sigmoid"}


def _log(probabilities: Tensor) -> Tensor:
    return batch_invariant(ops.log, ops.maximum(probabilities, _FLOOR))


@dataclass(frozen=True)
class Head:
    """The head of a model: what its outputs are, and how logits are computed.

    Attributes
    ----------
    kind : `softmax`, `logits`, `sigmoid` (one unit), `sigmoid-logit` (one unit, no activation),
        `sigmoid-argmax` (several sigmoid units, of which the one with the largest input is the class) or
        `multi-label` (several sigmoid units, each of which decides on a label).
    way : the source of the logits: "layer" is the input of the last activation, "operations" the input of the
        last operations, which are no layer of their own, and "outputs" the outputs of the model.
    outputs : function from inputs as the model takes them to its own outputs, (n, classes) or (n, 1); to the
        inputs of its sigmoids for `sigmoid-argmax` and `multi-label`: sigmoids are exactly 1 in float32.
    raw : function from inputs as the model takes them to the source of the logits, given by `way`.
    classes : number of classes.
    sets : the sets of labels that are the classes of `multi-label`; None for one logit per label.
    """

    kind: str
    way: Way
    outputs: Callable[[Tensor], Tensor]
    raw: Callable[[Tensor], Tensor]
    classes: int
    sets: LabelSets | None = None

    @property
    def followed(self) -> bool:
        """Whether logits are computed from the last operations instead of by omitting a layer."""
        return self.way == "operations"

    @property
    def rebuilt(self) -> bool:
        """Whether logits are exact; otherwise they are logarithms of probabilities, which saturate."""
        return self.way != "outputs" or self.kind in (*_BARE, "multi-label")

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits (n, classes), float32, for inputs as the model takes them."""
        raw = ops.cast(self.raw(inputs), "float32")
        if self.kind in _ONE_UNIT:
            if not self.rebuilt:
                raw = _log(raw) - _log(1 - raw)
            return ops.concatenate([ops.zeros_like(raw), raw], axis=-1)
        if self.sets is not None:
            return self.sets.logits(raw)
        return raw if self.rebuilt else _log(raw)

    def with_sets(self, sets: LabelSets) -> Head:
        """Return this `multi-label` head with sets of labels as its classes."""
        return replace(self, sets=sets, classes=len(sets.names))

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Return probabilities (n, classes), float32, from the model's own outputs."""
        outputs = ops.cast(self.outputs(inputs), "float32")
        if self.kind == "softmax":
            return outputs
        if self.sets is not None:
            outputs = self.sets.logits(outputs)
        if self.kind in ("logits", "sigmoid-argmax", "multi-label"):
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
        raw = _raw(self.way, model, probe, single=self.kind not in ("softmax", "logits"))
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
        if self.followed and self.kind not in _BY_INPUTS:
            return (
                f"The model ends in a {self.kind} that is no layer of its own: logits are computed from "
                "what the operations at its end are applied to."
            )
        return {
            "softmax": "The softmax at the end is left out: logits are what it is applied to.",
            "logits": "The model gives logits.",
            "sigmoid": "One sigmoid unit: its input z becomes the two logits (0, z).",
            "sigmoid-logit": "One unit without activation: its value z becomes the logits (0, z).",
            "sigmoid-argmax": "Several sigmoid units: the class is the unit with the largest input (its "
            "pre-activation), and confidence is the softmax of these inputs.",
            "multi-label": "Several sigmoid units: a label holds where the input of its sigmoid is above 0 "
            "(a probability above 0.5). The class is the set of these labels; a flip changes one or more. "
            "Confidence is the softmax over sets of their least sure labels' inputs.",
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
    AmbiguousHeadError
        The outputs can be read in several ways.
    ModelError
        The model does not return one row of classes per image, or does not match `kind`.
    """
    if kind is not None and kind not in HEADS:
        raise SettingError(f"Head {kind!r} is not known; expected one of {', '.join(HEADS)}.")
    outputs = own_outputs(model)
    values = _answers(outputs, probe)
    if values.ndim != 2 or len(values) != len(probe):
        raise ModelError(
            f"The model turns {len(probe)} images into an output of shape {values.shape}; expected "
            "one row of classes per image. Audit the classifier part, or add pooling or Flatten."
        )
    units = values.shape[1]
    twin = model if twin is None else twin
    activation, raw = _final_activation(twin)
    kind = kind_of(kind or "", activation, values, partial(_ends_in_sigmoids, outputs, probe))
    if (kind in _ONE_UNIT) != (units == 1):
        wanted = "one output" if units > 1 else "two outputs or more"
        raise ModelError(f"The model has {units} output(s), but a {kind} head has {wanted}.")
    if kind in _BOUNDED and np.isfinite(values).all() and not between(values):
        raise ModelError(
            f"A {kind} head was given, but the model's outputs are no probabilities (they range "
            f"from {values.min():.3g} to {values.max():.3g}). Leave head out, or say 'logits'."
        )
    head = Head(kind, "outputs", outputs, own_outputs(twin), max(units, 2))
    if kind == "multi-label" and not between(values):
        # Units without activation, trained with from_logits=True.
        return head
    if kind in _BY_INPUTS:
        return _with_inputs_of_sigmoids(head, model, twin, probe, values)
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


def _with_inputs_of_sigmoids(
    head: Head, model: keras.Model, twin: keras.Model, probe: Tensor, values: np.ndarray
) -> Head:
    """`head` with the inputs of the sigmoids as outputs and logits; ModelError if they are unknown."""
    ways: tuple[Way, ...] = ("layer", "operations")
    for way in ways:
        outputs = _raw(way, model, probe, single=True, reordered=False)
        raw = _raw(way, twin, probe, single=True)
        if (
            outputs is not None
            and raw is not None
            and _agrees("sigmoid-argmax", raw(probe), values)
        ):
            return replace(head, way=way, outputs=outputs, raw=raw)
    raise ModelError(
        f"The model has {values.shape[1]} sigmoid units, and what they are applied to cannot be found. The "
        "class is the unit with the largest output, but several outputs are exactly 1 in float32, so that "
        "it is not determined. Build the model with a linear last layer, and say head='logits'."
    )


def _raw(
    way: Way, model: keras.Model, probe: Tensor, *, single: bool, reordered: bool = True
) -> Callable[[Tensor], Tensor] | None:
    """The function for the source of the logits of `model`, given by `way`; None if there is none."""
    if way == "layer":
        return _final_activation(model, reordered)[1]
    outputs = own_outputs(model)
    return outputs if way == "outputs" else backend.unsaturated(outputs, probe, single=single)


def _ends_in_sigmoids(outputs: Callable[[Tensor], Tensor], probe: Tensor) -> bool:
    """Whether the operations at the end of a model without a known graph are sigmoids."""
    raw = backend.unsaturated(outputs, probe, single=True)
    values = np.asarray(ops.convert_to_numpy(outputs(probe)), "float64")
    return raw is not None and _agrees("sigmoid-argmax", raw(probe), values)


def _agrees(kind: str, raw: Tensor, values: np.ndarray) -> bool:
    z = np.asarray(ops.convert_to_numpy(ops.cast(raw, "float32")), "float64")
    if z.shape != values.shape:
        return False
    with np.errstate(all="ignore"):
        if kind == "softmax":
            z = np.exp(z - z.max(axis=1, keepdims=True))
            expected = z / z.sum(axis=1, keepdims=True)
        else:
            expected = 1 / (1 + np.exp(-z)) if kind.startswith("sigmoid") else z
    return bool(np.allclose(expected, values, atol=1e-2, equal_nan=True))


def _answers(outputs: Callable[[Tensor], Tensor], probe: np.ndarray) -> np.ndarray:
    """The outputs for the probe; ModelError if the model's own code fails on it."""
    try:
        return np.asarray(ops.convert_to_numpy(outputs(probe)), "float64")
    except (RobustnessError, MemoryError):
        raise
    except backend.OutOfMemory:
        raise
    # The `call` of a layer or subclass of others may raise anything.
    except Exception as error:
        said = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line]
        cause = next((line for line in said if not line.startswith("Exception encountered")), "")
        raise ModelError(
            f"The model cannot be called on images of shape {probe.shape[1:]} "
            f"({type(error).__name__}: {cause:.300}). Expected a model that answers model(images); if its "
            "layers or `call` are your own code, mend that, or give the file that it was trained with by "
            "--import."
        ) from error


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
                f"The model has {len(results)} outputs; expected one. Say which is audited: --output 0 (in "
                "Python output='0')."
            )
        return results[0]

    return call


def _final_activation(model: keras.Model, reordered: bool = True) -> _Ending:
    """The name of the last activation (`linear` for none), and the function before it."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1 or len(model.inputs) != 1:
        return UNKNOWN
    return _strip(model, outputs[0], reordered)


def _strip(model: keras.Model, tensor: keras.KerasTensor, reordered: bool) -> _Ending:
    source, call = model.inputs[0], _private.call_behind(tensor, model)
    # Several inputs (an average of softmaxes, say): only the values show what the outputs are.
    if call is None or len(call.inputs) != 1 or tensor is source:
        return UNKNOWN
    layer, before = call.operation, call.inputs[0]
    if type(layer).__name__ in _PASSING:
        return _strip(model, before, reordered)
    if hasattr(layer, "layers") and getattr(layer, "outputs", None):
        name, after = _final_activation(layer, reordered)
    else:
        name, after = _peel(layer, before)
    return name, None if after is None else _chain(_trunk(source, before, reordered), after)


def _peel(layer: keras.Operation, before: keras.KerasTensor) -> _Ending:
    """The activation of one layer and, if it can be omitted, the layer without it."""
    kind = type(layer).__name__
    activation = getattr(layer, "activation", None)
    own = str(getattr(activation, "__module__", "")).startswith("keras.")
    function = str(getattr(activation, "__name__", ""))
    name = _NAMES.get(function, function if own and function != "linear" else "")
    product = isinstance(layer, keras.layers.Dense) and not getattr(
        layer, "quantization_mode", None
    )
    if kind in ("Softmax", "Sigmoid"):
        last = getattr(layer, "axis", -1) in (-1, len(before.shape) - 1)
        return (kind.lower(), _same) if last else UNKNOWN
    if activation is keras.activations.linear and product:
        return "linear", partial(_without_activation, layer)
    if name not in _NAMES.values():
        return name, None
    if kind == "Activation":
        return name, _same
    if product:
        return name, partial(_without_activation, layer)
    return name, None


def _same(inputs: Tensor) -> Tensor:
    return inputs


def _trunk(
    source: keras.KerasTensor, tensor: keras.KerasTensor, reordered: bool
) -> Callable[[Tensor], Tensor]:
    if tensor is source:
        return lambda inputs: inputs
    model = keras.Model(source, tensor)
    model = pool_before_activation(model) if reordered else model
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
