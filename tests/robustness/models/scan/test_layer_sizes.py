"""Tests of the sizes declared by a model configuration: equal to those of Keras, limited before loading."""

from __future__ import annotations

import io
import json
import re
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from robustness.errors import ModelError, UnsafeModelError
from robustness.models import loading
from robustness.models.scan import limited_process, trial_load
from robustness.models.scan.known_layers import RULES
from robustness.models.scan.layer_sizes import Unfollowed, numbers
from robustness.models.scan.model_size import MAX_CALLS, measure

layers = keras.layers
CASES = Path(__file__).parents[5] / "shared" / "cases" / "models"
small = st.integers(1, 3)
size = st.integers(5, 9)
padding = st.sampled_from(["valid", "same"])


def layer(name: str, /, **config) -> dict:
    label = config.pop("name", name.lower())
    module = config.pop("module", "keras.layers")
    build = config.pop("build", None)
    told = {"module": module, "class_name": name, "config": {"name": label, **config}}
    return told | {"registered_name": None} | ({"build_config": build} if build else {})


def given_input(*shape, batch=None) -> dict:
    return layer("InputLayer", name="in", batch_shape=[batch, *shape], dtype="float32")


def sequential(*inside: dict) -> dict:
    config = {"name": "s", "layers": list(inside)}
    return {"module": "keras", "class_name": "Sequential", "config": config}


def tensor(name: str, node: int = 0) -> dict:
    told = {"shape": [None, 8], "dtype": "float32", "keras_history": [name, node, 0]}
    return {"class_name": "__keras_tensor__", "config": told}


def graph(inner: dict, calls: list[list[str | tuple[str, int]]], start: dict | None = None) -> dict:
    """A functional model with one layer `m`, called once for each item of `calls` on named tensors."""
    nodes = [
        {
            "args": [tensor(*((one, 0) if isinstance(one, str) else one)) for one in call],
            "kwargs": {},
        }
        for call in calls
    ]
    first = {**(start or given_input(8)), "name": "in", "inbound_nodes": []}
    config = {
        "name": "f",
        "layers": [first, {**inner, "name": "m", "inbound_nodes": nodes}],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["m", len(calls) - 1, 0]],
    }
    module = "keras.src.models.functional"
    return {"module": module, "class_name": "Functional", "config": config}


def nested(depth: int, times: int) -> dict:
    """Nested models, each called several times in sequence."""
    inner = layer("ReLU")
    for _ in range(depth):
        calls: list[Any] = [["in"], *([("m", k)] for k in range(times - 1))]
        inner = graph(inner, calls)
    return inner


