"""Computes logits from the inputs of saturating operations in a TensorFlow graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from robustness.backend import _private
from robustness.backend.types import Tensor


class UnknownOperationError(Exception):
    """The graph contains an operation with no rule for its logarithm."""


class Reader:
    """Traces the operations that compute a tensor back to `inputs`, and computes its logarithm from them.

    A probability of exp(-90) is zero in float32 and has no gradient. Its logarithm is computed from the input
    of the softmax; those of averages, products and quotients of probabilities from their logarithms.
    """

    def __init__(self, inputs: Tensor) -> None:
        self._inputs = inputs
        self._known: dict[Any, Any] = {}

    def logits(self, outputs: Tensor, *, single: bool) -> Tensor:
        """Return the logits of a model's outputs.

        Parameters
        ----------
        outputs : probabilities (n, classes) of a softmax, or (n, 1) of a sigmoid.
        single : whether they are those of a sigmoid.

        Raises
        ------
        UnknownOperationError
            An operation has no rule for its logarithm.
        """
        plain = outputs
        while plain.op.type in _SAME:
            plain = plain.op.inputs[0]
        last = plain.op.type == ("Sigmoid" if single else "Softmax")
        if last and plain.shape.rank == 2:
            # Not the log-softmax: these are the numbers that the model itself computes.
            return tf.cast(plain.op.inputs[0], tf.float32)
        if single:
            return self.log(outputs) - self.log_rest(outputs)
        return self.log(outputs)

    def log(self, tensor: Tensor) -> Tensor:
        """Return the logarithm of a tensor of numbers >= 0, float32. Raises UnknownOperationError."""
        key = tensor.ref()
        if key not in self._known:
            self._known[key] = self._log(tensor)
        return self._known[key]

    def _log(self, tensor: Tensor) -> Tensor:
        if not self._follows(tensor):
            return tf.math.log(tf.cast(tensor, tf.float32))
        rule = _RULES.get(tensor.op.type)
        if rule is None or tensor is self._inputs:
            raise UnknownOperationError(tensor.op.type)
        return rule(self, tensor.op)

    def log_rest(self, tensor: Tensor) -> Tensor:
        """Return the logarithm of one minus a tensor. Raises UnknownOperationError."""
        op = tensor.op
        if op.type in _SAME:
            return self.log_rest(op.inputs[0])
        if op.type == "Sigmoid":
            return -tf.nn.softplus(_float(op.inputs[0]))
        if op.type == "Sub" and _constant(op.inputs[0]) == 1:
            return self.log(op.inputs[1])
        if op.type in ("RealDiv", "Reciprocal"):
            # 1 - a / (a + b) = b / (a + b).
            below = op.inputs[-1]
            above = 1.0 if op.type == "Reciprocal" else _constant(op.inputs[0])
            parts = list(below.op.inputs) if below.op.type in ("AddV2", "Add") else []
            for one, other in (parts, parts[::-1]) if parts else ():
                if above is not None and _constant(one) == above:
                    return self.log(other) - self.log(below)
        raise UnknownOperationError(op.type)

    def _follows(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the inputs."""
        seen, waiting = set(), [tensor]
        while waiting:
            one = waiting.pop()
            if one is self._inputs:
                return True
            if one.ref() not in seen:
                seen.add(one.ref())
                waiting += one.op.inputs
        return False


def _float(tensor: Tensor) -> Tensor:
    return tf.cast(tensor, tf.float32)


def _constant(tensor: Tensor) -> float | None:
    """The value of a constant tensor with one element; None for any other tensor."""
    value = tf.get_static_value(tensor)
    return float(value) if value is not None and value.size == 1 else None


def _sum(reader: Reader, op: tf.Operation) -> Tensor:
    return tf.reduce_logsumexp(
        reader.log(op.inputs[0]), axis=op.inputs[1], keepdims=op.get_attr("keep_dims")
    )


def _mean(reader: Reader, op: tf.Operation) -> Tensor:
    before, after = op.inputs[0], op.outputs[0]
    count = tf.size(before, out_type=tf.int64) / tf.size(after, out_type=tf.int64)
    return _sum(reader, op) - tf.math.log(_float(count))


