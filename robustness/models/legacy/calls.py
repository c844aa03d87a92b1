"""Reads the calls of layers and the references to their outputs from configurations of Keras 1 and 2."""

from __future__ import annotations

from typing import Any

from robustness.models.legacy.entries import Call, Config, Ref, Unconvertible, text_of
from robustness.models.legacy.operations import OPERATION_LAYERS


def place_of(entry: Config) -> str:
    """Return the name and the class of a layer for messages."""
    inner = entry.get("config")
    name = inner.get("name") if isinstance(inner, dict) else entry.get("name")
    return f"layer {str(name)[:60]!r} ({str(entry.get('class_name'))[:60]})"


def key_of(entry: Config) -> str:
    """Return the name of a layer that others refer to."""
    inner = entry.get("config")
    return text_of(entry.get("name") or (inner.get("name") if isinstance(inner, dict) else None))


def calls_of(entry: Config) -> list[Call]:
    """Return the calls of a layer in a graph."""
    nodes = entry.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise Unconvertible(f"{place_of(entry)} has calls that are no list")
    return [_call(entry, one) for one in nodes]


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and type(value[1]) is int
    )


def _call(entry: Config, node: Any) -> Call:
    if isinstance(node, dict) and "args" in node:
        raise Unconvertible(f"{place_of(entry)} stores its calls as Keras 3 does")
    if _is_reference(node):
        refs = [node]
    elif isinstance(node, list) and node and all(_is_reference(one) for one in node):
        refs = node
    elif isinstance(node, list) and len(node) == 1 and isinstance(node[0], list):
        return _call(entry, node[0])
    else:
        raise Unconvertible(
            f"{place_of(entry)} is called with arguments in an order that is not known"
        )
    several = len(refs) > 1 or (not _is_reference(node) and entry.get("class_name") in OPERATION_LAYERS
                                and "concat" in str(entry.get("config", {}).get("function")))  # fmt: skip
    tensors = [_tensor(one) for one in refs]
    last = refs[0][3] if len(refs[0]) > 3 else {}
    kwargs = {str(k): _argument(v) for k, v in (last or {}).items()}
    if entry.get("class_name") not in OPERATION_LAYERS:
        kwargs = {k: v for k, v in kwargs.items() if v is not None}
    return Call([tensors if several else tensors[0]], kwargs)


def _tensor(value: list[Any]) -> Any:
    """A reference to a tensor, or the constant that is written in its place."""
    if value[0] == "_CONSTANT_VALUE":
        return value[2]
    return Ref(value[0], value[1], value[2])


def _argument(value: Any) -> Any:
    """A keyword argument: references to tensors in it are found by their form."""
    if _is_reference(value) and len(value) in (3, 4) and type(value[2]) is int:
        return _tensor(value)
    if isinstance(value, list):
        return [_argument(one) for one in value]
    return value


def references_of(value: Any) -> list[Ref]:
    """Return the references in the inputs or outputs of a model."""
    if _is_reference(value):
        value = [value]
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list) or not all(_is_reference(one) for one in value):
        raise Unconvertible("states its inputs or outputs in a form that is not known")
    return [Ref(one[0], one[1], one[2]) for one in value]
