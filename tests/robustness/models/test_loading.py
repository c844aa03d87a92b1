"""Tests of loading model files: hostile files are refused before anything in them runs, others load."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from robustness.errors import ModelError, UnsafeModelError
from robustness.models import loading

layers = keras.layers
# Keras itself still calls NumPy in the old way when it saves a variable.


def small_model(units: int = 3, operations: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(units, activation="softmax")])
    image = keras.Input((6, 6, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, activation=keras.activations.relu, kernel_regularizer="l2")(x)
    # The .h5 format cannot restore operations outside layers.
    x = keras.ops.relu(x * 2.0) if operations else x
    x = layers.BatchNormalization()(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, inner(x))


@pytest.fixture(scope="module")
def harmless_files(tmp_path_factory) -> Path:
    """A folder with one small model in every accepted format."""
    folder = tmp_path_factory.mktemp("honest")
    model = small_model()

    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    return folder


def with_config(harmless_files: Path, target: Path, change) -> Path:
    """A copy of the harmless .keras file with its configuration edited by `change`."""
    with (
        zipfile.ZipFile(harmless_files / "m.keras") as source,
        zipfile.ZipFile(target, "w") as copy,
    ):
        for member in source.infolist():
            data = source.read(member)
            if member.filename == "config.json":
                config = json.loads(data)
                data = json.dumps(change(config) or config).encode()
            copy.writestr(member.filename, data)
    return target


def refused(path: Path, *words: str) -> None:
    report = loading.scan(path)
    text = "; ".join(report.findings)
    assert not report.safe
    assert all(word in text for word in words), text
    with pytest.raises(UnsafeModelError, match="--trust-model") as caught:
        loading.load_model(path)
    assert str(report.findings[0]) in str(caught.value)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_harmless_model_is_accepted_and_loads(harmless_files, name):
    report = loading.scan(harmless_files / name)
    assert report.findings == ()
    assert report.format == name.rpartition(".")[2]
    assert report.size == (harmless_files / name).stat().st_size
    assert report.keras_version == keras.__version__
    images = np.random.default_rng(0).uniform(0, 255, (2, 6, 6, 3)).astype("float32")
    loaded = loading.load_model(harmless_files / name)
    np.testing.assert_allclose(loaded(images), small_model()(images), atol=1e-6)
    assert not loaded.compiled


def test_operations_and_a_custom_loss_are_accepted(tmp_path):
    def my_own_loss(true, predicted):
        return keras.ops.mean(predicted, axis=-1)

    model = small_model(operations=True)
    model.compile("adam", my_own_loss, metrics=["accuracy"])
    model.save(tmp_path / "m.keras")
    assert loading.scan(tmp_path / "m.keras").findings == ()
    assert not loading.load_model(tmp_path / "m.keras").compiled


def test_sha256_matches_the_bytes(tmp_path):
    import hashlib

    small_model().save(tmp_path / "m.keras")
    expected = hashlib.sha256((tmp_path / "m.keras").read_bytes()).hexdigest()
    assert loading.scan(tmp_path / "m.keras").sha256 == expected


def test_scanning_imports_neither_keras_nor_tensorflow(harmless_files):
    code = (
        "import sys\nfrom robustness.models import loading\n"
        "assert loading.scan(sys.argv[1]).safe and loading.scan(sys.argv[2]).safe\n"
        "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    root = str(Path(loading.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, harmless_files / "m.keras", harmless_files / "m.h5"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_is_refused_and_never_runs(tmp_path, suffix):
    marker = tmp_path / "ran"
    source = f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"
    image = keras.Input((4, 4, 3), name="in")
    output = layers.Lambda(eval(source), output_shape=(4, 4, 3), name="evil")(image)
    marker.unlink(missing_ok=True)
    path = tmp_path / f"m{suffix}"
    keras.Model(image, output).save(path)
    marker.unlink(missing_ok=True)
    refused(path, "Lambda", "'evil'", "Python code")
    assert not marker.exists()
    loaded = loading.load_model(path, trust=True)
    loaded(np.zeros((1, 4, 4, 3), "float32"))
    assert marker.exists(), "the file would indeed have run code"


def insert(config: dict, entry: dict) -> dict:
    config["config"]["layers"].insert(1, entry)
    return config


HOSTILE_OBJECTS: dict[str, tuple[dict, str]] = {
    "os.system": (
        {"module": "os", "class_name": "system", "config": {"command": "touch ran"}},
        "os.system",
    ),
    "function": (
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        "os.system",
    ),
    "builtin": (
        {"module": "builtins", "class_name": "function", "config": "eval"},
        "builtins.eval",
    ),
    "gadget": (
        {"module": "keras.utils", "class_name": "get_file", "config": {"fname": "a"}},
        "keras.utils.get_file",
    ),
    "switch": (
        {
            "module": "keras.config",
            "class_name": "function",
            "config": "enable_unsafe_deserialization",
        },
        "enable_unsafe_deserialization",
    ),
    "loader": (
        {"module": "keras.models", "class_name": "load_model", "config": {}},
        "keras.models.load_model",
    ),
    "lookalike": (
        {"module": "keras_evil.layers", "class_name": "Dense", "config": {"name": "d"}},
        "keras_evil.layers.Dense",
    ),
    "savedmodel": (
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}},
        "TFSMLayer",
    ),
    "legacy name": ({"class_name": "keras>TFSMLayer", "config": {}}, "TFSMLayer"),
    "registered": (
        {"class_name": "Dense", "registered_name": "Custom>Lambda", "config": {}},
        "Lambda",
    ),
    "torch": (
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}},
        "pickle",
    ),
    "lambda": ({"class_name": "__lambda__", "config": {"value": "abc"}}, "lambda function"),
    "typespec": (
        {"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []},
        "typespec",
    ),
    "vocabulary": (
        {
            "module": "keras.layers",
            "class_name": "StringLookup",
            "config": {"name": "look", "vocabulary": "words.txt"},
        },
        "vocabulary",
    ),
    "absolute path": (
        {"module": "keras.layers", "class_name": "Dense", "config": {"filepath": "/etc/passwd"}},
        "/etc/passwd",
    ),
    "remote": (
        {"module": "keras.layers", "class_name": "Dense", "config": {"name": "gs://bucket/x"}},
        "gs://bucket/x",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE_OBJECTS)
def test_foreign_objects_in_the_configuration_are_refused(
    harmless_files, tmp_path, monkeypatch, kind
):
    monkeypatch.chdir(tmp_path)
    entry, word = HOSTILE_OBJECTS[kind]
    refused(with_config(harmless_files, tmp_path / "m.keras", lambda c: insert(c, entry)), word)
    with h5py.File(harmless_files / "m.h5") as source, h5py.File(tmp_path / "m.h5", "w") as copy:
        config = insert(json.loads(source.attrs["model_config"]), entry)
        copy.attrs["model_config"] = json.dumps(config)
    refused(tmp_path / "m.h5", word)
    assert not (tmp_path / "ran").exists()


def test_code_hidden_inside_a_layer_is_refused(harmless_files, tmp_path):
    def change(config):
        config["config"]["layers"][2]["config"]["kernel_initializer"] = {
            "module": "subprocess",
            "class_name": "Popen",
            "config": {"args": "id"},
        }

    refused(
        with_config(harmless_files, tmp_path / "m.keras", change), "subprocess.Popen", "'conv2d"
    )


def test_control_characters_of_a_name_do_not_reach_the_terminal(harmless_files, tmp_path):
    entry = {"class_name": "Lambda", "config": {"name": "\x1b[2J\u202eevil"}}
    report = loading.scan(
        with_config(harmless_files, tmp_path / "m.keras", lambda c: insert(c, entry))
    )
    assert all(text.isprintable() for text in report.findings)


def h5_with(path: Path, fill) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["a"]
        fill(file)
    return path


def secret(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["numbers"] = np.arange(4.0)
    return folder / "secret.h5"


def external_link(file):
    file["x"] = h5py.ExternalLink("secret.h5", "/numbers")


def soft_link(file):
    file["x"] = h5py.SoftLink("/a/b")


def external_storage(file):
    file.create_dataset("x", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("secret.h5", "numbers", (4,))
    file.create_virtual_dataset("x", layout)


def huge(file):
    file.create_dataset("x", (1 << 20, 1 << 12), "f4", chunks=(64, 64))


def many(file):
    for i in range(20):
        file.create_dataset(f"x{i}", (1 << 21,), "f4", chunks=(1 << 10,))


def text(file):
    file.create_dataset("x", (2,), h5py.string_dtype())


H5_TRICKS = {
    external_link: "ExternalLink",
    soft_link: "SoftLink",
    external_storage: "another file",
    virtual: "virtual",
    huge: "16384.0 MiB",
    many: "64 times",
    text: "not numbers",
}


@pytest.mark.parametrize("trick", H5_TRICKS, ids=lambda f: f.__name__)
def test_hdf5_links_and_claims_are_refused_in_both_formats(harmless_files, tmp_path, trick):
    secret(tmp_path)
    word = H5_TRICKS[trick]
    loose = h5_with(tmp_path / "m.h5", trick)
    assert word in "; ".join(loading.scan(loose).findings)
    with pytest.raises(UnsafeModelError, match="--trust-model"):
        loading.load_weights(small_model(), loose)
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as copy:
        with zipfile.ZipFile(harmless_files / "m.keras") as source:
            copy.writestr("config.json", source.read("config.json"))
        copy.write(loose, "model.weights.h5")
    refused(tmp_path / "m.keras", word)


def test_a_cycle_of_hard_links_ends(tmp_path):
    def loop(file):
        file.create_group("a")["again"] = file["/"]

    assert loading.scan(h5_with(tmp_path / "m.h5", loop)).safe


def archive(path: Path, members: dict[str, bytes], compression=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_zip_bombs_are_not_unpacked(tmp_path):
    bomb = {"config.json": b" " * (50 << 20)}
    path = archive(tmp_path / "m.keras", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    refused(path, "config.json", "52428800 bytes")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_members_outside_the_archive_are_refused(harmless_files, tmp_path, name):
    path = with_config(harmless_files, tmp_path / "m.keras", lambda c: None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"x")
    refused(path, "outside the archive")
    assert not (tmp_path.parent / "evil").exists()


def test_two_members_of_one_name_are_refused(harmless_files, tmp_path):
    path = with_config(harmless_files, tmp_path / "m.keras", lambda c: None)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", b"{}")
    refused(path, "several members of one name")


def test_too_deep_nesting_is_an_error_not_a_crash(tmp_path):
    members = {"config.json": b'{"a":' * 200_000 + b"1" + b"}" * 200_000}
    with pytest.raises(ModelError, match="damaged"):
        loading.scan(archive(tmp_path / "m.keras", members))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.keras", b"not a zip", "no zip archive"),
        ("m.h5", b"PK\x03\x04", "cut short"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "damaged"),
        ("m.keras", b"PK\x03\x04" + b"\0" * 50, "damaged"),
        ("m.onnx", b"other", "rebuild the architecture"),
        ("m.pt", b"other", "rebuild the architecture"),
        ("m.tflite", b"other", "no gradients"),
        ("m.pb", b"other", "model.save"),
        ("m", b"other", "without an extension"),
    ],
)
def test_other_files_are_refused_with_the_accepted_formats(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=words):
        loading.load_model(tmp_path / name)


def test_folders_missing_files_and_urls_are_refused(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    with pytest.raises(ModelError, match=r"SavedModel folder.*\.keras"):
        loading.scan(tmp_path / "saved")
    with pytest.raises(ModelError, match="no model file"):
        loading.scan(tmp_path / "nothing.keras")
    for address in ("hf://a/b", "https://x/m.keras", "gs://x/m.keras", "file:///m.keras"):
        with pytest.raises(ModelError, match="remote address"):
            loading.load_model(address)


def test_an_hdf5_file_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="neither a Keras model nor Keras weights"):
        loading.scan(secret(tmp_path))


def test_a_custom_layer_is_refused_and_explained_if_trusted(harmless_files, tmp_path):
    own = {"module": "my.layers", "class_name": "Mine", "config": {}, "name": "mine"}
    own["inbound_nodes"] = []
    path = with_config(harmless_files, tmp_path / "m.keras", lambda c: insert(c, own))
    refused(path, "my.layers.Mine")
    with pytest.raises(ModelError, match="register_keras_serializable"):
        loading.load_model(path, trust=True)


def test_an_older_keras_version_is_noted(harmless_files, monkeypatch):
    assert loading.scan(harmless_files / "m.keras").notes == ()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.9.0")
    assert "upgrade to 3.15.1" in loading.scan(harmless_files / "m.keras").notes[0]


def as_keras2(model: keras.Model, path: Path) -> Path:
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
    return path


@pytest.mark.parametrize("name", ["m.weights.h5", "m.h5"])
@pytest.mark.parametrize("layout", ["keras3", "keras2"])
def test_weights_of_both_layouts_load_with_any_file_name(tmp_path, layout, name):
    model = small_model()
    path = tmp_path / name
    if layout == "keras2":
        as_keras2(model, path)
    else:
        model.save_weights(tmp_path / "x.weights.h5")
        (tmp_path / "x.weights.h5").rename(path)
    assert loading.scan(path).format == "weights"
    with pytest.raises(ModelError, match="weights without an architecture"):
        loading.load_model(path)
    other = small_model()
    for weight in other.weights:
        weight.assign(keras.ops.zeros_like(weight))
    loading.load_weights(other, path)
    for ours, theirs in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_another_architecture_are_refused(tmp_path):
    small_model().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ModelError, match="belong together"):
        loading.load_weights(small_model(units=5), tmp_path / "m.weights.h5")


@pytest.mark.slow
def test_operations_that_keras_writes_by_name_only_are_found(tmp_path):
    """Keras 3 cannot load its own HDF5 file of a model with arithmetic: it does not state the modules."""
    image = keras.Input((8, 8, 3))
    scaled = keras.applications.mobilenet.preprocess_input(image)
    body = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(scaled))
    both = keras.layers.Subtract()([keras.layers.Dense(3)(body), keras.layers.Dense(3)(body)])
    both = keras.ops.relu(both + 3.0) - keras.ops.softmax(both, axis=1)
    model = keras.Model(image, keras.layers.Softmax()(both))
    model.save(tmp_path / "m.h5")
    with pytest.raises((ValueError, TypeError)):
        keras.saving.load_model(tmp_path / "m.h5")
    loaded = loading.load_model(tmp_path / "m.h5")
    counts = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(np.asarray(loaded(counts)), np.asarray(model(counts)))
