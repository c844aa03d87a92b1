"""Converts parts of tensors that a model of Keras 2 takes, such as ``x[..., ::-1]``."""

from __future__ import annotations

from typing import Any

from robustness.models.legacy.entries import Piece, Unconvertible, called, operation

Values = dict[str, Any]
MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def sliced(name: str, values: Values) -> Piece:
    """Return what computes a part of a tensor that `TFOpLambda` takes."""
    spec = values.get("slice_spec", values.get("y"))
    parts = spec if isinstance(spec, list) else [spec]
    return _cut(name, values["x"], [_part(one) for one in parts])


def _part(value: Any) -> Any:
    """One part of an index: an int, "..." or (start, stop, step)."""
    if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
        return "..."
    if isinstance(value, dict) and set(value) <= {"start", "stop", "step"}:
        bounds = tuple(value.get(key) for key in ("start", "stop", "step"))
        if all(one is None or type(one) is int for one in bounds):
            return bounds
    if type(value) is int:
        return value
    raise Unconvertible(f"takes a part of a tensor in a way that is not known: {str(value)[:60]!r}")


def _cut(name: str, x: Any, parts: list[Any]) -> Piece:
    """Part of a tensor; the reversal of one axis as `Flip`."""
    whole = (None, None, None)
    *rest, last = parts
    if last == (None, None, -1) and all(one in ("...", whole) for one in rest):
        axis = -1 if "..." in rest else len(rest)
        return called(operation("Flip", name, axis=axis), x)
    return called(operation("GetItem", name), x, [_index(one) for one in parts])


def _index(part: Any) -> Any:
    """A part of an index as Keras 3 stores it."""
    if part == "...":
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(part, tuple):
        return {
            "class_name": "__slice__",
            "config": dict(zip(("start", "stop", "step"), part, strict=True)),
        }
    return part


def strided(name: str, values: Values) -> Piece:
    """Return what computes a part of a tensor that TensorFlow's `StridedSlice` takes."""
    begin, end, strides = values["begin"], values["end"], values["strides"]
    if values["new_axis_mask"] or not all(isinstance(one, list) for one in (begin, end, strides)):
        raise Unconvertible("takes a part of a tensor in a way that is not known")
    parts: list[Any] = []
    for place, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << place
        if values["ellipsis_mask"] & bit:
            parts.append("...")
        elif values["shrink_axis_mask"] & bit:
            parts.append(start)
        else:
            low = None if values["begin_mask"] & bit else start
            high = None if values["end_mask"] & bit else stop
            parts.append((low, high, None if step == 1 else step))
    return _cut(name, values["x"], parts)
