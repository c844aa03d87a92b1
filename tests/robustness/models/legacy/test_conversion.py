"""Configurations of Keras 1 and 2, made by hand, compute what their layers are defined to compute."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.errors import ModelError, UnsafeModelError
from robustness.models import loading
from robustness.models.inner_scaling import inner_scaling
from robustness.models.legacy.conversion import convert
from robustness.models.legacy.entries import Unconvertible
from robustness.models.scan.config_safety import config_findings

# Tests of `limited_process` start new processes.
pytestmark = pytest.mark.usefixtures("forked_trials")
RNG = np.random.default_rng(0)
Weights = dict[str, dict[str, np.ndarray]]


def entry(class_name: str, name: str, *refs: Any, node: Any = None, **config: Any) -> dict:
    """A layer as Keras 2 stored it; `refs` are the layers that it is called on."""
    nodes = [node] if node else [[[ref, 0, 0, {}] for ref in refs]] if refs else []
    made = {"class_name": class_name, "config": {"name": name, **config}}
    return {**made, "name": name, "inbound_nodes": nodes}


def image(name: str = "in", shape: tuple[Any, ...] = (4, 4, 3)) -> dict:
    batch = [None, *shape]
    return entry(
        "InputLayer", name, batch_input_shape=batch, dtype="float32", sparse=False, ragged=False
    )


def functional(*entries: dict, out: str = "", name: str = "m", class_name: str = "Model") -> dict:
    last = [out or entries[-1]["name"], 0, 0]
    inner = {"name": name, "layers": list(entries), "input_layers": [[entries[0]["name"], 0, 0]]}
    return {"class_name": class_name, "config": {**inner, "output_layers": [last]}}


def listed(*entries: dict) -> dict:
    """A Sequential model as Keras 2.2 and before stored it."""
    plain = [{key: one[key] for key in ("class_name", "config")} for one in entries]
    return {"class_name": "Sequential", "config": plain}


def written(
    path: Path,
    config: Any,
    weights: Weights | None = None,
    version: str | None = "2.2.4",
    backend: str | None = "tensorflow",
) -> Path:
    """An HDF5 file as Keras 1 and 2 wrote it."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        for key, value in (("keras_version", version), ("backend", backend)):
            if value:
                file.attrs[key] = value.encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights or {}]
        for layer, arrays in (weights or {}).items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, values in arrays.items():
                inner.create_dataset(name, data=values)
    return path


def answers(path: Path, images: np.ndarray) -> np.ndarray:
    return np.asarray(loading.load_model(path)(images.astype("float32"), training=False))


def counts(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, size=(2, *shape)).astype("float32")


def computed(tmp_path: Path, config: Any, images: np.ndarray, **more: Any) -> np.ndarray:
    return answers(written(tmp_path / "m.h5", config, **more), images)


KERNEL = RNG.normal(size=(3, 2)).astype("float32")
BIAS = RNG.normal(size=2).astype("float32")


def dense(name: str = "dense_1", **config: Any) -> dict:
    return entry("Dense", name, units=2, **config)


