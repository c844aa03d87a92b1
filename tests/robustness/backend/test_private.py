"""Tests of private names of frameworks: all are in one file, exist, and have a working fallback."""

from __future__ import annotations

import ast
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from robustness.backend import _private

ROOT = Path(__file__).parents[3]
PACKAGES = ("robustness", "attacks", "reports", "model_zoo")
OWN_FILE = ROOT / "robustness" / "backend" / "_private.py"
SESSION = ("model_zoo/kaggle/client.py", "_session")
"""Private name of Kaggle's client, which is not a framework; tested in tests/model_zoo."""
DISTRIBUTION = ("robustness/plugins.py", "_normalized_name")
"""The name of a package whose METADATA cannot be read; `name` is the fallback."""
DOCUMENTED = {"_fields", "_replace", "_exit"}
"""Public names of Python's standard library: of named tuples, and of `os`."""
EXIT_FUNCTIONS = ("robustness/__main__.py", "_run_exitfuncs")
"""Of Python's `atexit`, for an interrupted process; without it test_exit_codes.py fails."""
HISTORY = ("robustness/models/old_keras/worker.py", "_keras_history")
"""Of tf_keras, which runs in a process of its own and is no longer developed."""

SHUFFLE = ("robustness/images/datasets.py", "_reshuffle_each_iteration")
"""Of a shuffled tf.data set; without it nothing is known, and test_datasets.py fails."""

READ_PART = ("robustness/files/remote/stores.py", "_cat_file")
"""The documented coroutine of fsspec's asynchronous file systems; without it test_remote.py fails."""


