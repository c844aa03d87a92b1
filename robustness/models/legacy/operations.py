"""Converts operations of TensorFlow that a model of Keras 2 calls to layers and operations of Keras 3.

Keras 2 stores ``x / 127.5 - 1`` as layers `TFOpLambda` (`TensorFlowOpLayer` before 2.4), which name a
function of TensorFlow. The tables here hold the functions that are known; nothing is looked up or evaluated
by name.
Sums and products with constants become `Rescaling`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from robustness.models.legacy.entries import (
    Call,
    Config,
    Piece,
    Ref,
    Unconvertible,
    called,
    layer,
    operation,
    text_of,
)
from robustness.models.legacy.slices import MASKS, sliced, strided

OPERATION_LAYERS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
Values = dict[str, Any]
Maker = Callable[[str, Values], Piece]
_PREFIXES = ("tf.", "compat.v1.", "compat.v2.", "math.", "nn.", "__operators__.", "linalg.")


def operation_piece(entry: Config, call: Call) -> Piece:
    """Return what computes a call of a TensorFlow operation.

    Parameters
    ----------
    entry : the layer of Keras 2.
    call : its only call.

    Raises
    ------
    Unconvertible
        The operation, or one of its settings, is not in the tables.
    """
    name = text_of(entry["config"]["name"])
    if entry["class_name"] == "TensorFlowOpLayer":
        function, values = _node(entry["config"], call)
    else:
        function = text_of(entry["config"].get("function"))
        for prefix in _PREFIXES:
            function = function.removeprefix(prefix)
        values = _named(function, call)
    maker = _MAKERS.get(function)
    if maker is None:
        raise Unconvertible(
            f"calls the TensorFlow function {function[:60]!r}, which is not among those known"
        )
    piece = maker(name, values)
    if piece.call is None:
        piece.call = Call([values["x"]])
    return piece


def _named(function: str, call: Call) -> Values:
    """The arguments by name: `x` the first, `y` the second, others as they are called."""
    values = {
        key: value for key, value in call.kwargs.items() if value is not None and key != "name"
    }
    for key, value in zip(("x", "y", "z"), call.args, strict=False):
        values[key] = value
    for key in (
        "input_tensor",
        "input",
        "images",
        "features",
        "value",
        "values",
        "tensor",
        "a",
        "t",
        "logits",
    ):
        if "x" not in values and key in values:
            values["x"] = values.pop(key)
    if "x" not in values:
        raise Unconvertible(f"calls {function[:60]!r} without an argument")
    return values


def _node(config: Config, call: Call) -> tuple[str, Values]:
    """The function and the arguments of a `TensorFlowOpLayer`."""
    node = config.get("node_def")
    if isinstance(node, str):
        try:
            node = json.loads(node)
        except ValueError:
            raise Unconvertible("is a TensorFlow operation that is not stored as JSON") from None
    if not isinstance(node, dict):
        raise Unconvertible("is a TensorFlow operation that is not stored as JSON")
    constants = config.get("constants") or {}
    flat = call.refs()
    count = len(flat) + len(constants)
    inputs = iter(flat)
    values: list[Any] = []
    for place in range(count):
        held = constants.get(str(place), constants.get(place))
        values.append(next(inputs, None) if held is None else held)
    return _OPS.get(text_of(node.get("op")), text_of(node.get("op"))), _op_values(node, values)


_OPS = {
    "RealDiv": "truediv", "Add": "add", "AddV2": "add", "Sub": "subtract", "Mul": "multiply",
    "BiasAdd": "bias_add", "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Softmax": "softmax", "Maximum": "maximum", "Minimum": "minimum", "Square": "square", "Neg": "negative",
    "Mean": "reduce_mean", "StridedSlice": "strided_slice", "Pow": "pow", "Exp": "exp", "Sqrt": "sqrt",
}  # fmt: skip


def _op_values(node: Config, values: list[Any]) -> Values:
    attributes = node.get("attr")
    attributes = attributes if isinstance(attributes, dict) else {}
    named: Values = dict(zip(("x", "y", "z", "w"), values, strict=False))
    if node.get("op") == "Mean":
        return {
            "x": values[0],
            "axis": values[1],
            "keepdims": bool((attributes.get("keep_dims") or {}).get("b")),
        }
    if node.get("op") == "StridedSlice":
        masks = {key: int((attributes.get(key) or {}).get("i", 0)) for key in MASKS}
        return {"x": values[0], "begin": values[1], "end": values[2], "strides": values[3], **masks}
    if "data_format" in attributes and (attributes["data_format"] or {}).get("s") not in (
        "TkhXQw==",
        "NHWC",
        None,
    ):
        raise Unconvertible("adds a bias to the first axis")
    return named


def _constant(value: Any) -> float | list[float] | None:
    """A number, or a list with one for each channel; None for a tensor."""
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list) and value and all(type(one) in (int, float) for one in value):
        return [float(one) for one in value]
    return None


def _each(change: Callable[[float], float], value: float | list[float]) -> float | list[float]:
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def _scaled(name: str, x: Any, scale: Any, offset: Any) -> Piece:
    piece = layer("Rescaling", name, scale=scale, offset=offset)
    piece.call = Call([x])
    return piece


def _binary(
    class_name: str,
    right: Callable[[Any], tuple[Any, Any]] | None,
    left: Callable[[Any], tuple[Any, Any]] | None,
) -> Maker:
    """An operation on two tensors, or on one and a constant.

    Parameters
    ----------
    class_name : the operation of Keras 3.
    right, left : scale and offset if the constant is on the right, or the left; None if that is no scaling.
    """

    def make(name: str, values: Values) -> Piece:
        x, y = values["x"], values.get("y")
        if y is None:
            raise Unconvertible(f"calls {class_name} with one argument")
        if isinstance(x, Ref) and isinstance(y, Ref):
            return called(operation(class_name, name), x, y)
        ref, value, rule = (x, y, right) if isinstance(x, Ref) else (y, x, left)
        constant = _constant(value)
        if not isinstance(ref, Ref) or constant is None:
            raise Unconvertible(
                f"calls {class_name} with an argument that is neither a tensor nor numbers"
            )
        if rule is not None:
            return _scaled(name, ref, *rule(constant))
        if isinstance(constant, list):
            raise Unconvertible(f"calls {class_name} with a list of numbers")
        return called(
            operation(class_name, name), *((x, constant) if isinstance(x, Ref) else (constant, y))
        )

    return make


def _activation(function: str) -> Maker:
    def make(name: str, values: Values) -> Piece:
        if set(values) - {"x", "axis", "alpha", "approximate"}:
            raise Unconvertible(f"calls {function} with settings that are not known")
        if function == "gelu" and values.get("approximate"):
            return operation("Gelu", name, "nn", approximate=True)
        if function == "leaky_relu":
            return layer("LeakyReLU", name, negative_slope=values.get("alpha", 0.2))
        if function == "softmax" and values.get("axis", -1) != -1:
            return layer("Softmax", name, axis=values["axis"])
        return layer("Activation", name, activation=function)

    return make


def _unary(class_name: str, module: str = "numpy") -> Maker:
    return lambda name, values: operation(class_name, name, module)


def _reduced(class_name: str) -> Maker:
    def make(name: str, values: Values) -> Piece:
        axis = values.get("axis", values.get("y"))
        if isinstance(axis, Ref):
            raise Unconvertible("reduces along an axis that it computes")
        keep = bool(values.get("keepdims", values.get("keep_dims", False)))
        return operation(class_name, name, axis=axis, keepdims=keep)

    return make


def _bias(name: str, values: Values) -> Piece:
    offset = _constant(values.get("bias", values.get("y")))
    if offset is None or values.get("data_format", "NHWC") not in ("NHWC", "N...C"):
        raise Unconvertible("adds a bias that is not numbers along the last axis")
    return _scaled(name, values["x"], 1.0, offset)


def _concat(name: str, values: Values) -> Piece:
    parts = values["x"]
    if not isinstance(parts, list) or not all(isinstance(one, Ref) for one in parts):
        raise Unconvertible("joins what is not a list of tensors")
    return called(layer("Concatenate", name, axis=values.get("axis", values.get("y", -1))), parts)


def _squeezed(name: str, values: Values) -> Piece:
    axis = values.get("axis", values.get("y"))
    return operation(
        "Squeeze", name, axis=axis if not isinstance(axis, list) or len(axis) != 1 else axis[0]
    )


def _expanded(name: str, values: Values) -> Piece:
    return operation("ExpandDims", name, axis=_number(values.get("axis", values.get("y"))))


def _number(value: Any) -> int:
    if type(value) is not int:
        raise Unconvertible(f"has an axis that is no whole number: {str(value)[:40]!r}")
    return value


def _reshaped(name: str, values: Values) -> Piece:
    shape = values.get("shape", values.get("y"))
    shape = shape if isinstance(shape, list) and all(type(n) is int for n in shape) else []
    if len(shape) < 2 or shape[0] != -1:
        raise Unconvertible("reshapes to a shape that it computes, or together with the batch")
    return layer("Reshape", name, target_shape=shape[1:])


def _transposed(name: str, values: Values) -> Piece:
    order = values.get("perm", values.get("y"))
    if not isinstance(order, list) or order[:1] != [0]:
        raise Unconvertible("moves the axis of the batch")
    return layer("Permute", name, dims=order[1:])


def _padded(name: str, values: Values) -> Piece:
    widths = values.get("paddings", values.get("y"))
    mode = str(values.get("mode", "CONSTANT")).lower()
    if not isinstance(widths, list) or values.get("constant_values", 0) != 0:
        raise Unconvertible("pads with other numbers than 0")
    return operation("Pad", name, pad_width=widths, mode=mode)


def _cast(name: str, values: Values) -> Piece:
    dtype = str(values.get("dtype", values.get("y")))
    if dtype not in ("float32", "float16", "bfloat16", "float64"):
        raise Unconvertible(f"casts to {dtype[:20]!r}")
    return operation("Cast", name, "core", dtype=dtype)


def _clipped(name: str, values: Values) -> Piece:
    low = _constant(values.get("clip_value_min", values.get("y")))
    high = _constant(values.get("clip_value_max", values.get("z")))
    if not isinstance(low, float) or not isinstance(high, float):
        raise Unconvertible("clips to what is not two numbers")
    return operation("Clip", name, x_min=low, x_max=high)


def _resized(name: str, values: Values) -> Piece:
    size, method = values.get("size", values.get("y")), values.get("method", "bilinear")
    if values.get("preserve_aspect_ratio") or values.get("antialias"):
        raise Unconvertible("resizes with antialiasing or a kept aspect")
    known = method in ("bilinear", "nearest", "bicubic")
    if not known or not isinstance(size, list) or _constant(size) is None or len(size) != 2:
        raise Unconvertible(f"resizes by {str(method)[:20]!r}")
    return layer("Resizing", name, height=size[0], width=size[1], interpolation=method)


def _flipped(name: str, values: Values) -> Piece:
    return operation("Flip", name, axis=values.get("axis", values.get("y")))


def _powered(name: str, values: Values) -> Piece:
    power = _constant(values.get("y"))
    if not isinstance(values["x"], Ref) or not isinstance(power, float):
        raise Unconvertible("raises to a power that is no number")
    return called(operation("Power", name), values["x"], power)


def _inverse(value: float) -> float:
    if value == 0:
        raise Unconvertible("divides by 0")
    return 1.0 / value


_MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("add", "add_v2"), _binary("Add", lambda c: (1.0, c), lambda c: (1.0, c))),
    **dict.fromkeys(
        ("subtract", "sub"), _binary("Subtract", lambda c: (1.0, _each(lambda v: -v, c)), lambda c: (-1.0, c))
    ),
    **dict.fromkeys(("multiply", "mul"), _binary("Multiply", lambda c: (c, 0.0), lambda c: (c, 0.0))),
    **dict.fromkeys(
        ("truediv", "divide", "div", "realdiv"),
        _binary("TrueDivide", lambda c: (_each(_inverse, c), 0.0), None),
    ),
    "maximum": _binary("Maximum", None, None),
    "minimum": _binary("Minimum", None, None),
    "pow": _powered,
    **{name: _activation(name) for name in ("relu", "relu6", "sigmoid", "tanh", "elu", "selu")},
    "softplus": _activation("softplus"),
    **{name: _activation(name) for name in ("softsign", "silu", "gelu", "leaky_relu")},
    **{name: _activation(name) for name in ("softmax", "log_softmax")},
    "swish": _activation("silu"),
    "exp": _unary("Exp"),
    "sqrt": _unary("Sqrt"),
    "rsqrt": _unary("Rsqrt", "math"),
    "square": _unary("Square"),
    "abs": _unary("Absolute"),
    "negative": lambda name, values: _scaled(name, values["x"], -1.0, 0.0),
    "log": _unary("Log"),
    **{f"reduce_{name.lower()}": _reduced(name) for name in ("Mean", "Sum", "Max", "Min")},
    "bias_add": _bias,
    "concat": _concat,
    "squeeze": _squeezed,
    "expand_dims": _expanded,
    "reshape": _reshaped,
    "transpose": _transposed,
    "pad": _padded,
    "cast": _cast,
    "clip_by_value": _clipped,
    "image.resize": _resized,
    "reverse": _flipped,
    "getitem": sliced,
    "strided_slice": strided,
    **dict.fromkeys(("stop_gradient", "identity"), lambda name, values: layer("Identity", name)),
}  # fmt: skip
