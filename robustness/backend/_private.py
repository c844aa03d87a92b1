"""Wraps the private names of Keras and TensorFlow that the toolkit uses, each with a fallback.

No other module may use a private name of a framework (one with a leading underscore). Each function here
works without that name too, with the limitation that its docstring states;
`tests/robustness/backend/test_private.py` fails when a framework removes a name, and tests the fallback.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from robustness.backend.types import Tensor


class Call(NamedTuple):
    """One call in the graph of a model: the layer or operation, and its symbolic input tensors."""

    operation: keras.Operation
    inputs: list[keras.KerasTensor]


def call_behind(tensor: keras.KerasTensor, model: keras.Model) -> Call | None:
    """Return the call in the graph of `model` that computes `tensor`; None if it is not known.

    Without `KerasTensor._keras_history` the call is looked up by the outputs of the model's operations. Keras
    states those of the first call only, so that calls of shared layers and of nested models are not found.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is not None:
        nodes = getattr(history.operation, "_inbound_nodes", ())
        if history.node_index < len(nodes):
            return Call(history.operation, list(nodes[history.node_index].input_tensors))
        return None
    for operation in getattr(model, "operations", None) or model.layers:
        if any(output is tensor for output in _flat(operation, "output")):
            return Call(operation, _flat(operation, "input"))
    return None


def inputs_of_calls(layer: keras.Operation) -> list[list[keras.KerasTensor]]:
    """Return the symbolic input tensors of each call of `layer`.

    Without `_inbound_nodes`, those of the first call only.
    """
    nodes = getattr(layer, "_inbound_nodes", None)
    if nodes is None:
        return [_flat(layer, "input")]
    return [list(node.input_tensors) for node in nodes]


def _flat(operation: keras.Operation, attribute: str) -> list[keras.KerasTensor]:
    """The tensors of the first call; none for an operation that was never called in a graph."""
    try:
        return list(keras.tree.flatten(getattr(operation, attribute)))
    except (AttributeError, ValueError):
        return []


def detached(layer: keras.Operation) -> keras.Operation:
    """Return a shallow copy of a built `layer` that shares its variables, but not its place in graphs.

    Calling the copy while a graph is built does not change `layer`. `copy.copy` is not suitable: Keras saves
    and loads a layer to copy it, which creates new variables. Without `_inbound_nodes` and `_outbound_nodes`
    there is nothing to detach.
    """
    twin = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    for nodes in ("_inbound_nodes", "_outbound_nodes"):
        if nodes in twin.__dict__:
            twin.__dict__[nodes] = []
    return twin


def every_layer(model: keras.Layer) -> list[keras.Layer]:
    """Return `model` and all layers in it, each once, in the order of Keras.

    Without `Layer._flatten_layers` the order is that of `layers`, and input layers of Sequential models and
    layers within a composite layer that is not a model are not found.
    """
    flatten = getattr(model, "_flatten_layers", None)
    if flatten is not None:
        return list(flatten())
    found: list[keras.Layer] = []
    waiting = [model]
    while waiting:
        layer = waiting.pop(0)
        if not any(layer is other for other in found):
            found.append(layer)
            waiting = [*getattr(layer, "layers", ()), *waiting]
    return found


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers directly within `layer`, in the order of Keras.

    Without `Layer._flatten_layers` these are its `layers`, and a composite layer that is no model has none.
    """
    flatten = getattr(layer, "_flatten_layers", None)
    if flatten is None:
        return list(getattr(layer, "layers", ()))
    return list(flatten(include_self=False, recursive=False))


def operations() -> dict[str, type]:
    """Return what HDF5 files call by the name of an operation of Keras, by this name.

    Keras 3 writes operations there without their module, and then does not find them itself. Some have the
    name of a layer (`Subtract`), whose configuration states more.
    """
    try:
        from keras.src.ops import math, nn, numpy  # noqa: PLC0415
    except ImportError:
        return {}
    kinds = {
        name: kind
        for module in (math, nn, numpy)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, keras.Operation)
    }
    return {name: _either(kind, getattr(keras.layers, name, None)) for name, kind in kinds.items()}


def _either(operation: type, layer: type | None) -> type:
    """A class whose `from_config` makes the operation, or the layer of the same name."""
    if layer is None:
        return operation

    class Either:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            # Every layer states whether it is trained; an operation never does.
            kind: Any = layer if "trainable" in config else operation
            return kind.from_config(config)

    return Either


def without_binding(graph: Callable[..., Any]) -> Callable[[Sequence[Tensor]], Any]:
    """Return ``tensors -> graph(*tensors)`` for a concrete function of TensorFlow, without binding arguments.

    A public call binds each tensor to a parameter and compares its type, which takes as long as a step of a
    small network. Without `ConcreteFunction._call_flat` the public call is used.
    """
    call_flat = getattr(graph, "_call_flat", None)
    if call_flat is None:
        return lambda tensors: graph(*tensors)
    return lambda tensors: call_flat(tensors, graph.captured_inputs)  # type: ignore[attr-defined]


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Return the shape of a tensor of TensorFlow that has values.

    Without `_shape_tuple` TensorFlow makes an object for every length, which took a fifth of the time of a
    step on a small network.
    """
    short = getattr(tensor, "_shape_tuple", None)
    return tuple(tensor.shape) if short is None else short()