def archive(path: Path, config, weights=((3, 3),)) -> Path:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for number, shape in enumerate(weights):
            file.create_dataset(f"layers/{number}", data=np.zeros(shape, "float32"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        packed.writestr("metadata.json", "{}")
        packed.writestr("model.weights.h5", buffer.getvalue())
    return path


# --- rules agree with Keras


@st.composite
def layer_and_input(draw):
    """A layer, and an input shape that it accepts."""
    rank = draw(st.integers(1, 3))
    at = f"{rank}D"
    data_format = draw(st.sampled_from(["channels_last", "channels_first"]))
    space = [draw(size) for _ in range(rank)]
    channels = draw(st.sampled_from([2, 4]))
    shape = (
        (None, channels, *space) if data_format == "channels_first" else (None, *space, channels)
    )
    each = st.lists(small, min_size=rank, max_size=rank).map(tuple)
    strides = draw(each)
    dilation = (1,) * rank if max(strides) > 1 else draw(each)
    common = {"data_format": data_format, "padding": draw(padding)}
    window = {"strides": strides, "dilation_rate": dilation, "use_bias": draw(st.booleans())}
    uniform = {"strides": strides[0], "data_format": data_format, "padding": common["padding"]}
    pairs = [(draw(small), draw(small)) for _ in range(rank)]
    borders = pairs[0] if rank == 1 else tuple(pairs)
    if rank == 1:
        flat = {"data_format": data_format} if data_format == "channels_first" else {}
    else:
        flat = {"data_format": data_format}
    found = [
        lambda: getattr(layers, f"Conv{at}")(
            4, draw(each), groups=draw(st.sampled_from([1, 2])), **common, **window
        ),
        lambda: getattr(layers, f"Conv{at}Transpose")(3, draw(each), strides=strides, **common),
        lambda: getattr(layers, f"MaxPooling{at}")(draw(each), strides=strides, **common),
        lambda: getattr(layers, f"AveragePooling{at}")(draw(each), **common),
        lambda: getattr(layers, f"GlobalMaxPooling{at}")(
            data_format=data_format, keepdims=draw(st.booleans())
        ),
        lambda: getattr(layers, f"ZeroPadding{at}")(borders, **flat),
        lambda: layers.Dense(draw(small), use_bias=draw(st.booleans())),
        layers.Flatten,
        lambda: layers.Embedding(10, draw(small)),
        lambda: layers.Permute(draw(st.permutations(range(1, rank + 2)))),
        lambda: layers.Reshape((-1, channels)),
        lambda: layers.BatchNormalization(
            axis=draw(st.sampled_from([1, -1])), scale=draw(st.booleans())
        ),
        lambda: layers.LayerNormalization(center=draw(st.booleans())),
        lambda: layers.PReLU(shared_axes=draw(st.sampled_from([None, [1]]))),
        lambda: layers.Rescaling(2.0, 1.0),
        lambda: layers.Activation("gelu"),
    ]
    if rank == 2:
        found += [
            lambda: layers.SeparableConv2D(3, draw(small), depth_multiplier=2, **uniform),
            lambda: layers.DepthwiseConv2D(draw(small), depth_multiplier=2, **uniform),
            lambda: layers.UpSampling2D(draw(each), data_format=data_format),
            lambda: layers.Cropping2D(((1, 1), (0, 2)), data_format=data_format),
            lambda: layers.Resizing(draw(size), draw(size), data_format=data_format),
        ]
    return draw(st.sampled_from(found)), shape


@settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(made=layer_and_input())
def test_rules_match_keras(made):
    build, shape = made
    try:
        one = build()
        expected = one.compute_output_shape(shape)
        one.build(shape)
    except Exception:
        assume(False)
    try:
        said = RULES[type(one).__name__](one.get_config(), [shape])
    except Unfollowed:
        assert type(one).__name__ in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
        return
    assert said.outputs == (tuple(expected),), one.get_config()
    assert said.parameters == one.count_params(), one.get_config()


@pytest.mark.parametrize(
    ("one", "shapes"),
    [
        (layers.Add(), [(None, 4, 4, 3), (None, 1, 1, 3)]),
        (layers.Multiply(), [(None, 4, 4, 1), (None, 4, 4, 3)]),
        (layers.Concatenate(axis=1), [(None, 4, 4, 3), (None, 2, 4, 3)]),
        (layers.RepeatVector(5), [(None, 4)]),
        (layers.MultiHeadAttention(2, 4, value_dim=3), [(None, 5, 6), (None, 7, 6)]),
    ],
)
def test_rules_of_several_inputs_match_keras(one, shapes):
    inputs = [keras.Input(shape[1:]) for shape in shapes]
    listed = isinstance(one, (layers.Add, layers.Multiply, layers.Concatenate))
    output = one(inputs) if listed else one(*inputs)
    said = RULES[type(one).__name__](one.get_config(), shapes)
    assert said.outputs == (tuple(output.shape),)
    assert said.parameters == one.count_params()


APPLICATIONS = [
    ("MobileNetV2", {"alpha": 0.35, "input_shape": (96, 96, 3)}),
    ("MobileNetV3Small", {"input_shape": (96, 96, 3)}),
    ("EfficientNetB0", {}),
    ("ResNet50V2", {}),
    ("DenseNet121", {}),
    ("ConvNeXtTiny", {}),
    ("NASNetMobile", {}),
    ("Xception", {}),
    ("VGG16", {"input_shape": (512, 512, 3), "include_top": False}),
    ("InceptionResNetV2", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), APPLICATIONS)
def test_sizes_of_known_networks_are_exact(name, how):
    model = getattr(keras.applications, name)(weights=None, **how)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    found = measure(config, model.count_params())
    assert not found.findings and not found.trial
    # The rule for Normalization counts positions three times, Keras counts one of the three once.
    assert 0 <= found.parameters - model.count_params() < 20
    outputs = sum(numbers((1, *t.shape[1:])) for one in model.layers for t in _tensors(one.output))
    assert found.results >= 4 * outputs


def _tensors(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_known_network_is_loaded_without_a_trial(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(limited_process, "run_limited", lambda *_: pytest.fail("a trial"))
    model = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(96, 96, 3))
    model.save(tmp_path / f"m{suffix}")
    report = loading.scan(tmp_path / f"m{suffix}")
    assert report.safe and not report.trial
    assert loading.load_model(tmp_path / f"m{suffix}").count_params() == model.count_params()


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_models_of_all_keras_versions_are_followed():
    for path in CASES.iterdir():
        if path.suffix not in (".keras", ".h5", ".hdf5") or path.name == "lfs_pointer.h5":
            continue
        try:
            report = loading.scan(path)
        except ModelError:
            assert path.name == "keras_2_10_hdf5_named.keras"
            continue
        assert report.safe, (path.name, report.findings)
        assert bool(report.trial) == (path.name == "subclassed.keras"), (path.name, report.trial)


# --- bombs

PICTURE = given_input(32, 32, 3)
BOMBS = {
    "upsampling": sequential(PICTURE, layer("UpSampling2D", size=[10000, 10000])),
    "upsampling little by little": sequential(
        PICTURE, *(layer("UpSampling2D", name=f"u{k}", size=[2, 2]) for k in range(12))
    ),
    "padding": sequential(PICTURE, layer("ZeroPadding2D", padding=[[10**5, 1], [1, 10**5]])),
    "dense": sequential(PICTURE, layer("Dense", units=10**9)),
    "many dense": sequential(
        PICTURE, layer("Flatten"), *(layer("Dense", name=f"d{k}", units=5000) for k in range(9))
    ),
    "input": sequential(given_input(100_000, 100_000, 3), layer("Flatten")),
    "batch": sequential(given_input(32, 32, 3, batch=10**9), layer("Flatten")),
    "repeat": sequential(PICTURE, layer("Flatten"), layer("RepeatVector", n=10**7)),
    "filters": sequential(PICTURE, layer("Conv2D", filters=10**9, kernel_size=[3, 3])),
    "kernel": sequential(
        PICTURE, layer("Conv2D", filters=4, kernel_size=[30000, 30000], padding="same")
    ),
    "dilation": sequential(
        PICTURE,
        layer("Conv2D", filters=4, kernel_size=[3, 3], dilation_rate=10**6, padding="same"),
    ),
    "transposed strides": sequential(
        PICTURE, layer("Conv2DTranspose", filters=4, kernel_size=[3, 3], strides=[10**4, 10**4])
    ),
    "depth": sequential(
        PICTURE, layer("DepthwiseConv2D", kernel_size=[3, 3], depth_multiplier=10**8)
    ),
    "table": sequential(PICTURE, layer("Embedding", input_dim=10**10, output_dim=10)),
    "resizing": sequential(PICTURE, layer("Resizing", height=10**6, width=10**6)),
    "built beside": sequential(
        PICTURE, layer("Dense", units=9, build={"input_shape": [None, 10**10]})
    ),
    "built and never called": {
        **graph(layer("ReLU"), [["in"]]),
        "config": {
            **graph(layer("ReLU"), [["in"]])["config"],
            "layers": [
                *graph(layer("ReLU"), [["in"]])["config"]["layers"],
                {
                    **layer("Dense", name="d", units=10**6, build={"input_shape": [None, 10**6]}),
                    "name": "d",
                    "inbound_nodes": [],
                },
            ],
        },
    },
    "models in models": nested(8, 10),
    "layers": sequential(PICTURE, *(layer("ReLU", name=f"r{k}") for k in range(MAX_CALLS + 1))),
    "attention": sequential(given_input(10**6, 8), layer("ReLU")),
    "slopes": sequential(given_input(10**4, 10**4, 3), layer("PReLU")),
    "spread": graph(layer("Add"), [["in", "in"], ["m", "m"]], given_input(40_000, 40_000)),
    "texts": sequential(
        PICTURE,
        layer(
            "Rescaling",
            offset=0.0,
            scale={"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "S1000000000"}},
        ),
    ),
}
BOMBS["attention"] = graph(
    layer("MultiHeadAttention", num_heads=8, key_dim=8), [["in", "in"]], given_input(10**5, 8)
)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_absurd_sizes_are_refused_before_building(tmp_path, name):
    path = archive(tmp_path / "m.keras", BOMBS[name])
    assert path.stat().st_size < 200_000
    report = loading.scan(path)
    assert report.findings, report
    with pytest.raises(UnsafeModelError, match=r"take all memory.*--trust-model"):
        loading.load_model(path)


@pytest.mark.parametrize("name", sorted(set(BOMBS) - {"layers"}))
def test_absurd_sizes_in_h5_are_refused(tmp_path, name):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(BOMBS[name])
        file.attrs["keras_version"] = "3.15.1"
    assert loading.scan(path).findings


def test_sizes_below_the_limits_are_accepted(tmp_path):
    """The same layers with usual sizes."""
    fine = sequential(
        given_input(1024, 1024, 3),
        layer("Conv2D", filters=64, kernel_size=[3, 3], padding="same"),
        layer("UpSampling2D", size=[1, 1]),
        layer("ZeroPadding2D", padding=[[3, 3], [3, 3]]),
        layer("GlobalAveragePooling2D"),
        layer("Dense", units=1000),
    )
    found = measure(fine, 70_000)
    assert not found.findings and not found.trial
    assert found.parameters == 3 * 3 * 3 * 64 + 64 + 64 * 1000 + 1000


@pytest.mark.parametrize(
    "config",
    [
        '{"a":' * 300 + "1" + "}" * 300,
        '{"a": [' + "1," * 2_100_000 + "1]}",
        '{"a": "' + "x" * (17 << 20) + '"}',
    ],
    ids=["deep", "values", "bytes"],
)
def test_a_configuration_is_limited_before_parsing(tmp_path, config):
    path = archive(tmp_path / "m.keras", config)
    try:
        assert loading.scan(path).findings
    except ModelError as error:
        assert "nested" in str(error) or "larger" in str(error) or "values" in str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_unexpected_values_never_cause_a_traceback(data):
    config = json.loads(
        json.dumps(BOMBS["attention"] if data.draw(st.booleans()) else BOMBS["kernel"])
    )
    odd = data.draw(
        st.sampled_from(
            [None, -1, 0, 1e300, float("nan"), "x", [], {}, [[]], True, 2**70, {"a": 1}]
        )
    )
    at = config
    while isinstance(at, (dict, list)) and at:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], (dict, list)) or data.draw(st.integers(0, 3)) == 0:
            at[key] = odd
            break
        at = at[key]
    if isinstance(config, dict):
        found = measure(config, 100)
        assert found.findings or found.trial or found.calls


# --- HDF5


def test_arrays_and_attributes_with_excessive_sizes_are_refused(tmp_path):
    with h5py.File(tmp_path / "chunk.h5", "w") as file:
        file.create_dataset("layers/x", (1,), "float32", maxshape=(None,), chunks=(2**28,))
    with h5py.File(tmp_path / "fill.h5", "w") as file:
        file.create_dataset("layers/x", (10**5, 10**5), "float32", chunks=(100, 100))
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file.create_dataset("layers/x", (4,), "S2000000000", chunks=(1,))
    for name in ("chunk", "fill", "wide"):
        path = tmp_path / f"{name}.h5"
        assert path.stat().st_size < 100_000
        assert any("claim" in one for one in loading.scan(path).findings), name


def test_an_archive_with_overlapping_members_is_refused(tmp_path):
    path = archive(tmp_path / "m.keras", sequential(PICTURE))
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entries = bytes(data[start:end])
    first = entries[: entries.index(b"PK\x01\x02", 4)]
    copies = b"".join(first.replace(b"config.json", b"a%010d" % k) for k in range(1000))
    total = len(entries) + len(copies)
    record = bytearray(data[end:])
    struct.pack_into("<HHL", record, 8, 1003, 1003, total)
    path.write_bytes(bytes(data[:start]) + entries + copies + bytes(record))
    assert any("upon one another" in one for one in loading.scan(path).findings)


# --- trials


@pytest.mark.slow
def test_a_trial_ends_at_its_time_limit():
    began = time.monotonic()
    ended = limited_process.run_limited("http.server", "0", "--bind", "127.0.0.1", seconds=2)
    assert ended.told is None and "more than 2 s" in ended.reason
    assert time.monotonic() - began < 60


TILE = {
    "module": "keras.src.ops.numpy",
    "class_name": "Tile",
    "config": {"name": "t", "repeats": [1, 20000, 20000, 1]},
    "registered_name": "Tile",
}


@pytest.mark.slow
def test_unknown_sizes_are_tried_within_a_memory_limit(tmp_path):
    path = archive(tmp_path / "m.keras", graph(TILE, [["in"]], PICTURE))
    assert "only Keras can tell" in loading.scan(path).trial
    with pytest.raises(UnsafeModelError, match=r"process of its own.*memory.*--trust-model"):
        loading.load_model(path)


@pytest.mark.slow
def test_a_harmless_model_of_unknown_size_is_loaded_after_a_trial(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.EinsumDense("bhwc,cd->bhwd", (8, 8, 4)),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    model.save(tmp_path / "m.keras")
    assert loading.scan(tmp_path / "m.keras").trial
    loaded = loading.load_model(tmp_path / "m.keras")
    images = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_trials")
def test_a_registered_layer_of_the_caller_is_loaded_in_process(tmp_path):
    @keras.saving.register_keras_serializable("test_modelsizes")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return x * 2

    model = keras.Sequential([keras.Input((4, 4, 3)), Doubled(), layers.Flatten(), layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1]["module"] = None  # as for classes saved from a script
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    assert loading.load_model(tmp_path / "m.keras").count_params() == model.count_params()
    keras.saving.get_custom_objects().clear()
    with pytest.raises(ModelError, match="only names"):
        loading.load_model(tmp_path / "m.keras")


@pytest.mark.slow
def test_trust_lifts_the_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(limited_process, "run_limited", lambda *_: pytest.fail("a trial"))
    monkeypatch.setattr("robustness.models.scan.model_size.MAX_TENSOR_BYTES", 10)
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(UnsafeModelError, match="take all memory"):
        loading.load_model(tmp_path / "m.keras")
    assert loading.load_model(tmp_path / "m.keras", trust=True).count_params() == 98


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (limited_process.OUT_OF_MEMORY, "", "of memory it was allowed"),
        (-9, "", "of memory it was allowed"),
        (-6, "terminate called ... std::bad_alloc", "of memory it was allowed"),
        (1, "Traceback\nMemoryError", "of memory it was allowed"),
        (1, "Traceback\nImportError: no module", "ended with exit code 1: ImportError: no module"),
        (-11, "Fatal", r"crashed \(SIGSEGV\): Fatal"),
        (3, "", "ended with exit code 3"),
    ],
)
def test_only_lack_of_memory_is_called_that(code, stderr, reason):
    assert re.search(reason, limited_process._bad_end(code, stderr))


def test_a_process_that_fails_says_why():
    ended = limited_process.run_limited("robustness.models.scan.no_such_module")
    assert ended.told is None and "No module named" in ended.reason


@pytest.mark.parametrize("said", ["RandomZoom", "no room", "Boom", "memory_layer has no config"])
def test_words_that_sound_like_memory_are_none(said, capsys):
    trial_load._refused(f"The layer {said} fails.", ValueError(said))
    assert said in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    "said", ["OOM when allocating tensor", "std::bad_alloc", "RESOURCE_EXHAUSTED"]
)
def test_words_of_lack_of_memory(said):
    with pytest.raises(SystemExit) as stopped:
        trial_load._refused("It fails.", RuntimeError(said))
    assert stopped.value.code == limited_process.OUT_OF_MEMORY


@pytest.mark.slow
@pytest.mark.usefixtures("forked_trials")
def test_a_model_of_any_size_or_several_inputs_is_tried(tmp_path):
    image, other = keras.Input((None, None, 3)), keras.Input((2,))
    pooled = layers.GlobalAveragePooling2D()(
        layers.EinsumDense("bhwc,cd->bhwd", (None, None, 4))(image)
    )
    joined = layers.Concatenate()([pooled, other])
    keras.Model([image, other], layers.Dense(2)(joined)).save(tmp_path / "m.keras")
    assert loading.scan(tmp_path / "m.keras").trial
    assert len(loading.load_model(tmp_path / "m.keras").inputs) == 2
