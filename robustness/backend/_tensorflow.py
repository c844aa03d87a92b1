"""TensorFlow: a tape inside `tf.function`; no XLA, which halves the speed of convolutions on CPUs."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import optree
import tensorflow as tf

from robustness.backend._messages import DISCONNECTED
from robustness.backend._tensorflow_log import unsaturated
from robustness.errors import GradientError

__all__ = [
    "OutOfMemory",
    "accelerated",
    "compile",
    "device",
    "fused",
    "linearise",
    "loops",
    "now",
    "trace",
    "unsaturated",
    "value_and_grad",
]

# Every attack compiles its own step once; TensorFlow takes that for a mistake and says so at length.
logging.getLogger("tensorflow").addFilter(lambda r: "tf.function retracing" not in str(r.msg))

OutOfMemory = (tf.errors.ResourceExhaustedError,)


def value_and_grad(
    fn: Callable[..., tuple[Any, Any]],
) -> Callable[..., tuple[tuple[Any, Any], Any]]:
    """Values, auxiliary results and per-row gradients of `fn` at its first argument."""

    def call(points: Any, *data: Any) -> tuple[tuple[Any, Any], Any]:
        points = tf.convert_to_tensor(points)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            values, aux = fn(points, *data)
        return (values, aux), _gradient(tape, values, points)

    return call


def linearise(fn: Callable[[Any], Any], points: Any) -> tuple[Any, Callable[[Any], Any]]:
    """`fn` at `points`, and its gradients there for any weights of its values."""
    points = tf.convert_to_tensor(points)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(points)
        values = fn(points)

    return values, lambda weights: _gradient(tape, values, points, output_gradients=weights)


def _gradient(tape: Any, values: Any, points: Any, **settings: Any) -> Any:
    try:
        gradient = tape.gradient(values, points, **settings)
    except LookupError as error:
        # An operation that TensorFlow has no derivative of; the first line names it.
        raise GradientError(str(error).splitlines()[0]) from None
    if gradient is None:
        raise GradientError(DISCONNECTED)
    return tf.convert_to_tensor(gradient)


def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` as one graph, traced once per structure and shape of its arguments.

    Which graph it is, is looked up here: `tf.function` takes longer over that than a small network over
    a step. What is no array is left to it.
    """
    usual = tf.function(fn, reduce_retracing=False, jit_compile=False, autograph=False)
    graphs: dict[Any, Callable[..., Any]] = {}

    def found(args: Any) -> tuple[Callable[..., Any], Any]:
        leaves, structure = optree.tree_flatten(args)
        if not tf.executing_eagerly() or not all(isinstance(x, _ARRAYS) for x in leaves):
            return lambda given: usual(*given), args
        tensors = [x if isinstance(x, tf.Tensor) else tf.convert_to_tensor(x) for x in leaves]
        which = (structure, *((x.dtype, *x.shape) for x in tensors))
        if which not in graphs:
            graphs[which] = _graph(fn, structure, tensors)
        return graphs[which], tensors

    def call(*args: Any) -> Any:
        graph, given = found(args)
        return graph(given)

    call.trace = found  # type: ignore[attr-defined]
    return call


def trace(compiled: Callable[..., Any], *args: Any) -> None:
    """What the first call of `compiled` with such arguments would do before it runs."""
    compiled.trace(args)  # type: ignore[attr-defined]


_CHANCE = re.compile(
    "Random|Multinomial|TruncatedNormal|Stateful(Uniform|StandardNormal)|PyFunc|^Assign"
)
"""Operations that draw numbers, that leave TensorFlow, or that change a variable."""


def draws_numbers(compiled: Callable[..., Any], *args: Any) -> bool:
    """Whether `compiled`, called with such arguments, may answer otherwise the next time: by its graph."""
    graph = getattr(compiled.trace(args)[0], "graph", None)  # type: ignore[attr-defined]
    if graph is None:
        return True
    definition = graph.as_graph_def()
    inside = (node for function in definition.library.function for node in function.node_def)
    return any(_CHANCE.search(node.op) for nodes in (definition.node, inside) for node in nodes)


_ARRAYS = (tf.Tensor, np.ndarray)


def _graph(
    fn: Callable[..., Any], structure: Any, tensors: list[Any]
) -> Callable[[list[Any]], Any]:
    """`fn` for tensors like these, handed in as a list."""

    def flat(*leaves: Any) -> Any:
        return fn(*optree.tree_unflatten(structure, leaves))

    usual = tf.function(flat, jit_compile=False, autograph=False)
    graph = usual.get_concrete_function(*tensors)
    # Called as it is, it binds each tensor to a name and compares its kind, which is known here.
    straight = getattr(graph, "_call_flat", None)

    def call(tensors: list[Any]) -> Any:
        return graph(*tensors) if straight is None else straight(tensors, graph.captured_inputs)

    call.graph = graph.graph  # type: ignore[attr-defined]
    return call


def fused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` of tensors, in one pass over memory: XLA; as it is where XLA may be missing."""
    one = tf.function(fn, jit_compile=True, autograph=False)

    def call(*args: Any) -> Any:
        # TensorFlow for Windows comes without XLA; for a GPU it needs tools that may not be there.
        return fn(*args) if accelerated() or sys.platform != "linux" else one(*args)

    return call


def now(fn: Callable[[], Any]) -> Any:
    """``fn()``, run at once even while a function is being traced."""
    # Graphs and tapes belong to a thread; `tf.init_scope` would leave the graph, but stop all tapes.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(fn).result()


def accelerated() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def loops() -> bool:
    """Whether a step takes no longer in a compiled loop than alone."""
    return True


def device() -> str:
    """The device that runs, in words."""
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    if names:
        return "GPU " + ", ".join(names)
    return f"CPU, {os.cpu_count()} cores{'' if _onednn() else SLOW}"


SLOW = " (oneDNN's kernels are off, which may double the time: import robustness before tensorflow)"


def _onednn() -> bool:
    """Whether TensorFlow runs oneDNN's kernels; True where it does not say."""
    try:
        from tensorflow.python.util import _pywrap_util_port as port  # noqa: PLC0415
    except ImportError:
        return True
    return bool(getattr(port, "IsMklEnabled", lambda: True)())