def sources() -> dict[Path, ast.AST]:
    paths = (p for folder in PACKAGES for p in (ROOT / folder).rglob("*.py"))
    return {p: ast.parse(p.read_text("utf-8")) for p in paths if p != OWN_FILE}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined(tree: ast.AST) -> set[str]:
    """The private names that a module defines: functions, variables, attributes, parameters."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).rpartition(".")[2])
    return {name for name in names if is_private(name)}


def foreign(tree: ast.AST, own: set[str]) -> set[str]:
    """The private attributes that are read from objects and that no module of the toolkit defines."""
    read = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            read |= {str(a.value) for a in node.args[1:2] if isinstance(a, ast.Constant)}
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("robustness"):
            read |= {a.name for a in node.names}
            read |= set((node.module or "").split("."))
    return {name for name in read if is_private(name)} - own - DOCUMENTED


@pytest.mark.slow
def test_private_names_of_frameworks_are_used_in_one_file():
    trees = sources()
    own = set().union(*map(defined, trees.values()))
    used = {
        (path.relative_to(ROOT).as_posix(), name)
        for path, tree in trees.items()
        for name in foreign(tree, own)
    }
    assert used == {SESSION, DISTRIBUTION, EXIT_FUNCTIONS, HISTORY, SHUFFLE, READ_PART}


def test_the_search_finds_private_names():
    tree = ast.parse("from torch.utils import _pytree\nx = layer._inbound_nodes\ngetattr(y, '_z')")
    assert foreign(tree, {"_own"}) == {"_pytree", "_inbound_nodes", "_z"}


def network() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = layers.Flatten()(layers.Conv2D(2, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(x))


def producer(model: keras.Model) -> tuple[keras.Operation, list]:
    call = _private.call_behind(model.outputs[0], model)
    assert call is not None
    return call.operation, call.inputs


def test_keras_has_its_private_names():
    """When this fails, Keras has changed: adapt `_private.py`, or accept the fallback."""
    model = network()
    assert model.outputs[0]._keras_history.operation is model.layers[-1]
    assert len(model.layers[-1]._inbound_nodes) == 1
    assert model.layers[0]._outbound_nodes
    assert [*model._flatten_layers()] == [model, *model.layers]
    assert {"TrueDivide", "Subtract"} <= set(_private.operations())


class Bare:
    """An object with only the given attributes of another one."""

    def __init__(self, other: object, *names: str) -> None:
        for name in names:
            setattr(self, name, getattr(other, name))


def test_calls_are_found_without_the_keras_history(monkeypatch):
    model = network()
    expected = producer(model)
    monkeypatch.delattr(model.outputs[0], "_keras_history")
    operation, inputs = producer(model)
    assert operation is expected[0] is model.layers[-1]
    assert [id(x) for x in inputs] == [id(x) for x in expected[1]]
    assert inputs[0] is model.layers[-2].output


def test_calls_of_a_layer_are_found_without_its_nodes():
    model = network()
    layer = model.layers[-1]
    assert [[id(x) for x in call] for call in _private.inputs_of_calls(layer)] == [
        [id(layer.input)]
    ]
    bare = Bare(layer, "input")
    assert [[id(x) for x in call] for call in _private.inputs_of_calls(bare)] == [[id(layer.input)]]


def test_a_layer_that_was_never_called_has_no_calls():
    assert _private.inputs_of_calls(layers.Dense(2)) == []
    assert _private.inputs_of_calls(object()) == [[]]


def test_all_layers_are_found_without_flatten_layers():
    inner = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2)])
    model = keras.Sequential([keras.Input((4, 4, 3)), inner, layers.Dense(3)])
    every = {id(layer) for layer in _private.every_layer(model)}
    assert every >= {id(layer) for layer in (model, *model.layers, *inner.layers)}
    # Keras needs the method itself, so that it cannot be taken from the layers.
    bare_inner = Bare(inner, "layers")
    bare = SimpleNamespace(layers=[bare_inner, model.layers[1]])
    bare_leaves = [SimpleNamespace(layer=layer) for layer in inner.layers]
    bare_inner.layers = bare_leaves  # type: ignore[attr-defined]
    found = _private.every_layer(bare)
    assert found == [bare, bare_inner, *bare_leaves, model.layers[1]]


def test_a_detached_layer_shares_variables_and_leaves_no_trace():
    model = network()
    layer = model.layers[1]
    before = len(layer._inbound_nodes), len(layer._outbound_nodes)
    copy = _private.detached(layer)
    made = copy(keras.Input((4, 4, 3)))
    layers.Flatten()(made)
    assert copy.kernel is layer.kernel
    assert (len(layer._inbound_nodes), len(layer._outbound_nodes)) == before
    assert len(copy._inbound_nodes) == 1


def test_a_layer_without_nodes_is_copied_all_the_same():
    class Plain:
        def __init__(self) -> None:
            self.kernel = object()

    plain = Plain()
    copy = _private.detached(plain)
    assert copy is not plain and type(copy) is Plain and copy.kernel is plain.kernel


tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of TensorFlow only"
)


@tensorflow_only
def test_tensorflow_has_its_private_names():
    """When this fails, TensorFlow has changed: adapt `_private.py`, or accept the fallback."""
    import tensorflow as tf
    from tensorflow.python.framework import ops
    from tensorflow.python.util import _pywrap_util_port

    function = tf.function(lambda x: x + 1)
    assert hasattr(function, "_omit_frequent_tracing_warning")
    assert hasattr(function.get_concrete_function(tf.zeros(2)), "_call_flat")
    assert isinstance(_pywrap_util_port.IsMklEnabled(), bool)
    assert callable(ops._create_graph_constant)


@tensorflow_only
def test_a_graph_is_called_the_same_way_without_call_flat():
    import tensorflow as tf

    weights = keras.Variable(np.arange(3.0, dtype="float32"))
    graph = tf.function(lambda x: x * weights.value).get_concrete_function(tf.zeros((2, 3)))
    bare = SimpleNamespace(call=graph, captured_inputs=graph.captured_inputs)
    points = [tf.ones((2, 3))]
    short = _private.without_binding(graph)(points)
    assert np.array_equal(short, np.tile(np.arange(3.0), (2, 1)))
    public = _private.without_binding(bare.call)(points)
    assert np.array_equal(public, short)


@tensorflow_only
def test_the_shape_of_a_tensor_needs_no_objects():
    """When this fails, TensorFlow has changed: steps on small networks take longer."""
    import tensorflow as tf

    tensor = tf.zeros((2, 3, 1))
    assert tensor._shape_tuple() == (2, 3, 1)
    assert _private.shape_of(tensor) == (2, 3, 1)
    assert _private.shape_of(SimpleNamespace(shape=tensor.shape)) == (2, 3, 1)


@tensorflow_only
def test_graphs_have_our_options_only_within_the_block():
    """When this fails, TensorFlow has changed: rows may depend on the size of the batch."""
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.eager.context import context

    def optimizer() -> tuple[int, int]:
        config = context().function_call_options.config_proto_serialized
        read = config_pb2.ConfigProto.FromString(config).graph_options.rewrite_options
        return read.memory_optimization, read.meta_optimizer_iterations

    ours = rewriter_config_pb2.RewriterConfig.NO_MEM_OPT, rewriter_config_pb2.RewriterConfig.ONE
    before, usual = context().function_call_options, optimizer()
    with _private.options_of_graphs():
        assert optimizer() == ours != usual
    assert context().function_call_options is before


@tensorflow_only
def test_without_options_of_calls_graphs_are_left_alone(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow.python.eager.context", None)
    with _private.options_of_graphs():
        pass


@tensorflow_only
def test_tensorflow_without_kernel_information_counts_as_fast(monkeypatch):
    from tensorflow.python import util

    monkeypatch.delattr(util, "_pywrap_util_port")
    monkeypatch.setitem(__import__("sys").modules, "tensorflow.python.util._pywrap_util_port", None)
    assert _private.onednn_is_on() is True


def test_a_function_that_cannot_be_silenced_is_returned():
    def plain() -> None: ...

    assert _private.without_tracing_warnings(plain) is plain


def constants_of(fn: Callable[[], object]) -> list[list[str]]:
    """The constants in the graph that is traced for `fn`, and in those of its loops."""
    import tensorflow as tf

    with _private.shared_constants():
        graph = tf.function(fn, autograph=False).get_concrete_function().graph
    definition = graph.as_graph_def()
    return [
        sorted(str(tf.make_ndarray(n.attr["value"].tensor)) for n in nodes if n.op == "Const")
        for nodes in (definition.node, *(one.node_def for one in definition.library.function))
    ]


@tensorflow_only
def test_a_graph_holds_equal_constants_once():
    import tensorflow as tf
    from tensorflow.python.framework import ops

    usual = ops._create_graph_constant
    # Numbers of another type or sign are others.
    values = [1.5, 1.5, np.float32(1.5), (2, 7), (2, 7), 0.0, -0.0, 1.0, 1, True, True]
    (found,) = constants_of(lambda: [tf.constant(value) for value in values])
    assert found == sorted(["1.5", "1.5", "[2 7]", "0.0", "-0.0", "1.0", "1", "True"])
    assert ops._create_graph_constant is usual


@tensorflow_only
def test_a_loop_within_a_graph_has_constants_of_its_own():
    import tensorflow as tf

    def loop():
        start = tf.constant(2)
        return tf.while_loop(lambda i: i < 9, lambda i: i * 2 + 2, [start]), start + tf.constant(2)

    main, *inner = constants_of(loop)
    assert main.count("2") == 1
    assert sorted(one.count("2") for one in inner) == [0, 1]


@tensorflow_only
def test_constants_are_traced_as_usual_without_the_private_function(monkeypatch):
    from tensorflow.python.framework import ops

    with monkeypatch.context() as patch:
        patch.delattr(ops, "_create_graph_constant")
        with _private.shared_constants():
            assert not hasattr(ops, "_create_graph_constant")


@tensorflow_only
def test_graphs_of_several_threads_share_no_constants():
    import tensorflow as tf

    def traced(number):
        return constants_of(lambda: [tf.constant(number) for _ in range(50)])

    numbers = [number + 0.5 for number in range(4)] * 6
    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(traced, numbers)) == [[[str(number)]] for number in numbers]
