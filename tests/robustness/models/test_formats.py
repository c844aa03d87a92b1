"""What a file is, its first bytes say: each kind has its sentence and next step; suffixes decide nothing."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.errors import ModelError
from robustness.models import formats, loading
from robustness.models.suffixes import is_model_file_name

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:66505e68\nsize 1555008\n"
DVC = b"outs:\n- md5: a304afb96060aad90176268345e10355\n  size: 37891850\n  path: model.h5\n"
KINDS = {
    "empty": (b"", "an empty file"),
    "lfs": (LFS, r"git lfs pull --include \S*m\.h5"),
    "dvc": (DVC, r"dvc pull \S*m\.h5"),
    "annex": (b"/annex/objects/SHA256E-s12--ab.h5\n", "git annex get"),
    "html": (b"\n<!DOCTYPE html>\n<html>", "web page.*Download raw file"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "servers send"),
    "architecture": (b'{"class_name": "Sequential", "config": {}}', "--architecture"),
    "yaml": (b"backend: tensorflow\nclass_name: Model\n", "in YAML.*--architecture"),
    "tfjs": (b'{"format": "layers-model", "modelTopology": {}}', "TensorFlow.js"),
    "json": (b'{"message": "Not Found"}', "a JSON text"),
    "tflite": (b"\x1c\0\0\0TFL3" + b"\0" * 20, "no gradients"),
    "safetensors": (b"\x10\0\0\0\0\0\0\0" + b'{"a": 1}', "safetensors.*rebuild"),
    "pickle": (b"\x80\x04\x95\x10\0", "pickle runs code"),
    "onnx": (b"\x08\x07\x12\x07pytorch", "an ONNX file.*rebuild"),
    "saved_model": (b"\x08\x01\x12\x90", "SavedModel"),
    "gzip": (b"\x1f\x8b\x08\0", "an archive.*unpack"),
    "picture": (b"\x89PNG\r\n\x1a\n", "a picture.*-m"),
    "array": (b"\x93NUMPY\x01\0", "a NumPy array"),
    "zeros": (b"\0" * 5000, "unfinished download"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named_with_what_to_do(tmp_path, kind):
    content, words = KINDS[kind]
    path = tmp_path / "m.h5"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"(?s){words}"):
        loading.scan(path)


ARCHIVES = {
    "model/data.pkl": "a PyTorch file",
    "weights.npy": "a NumPy archive",
    "saved/saved_model.pb": "a zipped SavedModel",
    "model.json": "TensorFlow.js",
    "keras_model.h5": "holds 'keras_model.h5'; .*unpack it",
}


@pytest.mark.parametrize("member", ARCHIVES)
def test_each_zip_archive_of_something_else_is_named(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr(member, b"something")
    with pytest.raises(ModelError, match=ARCHIVES[member]):
        loading.scan(tmp_path / "m.keras")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    return folder


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("m.keras", "a.KERAS"),
        ("m.keras", "a.h5"),
        ("m.keras", "a.zip"),
        ("m.h5", "a.keras"),
        ("m.h5", "a.model"),
        ("m.h5", "a.H5"),
        ("m.h5", "a.hdf5"),
        ("m.h5", "a.hdf"),
        ("m.h5", "a.he5"),
        ("m.h5", "a"),
        ("m.h5", "a.weights.h5"),
    ],
)
def test_a_model_loads_whatever_it_is_called(saved, tmp_path, source, name):
    shutil.copyfile(saved / source, tmp_path / name)
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    loaded, expected = (
        loading.load_model(path)(images).numpy() for path in (tmp_path / name, saved / source)
    )
    assert np.array_equal(loaded, expected)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_half_download_says_so(saved, tmp_path, name):
    whole = (saved / name).read_bytes()
    for part in (0.3, 0.6, 0.95):
        (tmp_path / name).write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(ModelError, match=r"cut short.* bytes are there"):
            loading.load_model(tmp_path / name)


def test_names_of_model_files_are_recognised_in_either_case():
    for name in ("a.keras", "b/A.KERAS", Path("x.H5"), "c.hdf5", "d.model"):
        assert is_model_file_name(name)
    for name in ("keras", "h5", "a.txt", "dogs-vs-cats", "kaggle:a/b"):
        assert not is_model_file_name(name)


@given(st.binary(max_size=600))
def test_no_bytes_make_it_fail(head):
    kind = formats.file_kind(head)
    assert kind is None or kind in formats.FORMATS
    if kind is not None and kind.name not in ("keras", "h5"):
        assert "Next: " in kind.refusal(Path("it's.h5"))


def test_every_kind_is_reached():
    reached = {formats.file_kind(content).name for content, _ in KINDS.values()}
    assert reached | {"keras", "h5"} == {one.name for one in formats.FORMATS}


def test_a_path_with_a_quote_stays_one_word_in_the_command(tmp_path):
    path = tmp_path / "it's mine; rm -rf.h5"
    path.write_bytes(LFS)
    with pytest.raises(ModelError) as caught:
        loading.scan(path)
    assert "'\"'\"'" in str(caught.value)


def test_weights_only_say_that_this_is_what_they_are(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense").attrs["weight_names"] = []
    with pytest.raises(ModelError, match=r"weights without an architecture.*--architecture"):
        loading.load_model(tmp_path / "m.h5")