def _together(reader: Reader, op: tf.Operation) -> Tensor:
    """A sum of tensors."""
    shape = tf.shape(op.outputs[0])
    parts = [tf.broadcast_to(reader.log(x), shape) for x in op.inputs]
    return tf.reduce_logsumexp(tf.stack(parts), axis=0)


def _rest(reader: Reader, op: tf.Operation) -> Tensor:
    if _constant(op.inputs[0]) != 1:
        raise UnknownOperationError(op.type)
    return reader.log_rest(op.inputs[1])


def _sliced(reader: Reader, op: tf.Operation) -> Tensor:
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    begin, end, strides = op.inputs[1:]
    settings = {name: op.get_attr(name) for name in masks}
    return tf.raw_ops.StridedSlice(
        input=reader.log(op.inputs[0]), begin=begin, end=end, strides=strides, **settings
    )


def _bounded(reader: Reader, op: tf.Operation) -> Tensor:
    """Clipping is ignored, so that the logarithm has a gradient outside the bounds, too."""
    some = [x for x in op.inputs if reader._follows(x)]
    if len(some) != 1:
        raise UnknownOperationError(op.type)
    return reader.log(some[0])


_SAME = ("Identity", "Cast", "StopGradient", "PreventGradient", "CheckNumerics", "EnsureShape")
_RULES: dict[str, Callable[[Reader, tf.Operation], Tensor]] = {
    **dict.fromkeys(_SAME, lambda reader, op: reader.log(op.inputs[0])),
    "Softmax": lambda _, op: tf.nn.log_softmax(_float(op.inputs[0])),
    "Sigmoid": lambda _, op: -tf.nn.softplus(-_float(op.inputs[0])),
    "Exp": lambda _, op: _float(op.inputs[0]),
    "Mul": lambda reader, op: reader.log(op.inputs[0]) + reader.log(op.inputs[1]),
    "RealDiv": lambda reader, op: reader.log(op.inputs[0]) - reader.log(op.inputs[1]),
    "Reciprocal": lambda reader, op: -reader.log(op.inputs[0]),
    "Sqrt": lambda reader, op: reader.log(op.inputs[0]) / 2,
    "Square": lambda reader, op: 2 * reader.log(op.inputs[0]),
    "Sub": _rest,
    "Sum": _sum,
    "Mean": _mean,
    **dict.fromkeys(("AddV2", "Add", "AddN"), _together),
    **dict.fromkeys(("Maximum", "Minimum", "ClipByValue"), _bounded),
    "Reshape": lambda reader, op: tf.reshape(reader.log(op.inputs[0]), op.inputs[1]),
    "Squeeze": lambda reader, op: tf.squeeze(
        reader.log(op.inputs[0]), axis=list(op.get_attr("squeeze_dims"))
    ),
    "ExpandDims": lambda reader, op: tf.expand_dims(reader.log(op.inputs[0]), op.inputs[1]),
    "Transpose": lambda reader, op: tf.transpose(reader.log(op.inputs[0]), op.inputs[1]),
    "ConcatV2": lambda reader, op: tf.concat(
        [reader.log(x) for x in op.inputs[:-1]], tf.get_static_value(op.inputs[-1])
    ),
    "Pack": lambda reader, op: tf.stack([reader.log(x) for x in op.inputs], op.get_attr("axis")),
    "StridedSlice": _sliced,
    "GatherV2": lambda reader, op: tf.gather(
        reader.log(op.inputs[0]), op.inputs[1], axis=tf.get_static_value(op.inputs[2])
    ),
}
"""Rules for the logarithm of an operation's output, by its type."""


def unsaturated(
    fn: Callable[[Tensor], Tensor], sample: Tensor, *, single: bool
) -> Callable[[Tensor], Tensor] | None:
    """Return a function for the logits of ``fn(inputs)``, or None; see `robustness.backend`."""

    def found(inputs: Tensor) -> Tensor:
        inputs = tf.convert_to_tensor(inputs)
        return Reader(inputs).logits(fn(inputs), single=single)

    traced = _private.without_tracing_warnings(
        tf.function(found, autograph=False, jit_compile=False)
    )
    try:
        traced.get_concrete_function(tf.convert_to_tensor(sample))
    except (UnknownOperationError, AttributeError, ValueError, TypeError):
        return None
    # While an outer graph is traced, its own tensors are read, so that a tape around it records them.
    return lambda inputs: traced(inputs) if tf.executing_eagerly() else found(inputs)