@contextlib.contextmanager
def options_of_graphs() -> Iterator[None]:
    """Let TensorFlow optimize graphs as attacks need it, in calls on this thread within the block.

    It does not reorder sums: of large arrays its memory optimizer turns ``a + b + c`` into additions to a
    temporary variable, in another order. Whether it does so depends on the batch size and the number of
    threads, and so would the last bits of a row. And it passes over a graph once, not twice: the second pass
    makes no step faster, and takes a third of the time of the first call.

    Without `context.function_call_options` its options are left as they are.
    """
    try:
        from tensorflow.python.eager.context import context as current  # noqa: PLC0415

        usual = current().function_call_options
        options = _options(usual.config_proto_serialized, usual.executor_type)
    except (AttributeError, ImportError, TypeError):
        yield
        return
    current().function_call_options = options
    try:
        yield
    finally:
        current().function_call_options = usual


@functools.lru_cache(maxsize=8)
def _options(serialized: bytes, executor: str | None) -> Any:
    """TensorFlow's options of a call of a function: no memory optimizer, one pass over the graph."""
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2  # noqa: PLC0415
    from tensorflow.python.eager.context import FunctionCallOptions  # noqa: PLC0415

    config = config_pb2.ConfigProto.FromString(serialized)
    rewriting, names = config.graph_options.rewrite_options, rewriter_config_pb2.RewriterConfig
    rewriting.memory_optimization = names.NO_MEM_OPT
    rewriting.meta_optimizer_iterations = names.ONE
    return FunctionCallOptions(executor, config)


_TRACING = threading.local()
_SHARING = threading.Lock()
_SMALL = 16
"""The largest number of elements of a constant that is shared."""


@contextlib.contextmanager
def shared_constants() -> Iterator[None]:
    """Let graphs that this thread traces within the block hold equal small constants once.

    Four in ten operations of an attack's step are constants, most of them numbers and shapes that occur
    before, and each takes as long to trace as any other operation. TensorFlow merges equal ones itself when
    it optimizes a graph, so the bits of its results are the same.

    Without `ops._create_graph_constant` each is an operation of its own.
    """
    if getattr(_TRACING, "constants", None) is not None or not _sharing_begins():
        yield
        return
    _TRACING.constants = {}
    try:
        yield
    finally:
        _TRACING.constants = None
        _sharing_ends()


_usual_constant: Callable[..., Tensor] | None = None
_tracing_threads = 0


def _sharing_begins() -> bool:
    """Replace TensorFlow's function if this thread is the first; return whether there is one."""
    global _usual_constant, _tracing_threads  # noqa: PLW0603 - the state of another module, changed once
    try:
        from tensorflow.python.framework import ops  # noqa: PLC0415

        with _SHARING:
            if not _tracing_threads:
                _usual_constant = ops._create_graph_constant
                ops._create_graph_constant = _constant
            _tracing_threads += 1
    except (AttributeError, ImportError):
        return False
    return True


def _sharing_ends() -> None:
    """Restore TensorFlow's function if this thread is the last."""
    global _tracing_threads  # noqa: PLW0603
    from tensorflow.python.framework import ops  # noqa: PLC0415

    with _SHARING:
        _tracing_threads -= 1
        if not _tracing_threads:
            ops._create_graph_constant = _usual_constant


def _constant(value: Any, dtype: Any, shape: Any, *rest: Any, **named: Any) -> Tensor:
    """A constant of the graph that is being traced: an equal one that it has already, or a new one."""
    from tensorflow.python.framework import ops  # noqa: PLC0415

    constants, content = getattr(_TRACING, "constants", None), _content(value)
    if _usual_constant is None:
        raise RuntimeError("no constants are shared")
    if constants is None or content is None:
        return _usual_constant(value, dtype, shape, *rest, **named)
    graph = ops.get_default_graph()
    # The graph is kept, so that no other one gets its id within the block.
    _, known = constants.setdefault(id(graph), (graph, {}))
    key = (content, dtype, None if shape is None else tuple(shape))
    if key not in known:
        known[key] = _usual_constant(value, dtype, shape, *rest, **named)
    return known[key]


def _content(value: Any) -> Hashable | None:
    """What two values have in common whose constants are equal to the bit; None if that is not known."""
    if isinstance(value, bool | int | str):
        return type(value), value
    if isinstance(value, float):
        return float, value.hex()
    if isinstance(value, np.ndarray | np.generic):
        small = value.size <= _SMALL and value.dtype.kind in "biuf"
        return (value.dtype.str, value.shape, value.tobytes()) if small else None
    if isinstance(value, tuple | list) and len(value) <= _SMALL:
        parts = tuple(map(_content, value))
        return None if None in parts else (type(value), parts)
    return None


def without_tracing_warnings(function: Any) -> Any:
    """Return a `tf.function` that does not warn of frequent tracing: every attack traces its step anew.

    Without `_omit_frequent_tracing_warning` TensorFlow issues long warnings, which are harmless.
    """
    if hasattr(function, "_omit_frequent_tracing_warning"):
        function._omit_frequent_tracing_warning = True
    return function


def onednn_is_on() -> bool:
    """Return whether TensorFlow uses the kernels of oneDNN; True if that is not known.

    TensorFlow reads `TF_ENABLE_ONEDNN_OPTS` at the first query only.
    """
    try:
        from tensorflow.python.util import _pywrap_util_port as port  # noqa: PLC0415
    except ImportError:
        return True
    return bool(getattr(port, "IsMklEnabled", lambda: True)())
