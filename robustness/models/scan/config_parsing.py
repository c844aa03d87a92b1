"""Reads names, shapes and connections of layers from Keras configurations of any version."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from robustness.models.scan.config_safety import quote
from robustness.models.scan.layer_sizes import Config, Shape, Unfollowed, whole


def name_of(entry: Config) -> str:
    """Return a layer's name and class for messages."""
    inner = entry.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return f"layer {quote(name)} ({quote(entry.get('class_name'))[1:-1]})"


def tables(config: Any) -> Iterator[Config]:
    """Yield every dict within a configuration, itself included."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def shape_of(value: Any) -> Shape:
    """Return a shape from a configuration, the batch first; Unfollowed if `value` is not a shape."""
    if isinstance(value, dict) and value.get("class_name") in ("__tuple__", "TensorShape"):
        value = value.get("items") or value.get("config")
    if not isinstance(value, (list, tuple)) or not value:
        raise Unfollowed("a shape that is none")
    return tuple(None if n is None else whole(n) for n in value)


def input_shape_of(layer: Config) -> Shape | None:
    """Return the input shape that a layer declares, the batch first; None if it declares none."""
    inner = layer["config"]
    for key in ("batch_shape", "batch_input_shape"):
        if inner.get(key) is not None:
            return shape_of(inner[key])
    if layer.get("class_name") == "InputLayer" and inner.get("shape") is not None:
        return (None, *shape_of(inner["shape"]))
    return None


def sequential_shapes(entry: Config, inner: Any) -> list[Shape]:
    """Return the input shape that a Sequential model was built with; Unfollowed if it states none."""
    said = inner.get("build_input_shape") if isinstance(inner, dict) else None
    build = entry.get("build_config")
    if said is None and isinstance(build, dict):
        said = build.get("input_shape")
    if said is None:
        raise Unfollowed(f"{name_of(entry)} says no input shape")
    return [shape_of(said)]


def build_shapes(build: Config) -> list[Shape]:
    """Return the shapes that a layer was built with; Unfollowed for a custom build configuration."""
    shapes = build.get("shapes_dict", build)
    if set(shapes) - {"input_shape", "query_shape", "value_shape", "key_shape"}:
        raise Unfollowed("a way of its own to be built")
    names = [n for n in ("input_shape", "query_shape", "value_shape", "key_shape") if shapes.get(n)]
    if names != ["input_shape"]:
        return [shape_of(shapes[name]) for name in names]
    said = shapes["input_shape"]
    several = isinstance(said, list) and said and isinstance(said[0], (list, dict))
    return [shape_of(one) for one in said] if several else [shape_of(said)]


def references(value: Any) -> list[list[Any]]:
    """Return a list of references to tensors of a graph, each ``[layer, node, place]``."""
    if value and not isinstance(value[0], list):
        return [value]
    return list(value)


def arguments(node: Any) -> list[tuple[Any, Any, Any]]:
    """Return the input tensors of a call in order, each as (layer, node, place).

    Raises Unfollowed for a call with other arguments that can change its sizes.
    """
    if isinstance(node, list):
        if any(len(one) > 3 and one[3] for one in node):
            raise Unfollowed("a layer is called with settings of its own")
        return [(one[0], one[1], one[2]) for one in node]
    found: list[tuple[Any, Any, Any]] = []
    pending = deque(node["args"])
    while pending:
        value = pending.popleft()
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            name, index, place = value["config"]["keras_history"]
            found.append((name, index, place))
        elif isinstance(value, list):
            pending.extendleft(reversed(value))
        elif not isinstance(value, (int, float, str, type(None))):
            raise Unfollowed("a layer is called with a value of its own")
    for key, value in (node.get("kwargs") or {}).items():
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            if key not in ("query", "value", "key", "inputs"):
                raise Unfollowed(f"a layer is called with {str(key)[:40]!r}")
            name, index, place = value["config"]["keras_history"]
            found.append((name, index, place))
        elif isinstance(value, (list, dict)):
            raise Unfollowed("a layer is called with settings of its own")
    return found