def test_a_list_of_layers_with_the_shape_in_the_first(tmp_path):
    first = dense(
        batch_input_shape=[None, 3],
        activation="linear",
        kernel_initializer={"class_name": "GlorotUniform", "config": {"dtype": "float32"}},
        kernel_regularizer={"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}},
    )
    weights = {"dense_1": {"dense_1/kernel:0": KERNEL, "dense_1/bias:0": BIAS}}
    path = written(tmp_path / "m.h5", listed(first), weights)
    x = RNG.normal(size=(2, 3))
    assert np.allclose(answers(path, x), x @ KERNEL + BIAS, atol=1e-6)


def test_hard_sigmoid_is_that_of_keras_2(tmp_path):
    weights = {"dense_1": {"dense_1/kernel:0": KERNEL, "dense_1/bias:0": BIAS}}
    config = listed(dense(batch_input_shape=[None, 3], activation="hard_sigmoid"))
    path = written(tmp_path / "m.h5", config, weights)
    x = np.linspace(-40, 40, 30).reshape(10, 3)
    expected = np.clip(0.2 * (x @ KERNEL + BIAS) + 0.5, 0, 1)
    assert 0 < (expected % 1 > 0).mean() < 1, "both the slope and its ends are reached"
    assert np.allclose(answers(path, x), expected, atol=1e-6)


ACTIVATIONS: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "LeakyReLU": ({"alpha": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x)),
    "ThresholdedReLU": ({"theta": 100.0}, lambda x: np.where(x > 100, x, 0)),
    "ReLU": ({"max_value": 50.0, "negative_slope": 0.0, "threshold": 0.0}, lambda x: np.minimum(x, 50)),
    "ELU": ({"alpha": 1.0}, lambda x: x),
    "RandomFlip": ({"mode": "horizontal", "seed": None}, lambda x: x),
    "RandomHeight": ({"factor": 0.1}, lambda x: x),
    "FixedDropout": ({"rate": 0.2, "noise_shape": None, "seed": None}, lambda x: x),
    "SpatialDropout2D": ({"rate": 0.2, "noise_shape": None, "seed": None}, lambda x: x),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_layers_that_have_another_name_or_setting(tmp_path, name):
    config, expected = ACTIVATIONS[name]
    x = counts(4, 4, 3)
    model = functional(image(), entry(name, "one", "in", dtype="float32", trainable=True, **config))
    assert np.allclose(computed(tmp_path, model, x), expected(x), atol=1e-4)


def test_a_layer_as_an_activation_and_a_number_as_an_array(tmp_path):
    leaky = {"class_name": "LeakyReLU", "config": {"alpha": {"type": "ndarray", "value": 0.5}}}
    weights = {"dense_1": {"dense_1/kernel:0": KERNEL, "dense_1/bias:0": BIAS}}
    path = written(
        tmp_path / "m.h5", listed(dense(batch_input_shape=[None, 3], activation=leaky)), weights
    )
    x = RNG.normal(size=(5, 3))
    value = x @ KERNEL + BIAS
    assert np.allclose(answers(path, x), np.where(value > 0, value, value / 2), atol=1e-6)


def op(function: str, name: str, first: Any, **kwargs: Any) -> dict:
    """A call of a TensorFlow function as Keras 2.4 and later stored it."""
    ref = (
        [first, 0, 0, kwargs] if isinstance(first, str) else ["_CONSTANT_VALUE", -1, first, kwargs]
    )
    return entry("TFOpLambda", name, node=ref, function=function, dtype="float32")


SLICE = {
    "class_name": "SlicingOpLambda",
    "config": {"name": "s", "function": "__operators__.getitem"},
}


def sliced(*spec: Any) -> dict:
    return {**SLICE, "name": "s", "inbound_nodes": [["in", 0, 0, {"slice_spec": list(spec)}]]}


def part(start: Any = None, stop: Any = None, step: Any = None) -> dict:
    return {"start": start, "stop": stop, "step": step}


DOTS = {"class_name": "__ellipsis__"}
TENSORS = {"y": ["in", 0, 0]}
OPERATIONS = {
    "division": ([op("math.truediv", "a", "in", y=127.5)], lambda x: x / 127.5),
    "by channels": (
        [op("math.truediv", "a", "in", y=[1.0, 2.0, 4.0])],
        lambda x: x / np.array([1.0, 2.0, 4.0]),
    ),
    "constant first": ([op("math.subtract", "a", 255.0, **TENSORS)], lambda x: 255 - x),
    "product of tensors": ([op("math.multiply", "a", "in", **TENSORS)], lambda x: x * x),
    "sum of tensors": ([op("__operators__.add", "a", "in", **TENSORS)], lambda x: x + x),
    "quotient of tensors": (
        [op("math.add", "b", "in", y=1.0), op("math.truediv", "a", "in", y=["b", 0, 0])],
        lambda x: x / (x + 1),
    ),
    "constant by a tensor": (
        [op("math.add", "b", "in", y=1.0), op("math.truediv", "a", 2.0, y=["b", 0, 0])],
        lambda x: 2 / (x + 1),
    ),
    "clip": (
        [op("clip_by_value", "a", "in", clip_value_min=10, clip_value_max=99)],
        lambda x: x.clip(10, 99),
    ),
    "power": ([op("math.pow", "a", "in", y=2)], lambda x: x**2),
    "mean": (
        [op("math.reduce_mean", "a", "in", axis=[1, 2], keepdims=False)],
        lambda x: x.mean((1, 2)),
    ),
    "maximum": ([op("math.maximum", "a", "in", y=100)], lambda x: np.maximum(x, 100)),
    "negative": ([op("math.negative", "a", "in")], lambda x: -x),
    "reversed channels": ([sliced(DOTS, part(step=-1))], lambda x: x[..., ::-1]),
    "reversed rows": ([sliced(part(), part(step=-1))], lambda x: x[:, ::-1]),
    "a crop": (
        [sliced(part(), part(1, 3), part(0, 4, 2), part())],
        lambda x: x[:, 1:3, 0:4:2],
    ),
    "transpose": ([op("transpose", "a", "in", perm=[0, 3, 1, 2])], lambda x: x.transpose(0, 3, 1, 2)),
    "reshape": ([op("reshape", "a", "in", shape=[-1, 48])], lambda x: x.reshape(2, 48)),
    "expand and squeeze": (
        [op("expand_dims", "b", "in", axis=1), op("compat.v1.squeeze", "a", "b", axis=[1])],
        lambda x: x,
    ),
    "concat": (
        [entry("TFOpLambda", "a", function="concat",
               node=[["in", 0, 0, {"axis": -1}], ["in", 0, 0, {"axis": -1}]])],
        lambda x: np.concatenate([x, x], -1),
    ),
    "cast": ([op("cast", "a", "in", dtype="float32")], lambda x: x),
    "pad": (
        [op("compat.v1.pad", "a", "in", paddings=[[0, 0], [1, 0], [0, 2], [0, 0]], mode="CONSTANT")],
        lambda x: np.pad(x, [(0, 0), (1, 0), (0, 2), (0, 0)]),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_tensorflow_operation_computes_what_it_says(tmp_path, name):
    entries, expected = OPERATIONS[name]
    x = counts(4, 4, 3)
    value = computed(tmp_path, functional(image(), *entries), x, version="2.4.0")
    assert np.allclose(value, expected(x), rtol=1e-5, atol=1e-4)


MEANS = [-103.939, -116.779, -123.68]
PREPROCESSING = {
    "tf": (
        [op("math.truediv", "a", "in", y=127.5), op("math.subtract", "b", "a", y=1.0)],
        lambda x: x / 127.5 - 1,
        2,
    ),
    "torch": (
        [
            op("math.truediv", "a", "in", y=255.0),
            op("nn.bias_add", "b", "a", bias=[-0.485, -0.456, -0.406], data_format="NHWC"),
            op("math.truediv", "c", "b", y=[0.229, 0.224, 0.225]),
        ],
        lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        2,
    ),
    "caffe": (
        [
            sliced(DOTS, part(step=-1)),
            op("nn.bias_add", "b", "s", bias=MEANS, data_format="NHWC"),
        ],
        lambda x: x[..., ::-1] + np.array(MEANS),
        2,
    ),
}


@pytest.mark.parametrize("mode", PREPROCESSING)
def test_preprocess_input_is_computed_and_recognised(tmp_path, mode):
    entries, expected, layers = PREPROCESSING[mode]
    x = counts(4, 4, 3)
    path = written(tmp_path / "m.h5", functional(image(), *entries), version="2.9.0")
    model = loading.load_model(path)
    assert np.allclose(model(x).numpy(), expected(x), rtol=1e-5, atol=1e-4)
    # Sums and products of numbers become one Rescaling.
    assert sum(isinstance(one, keras.layers.Rescaling) for one in model.layers) == 1
    assert len(model.layers) == layers
    assert inner_scaling(model).counts


def test_an_operation_of_keras_2_3(tmp_path):
    node = {"name": "truediv", "op": "RealDiv", "input": ["in", "truediv/y"], "attr": {}}
    layer = entry("TensorFlowOpLayer", "a", "in", node_def=json.dumps(node), constants={"1": 255.0})
    x = counts(4, 4, 3)
    value = computed(tmp_path, functional(image(), layer), x, version="2.3.0-tf")
    assert np.allclose(value, x / 255, atol=1e-6)


def norm(name: str, *refs: str) -> dict:
    return entry("BatchNormalization", name, *refs, axis=[3], epsilon=0.001, momentum=0.99)


ROWS = {key: RNG.uniform(0.5, 2.0, size=3).astype("float32") for key in ("g", "b", "m", "v")}


def normalised(x: np.ndarray) -> np.ndarray:
    return (x - ROWS["m"]) / np.sqrt(ROWS["v"] + 0.001) * ROWS["g"] + ROWS["b"]


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("order", ["gbmv", "vmbg", "mvgb"])
def test_a_nested_model_takes_its_arrays_by_their_names(tmp_path, node, order):
    """Of a frozen layer the arrays stand elsewhere; four of one shape could be confused unnoticed."""
    inner = functional(image("x"), norm("bn", "x"), name="inner", class_name="Functional")
    used = {**inner, "name": "inner", "inbound_nodes": [[["in", 0, 0, {}]]]}
    after = entry("Activation", "after", activation="linear", node=[["inner", node, 0, {}]])
    leaves = {"g": "gamma", "b": "beta", "m": "moving_mean", "v": "moving_variance"}
    weights = {"inner": {f"bn/{leaves[key]}:0": ROWS[key] for key in order}}
    x = counts(4, 4, 3)
    value = computed(tmp_path, functional(image(), used, after), x, weights=weights)
    assert np.allclose(value, normalised(x), rtol=1e-4)


def test_arrays_whose_names_contradict_their_order_are_refused(tmp_path):
    leaves = ("beta", "gamma", "moving_mean", "moving_variance")
    weights = {"bn": {f"{n}/{leaf}:0": ROWS["g"] for n, leaf in enumerate(leaves)}}
    path = written(tmp_path / "m.h5", functional(image(), norm("bn", "in")), weights)
    with pytest.raises(ModelError, match=r"do not fit.*stands where layer 'bn' has its gamma"):
        loading.load_model(path)


def test_a_nested_model_that_is_the_output(tmp_path):
    inner = functional(image("x"), norm("bn", "x"), name="inner")
    used = {**inner, "name": "inner", "inbound_nodes": [[["in", 0, 0, {}]]]}
    model = functional(image(), used)
    model["config"]["output_layers"] = [["inner", 1, 0]]
    leaves = {"gamma": "g", "beta": "b", "moving_mean": "m", "moving_variance": "v"}
    weights = {"inner": {f"bn/{leaf}:0": ROWS[key] for leaf, key in leaves.items()}}
    path = written(tmp_path / "m.h5", model, weights)
    assert not loading.scan(path).trial, "the sizes of a nested output are computed"
    x = counts(4, 4, 3)
    assert np.allclose(answers(path, x), normalised(x), rtol=1e-4)


def keras1_conv(order: str, shape: list[int]) -> dict:
    config = {"nb_filter": 2, "nb_row": 3, "nb_col": 3, "border_mode": "valid", "subsample": [1, 1],
              "dim_ordering": order, "activation": "linear", "bias": True, "init": "glorot_uniform",
              "W_regularizer": None, "b_constraint": None, "input_dtype": "float32"}  # fmt: skip
    first = {"name": "c", "batch_input_shape": [None, *shape], **config}
    return listed({"class_name": "Convolution2D", "config": first})


def correlated(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The sum of products of every 3 x 3 window: images (n, h, w, c), kernel (3, 3, c, filters)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel)


def test_a_convolution_of_keras_1(tmp_path):
    kernel = RNG.normal(size=(3, 3, 3, 2)).astype("float32")
    weights = {"c": {"c_W": kernel, "c_b": BIAS}}
    x = counts(5, 5, 3)
    path = written(tmp_path / "m.h5", keras1_conv("tf", [5, 5, 3]), weights, "1.2.2", None)
    assert np.allclose(answers(path, x), correlated(x, kernel) + BIAS, rtol=1e-4, atol=1e-2)
    assert loading.scan(path).notes[0] == "converted from Keras 1.2.2"


def test_kernels_of_theano_are_turned(tmp_path):
    """Theano convolves: it turns each kernel by 180 degrees. Keras 1 stored (filters, channels, h, w)."""
    from robustness.models.legacy.weights import load_hdf5_weights

    stored = RNG.normal(size=(2, 3, 3, 3)).astype("float32")
    weights = {"c": {"c_W": stored, "c_b": BIAS}}
    path = written(tmp_path / "m.h5", keras1_conv("th", [3, 5, 5]), weights, None, None)
    report = loading.scan(path)
    assert report.conversion.turned
    assert "taken as those of Theano" in report.notes[1]
    model = keras.Sequential(
        [keras.Input((3, 5, 5)), keras.layers.Conv2D(2, 3, data_format="channels_first", name="c")]
    )
    with h5py.File(path) as file:
        load_hdf5_weights(model, file, keras1=True, turned=True)
    assert np.array_equal(model.get_weights()[0], stored.transpose(2, 3, 1, 0)[::-1, ::-1])
    kernel = RNG.normal(size=(3, 3, 3, 2)).astype("float32")
    conv = entry("Conv2D", "c", "in", filters=2, kernel_size=[3, 3], use_bias=False)
    x = counts(5, 5, 3)
    value = computed(
        tmp_path, functional(image(shape=(5, 5, 3)), conv), x, weights={"c": {"c/kernel:0": kernel}},
        backend="theano",
    )  # fmt: skip
    assert np.allclose(value, correlated(x, kernel[::-1, ::-1]), rtol=1e-4, atol=1e-2)


@keras.saving.register_keras_serializable("mine")
class Tripled(keras.layers.Layer):
    def call(self, x):
        return 3 * x


@pytest.mark.parametrize("name", ["Tripled", "mine>Tripled"])
def test_a_registered_layer_is_found_by_its_plain_name_too(tmp_path, name):
    x = counts(4, 4, 3)
    path = written(tmp_path / "m.h5", functional(image(), entry(name, "t", "in")))
    assert np.array_equal(np.asarray(loading.opened(path)(x)), 3 * x)


def test_the_name_of_a_missing_layer_is_said(tmp_path):
    path = written(tmp_path / "m.h5", functional(image(), entry("Mystery", "t", "in")))
    with pytest.raises(ModelError, match="Mystery"):
        loading.load_model(path)


REFUSED = {
    "a layer that is gone": (entry("CuDNNLSTM", "a", "in"), "2.2.4", "CuDNNLSTM"),
    "bytecode": (entry("Lambda", "a", "in", function=["4wEAAA", None, None]), "2.2.4", "Lambda"),
    "ragged": (entry("InputLayer", "a", batch_input_shape=[None, 3], ragged=True), "2.4.0", "ragged"),
    "an unknown function": (op("linalg.svd", "a", "in"), "2.4.0", "'svd'"),
    "old interpolation": (
        entry("UpSampling2D", "a", "in", size=[2, 2], interpolation="bilinear"), "2.2.4", "pixels",
    ),
    "old dilation": (
        entry("SeparableConv2D", "a", "in", filters=2, kernel_size=[3, 3], dilation_rate=[2, 2]),
        "2.0.5", "dilation_rate",
    ),
    "gates": (entry("LSTM", "a", "in", units=2, recurrent_activation="hard_sigmoid"), "2.2.4", "gates"),
    "several axes": (entry("BatchNormalization", "a", "in", axis=[1, 2]), "2.4.0", "2 axes"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_equal_is_refused_with_the_reason(tmp_path, name):
    layer, version, words = REFUSED[name]
    with pytest.raises(Unconvertible, match=words):
        convert(functional(image(), layer), version)
    path = written(tmp_path / "m.h5", functional(image(), layer), version=version)
    error = UnsafeModelError if name == "bytecode" else ModelError
    with pytest.raises(error, match=words):
        loading.load_model(path)


def scaled_sum(text: bytes, **arguments: Any) -> dict:
    code = base64.b64encode(b"\xe3" + text).decode()
    return entry("Lambda", "block35_1", "in", "in", function=[code, None, None],
                 function_type="lambda", arguments=arguments)  # fmt: skip


def test_the_lambdas_of_inception_resnet_are_known_and_never_run(tmp_path):
    known = b"inputs scale /lib/keras_applications/inception_resnet_v2.py"
    x = counts(4, 4, 3)
    value = computed(tmp_path, functional(image(), scaled_sum(known, scale=0.5)), x)
    assert np.allclose(value, 1.5 * x)
    for text, arguments in (
        (b"inputs scale other.py", {"scale": 0.5}),
        (known, {"scale": "x"}),
        (known, {"scale": 0.5, "more": 1}),
    ):
        path = written(tmp_path / "o.h5", functional(image(), scaled_sum(text, **arguments)))
        with pytest.raises(UnsafeModelError, match="Lambda"):
            loading.load_model(path)


def test_a_conversion_hides_no_finding(tmp_path):
    """What the file holds is judged too, except what only training uses, which is never made."""
    evil: Any = {"module": "os", "class_name": "system", "config": {"x": 1}}
    for key, safe in (("kernel_regularizer", True), ("name_scope", False)):
        arguments: dict[str, Any] = {key: evil}
        layer = dense(batch_input_shape=[None, 3], **arguments)
        path = written(tmp_path / "m.h5", listed(layer))
        assert loading.scan(path).safe is safe
        made = convert(listed(layer), "2.2.4").config
        assert bool(config_findings(made)) is not safe


def test_the_given_configuration_is_not_changed():
    config = functional(
        image(), op("math.truediv", "a", "in", y=2.0), op("math.add", "b", "a", y=1)
    )
    before = json.dumps(config)
    convert(config, "2.4.0")
    assert json.dumps(config) == before


WORDS = st.sampled_from(
    ["class_name", "config", "layers", "name", "inbound_nodes", "input_layers", "output_layers",
     "Sequential", "Model", "Dense", "TFOpLambda", "function", "math.add", "y", "InputLayer", "in",
     "batch_input_shape", "activation", "dtype", "axis", "Merge", "mode"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(VALUES, st.sampled_from([None, "1.2.2", "2.2.4", "2.15.0"]))
def test_whatever_a_file_holds_is_converted_or_refused(value, version):
    sequential = {"class_name": "Sequential", "config": value}
    graph = functional(image(), entry("Dense", "d", "in", units=value))
    for config in (value, sequential, graph):
        try:
            made = convert(config, version).config
        except Unconvertible as problem:
            assert str(problem)
        else:
            json.dumps(made)
