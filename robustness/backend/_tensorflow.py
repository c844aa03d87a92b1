"""Implements the backend for TensorFlow: a tape inside `tf.function`.

Models are compiled without XLA, which halves the speed of convolutions on CPUs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import optree
import tensorflow as tf

from robustness.backend import _private
from robustness.backend._messages import DISCONNECTED
from robustness.backend._tensorflow_log import unsaturated
from robustness.backend.types import Tensor, TensorTree
from robustness.errors import GradientError

__all__ = [
    "OutOfMemory",
    "accelerated",
    "compile",
    "device",
    "draws_numbers",
    "fast_compiled_loops",
    "fused",
    "host_call",
    "linearise",
    "precompile",
    "run_eagerly",
    "select_rows",
    "traced_once",
    "unsaturated",
    "value_and_grad",
]

OutOfMemory = (tf.errors.ResourceExhaustedError,)

# TensorFlow reads the environment variable that `robustness` may have set; afterwards it can be restored.
_private.onednn_is_on()


def value_and_grad(
    fn: Callable[..., tuple[Tensor, TensorTree]],
) -> Callable[..., tuple[tuple[Tensor, TensorTree], Tensor]]:
    """Return values, auxiliary results and per-row gradients of `fn` at its first argument.

    Raises GradientError, when called, if the values do not depend on the first argument.
    """

    def call(points: Tensor, *data: TensorTree) -> tuple[tuple[Tensor, TensorTree], Tensor]:
        points = tf.convert_to_tensor(points)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            values, aux = fn(points, *data)
        return (values, aux), _gradient(tape, values, points)

    return call


def linearise(
    fn: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return `fn` at `points`, and a function from weights of its values to the gradient at `points`."""
    points = tf.convert_to_tensor(points)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(points)
        values = fn(points)

    return values, lambda weights: _gradient(tape, values, points, output_gradients=weights)


def _gradient(tape: tf.GradientTape, values: Tensor, points: Tensor, **settings: Tensor) -> Tensor:
    try:
        gradient = tape.gradient(values, points, **settings)
    except LookupError as error:
        # An operation for which TensorFlow has no derivative; the first line names it.
        raise GradientError(str(error).splitlines()[0]) from None
    if gradient is None:
        raise GradientError(DISCONNECTED)
    return tf.convert_to_tensor(gradient)


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` as one graph, traced once per structure, shape and dtype of its arguments.

    The graph is looked up here, because the look-up of `tf.function` takes longer than a step of a small
    network. Calls with arguments that are not arrays use `tf.function`.
    """
    usual = _private.without_tracing_warnings(
        tf.function(fn, reduce_retracing=False, jit_compile=False, autograph=False)
    )
    graphs: dict[Any, Callable[..., Any]] = {}

    def graph_of(args: TensorTree) -> tuple[Callable[..., Any], Any]:
        leaves, structure = optree.tree_flatten(args)
        if not tf.executing_eagerly() or not all(isinstance(x, _ARRAYS) for x in leaves):
            return lambda given: usual(*given), args
        tensors = [x if isinstance(x, tf.Tensor) else tf.convert_to_tensor(x) for x in leaves]
        signature = (structure, *((x.dtype, _private.shape_of(x)) for x in tensors))
        if signature not in graphs:
            graphs[signature] = _graph(fn, structure, tensors)
        return graphs[signature], tensors

    def call(*args: TensorTree) -> Any:
        graph, given = graph_of(args)
        with _private.options_of_graphs():
            return graph(given)

    call.graph_of = graph_of  # type: ignore[attr-defined]
    return call


def precompile(compiled: Callable[..., Any], *args: TensorTree) -> None:
    """Trace `compiled` for such arguments, as its first call would, without running it."""
    compiled.graph_of(args)  # type: ignore[attr-defined]


_CHANCE = re.compile(
    "Random|Multinomial|TruncatedNormal|Stateful(Uniform|StandardNormal)|PyFunc|^Assign"
)
"""Operations that draw random numbers, run Python code, or change a variable."""


def draws_numbers(compiled: Callable[..., Any], *args: TensorTree) -> bool:
    """Return whether two calls of `compiled` with such arguments may differ, judged by its graph."""
    graph = getattr(compiled.graph_of(args)[0], "graph", None)  # type: ignore[attr-defined]
    if graph is None:
        return True
    definition = graph.as_graph_def()
    inside = (node for function in definition.library.function for node in function.node_def)
    return any(_CHANCE.search(node.op) for nodes in (definition.node, inside) for node in nodes)


_ARRAYS = (tf.Tensor, np.ndarray)


def _graph(
    fn: Callable[..., Any], structure: Any, tensors: list[Tensor]
) -> Callable[[list[Tensor]], Any]:
    """`fn` traced for tensors like these; takes them as a list."""

    def flat(*leaves: Tensor) -> Any:
        return fn(*optree.tree_unflatten(structure, leaves))

    usual = tf.function(flat, jit_compile=False, autograph=False)
    with _private.shared_constants():
        graph = usual.get_concrete_function(*tensors)
    call = _private.without_binding(graph)
    call.graph = graph.graph  # type: ignore[attr-defined]
    return call


def fused(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `fn` of tensors, in one pass over memory (XLA); not compiled where XLA may be missing."""
    with_xla = _private.without_tracing_warnings(tf.function(fn, jit_compile=True, autograph=False))

    def call(*args: Tensor) -> Tensor:
        # TensorFlow for Windows has no XLA; for a GPU XLA needs tools that may not be installed.
        return fn(*args) if accelerated() or sys.platform != "linux" else with_xla(*args)

    return call


def select_rows(condition: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Return the rows of `chosen` where `condition` (rows,) is true, those of `other` elsewhere.

    `tf.where` broadcasts the condition, which takes ten times as long as copying rows.
    """
    return tf.raw_ops.Select(condition=condition, x=chosen, y=other)


def host_call(fn: Callable[..., np.ndarray], shape: tuple[int, ...], *args: Tensor) -> Tensor:
    """Return float32 `fn` of NumPy arrays, of `shape`."""
    result = tf.numpy_function(fn, args, tf.float32)
    return tf.ensure_shape(result, shape)


def traced_once(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `fn` of tensors, traced once per shape; TensorFlow inlines it where a graph calls it."""
    return _private.without_tracing_warnings(tf.function(fn, jit_compile=False, autograph=False))


def run_eagerly(fn: Callable[[], Any]) -> Any:
    """Return ``fn()``, run immediately even while a function is being traced."""
    # Another thread has no graph and no tape; `tf.init_scope` would leave the graph, but stop all tapes.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(fn).result()


def accelerated() -> bool:
    """Return whether TensorFlow has a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def fast_compiled_loops() -> bool:
    """Return True: a step takes no longer in a compiled loop than outside it."""
    return True


def device() -> str:
    """Return the name of the device that computes; for a CPU also whether its kernels are slow."""
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    if names:
        return "GPU " + ", ".join(names)
    return f"CPU, {os.cpu_count()} cores{'' if _private.onednn_is_on() else SLOW}"


SLOW = " (oneDNN's kernels are off, which may double the time: import robustness before tensorflow)"
