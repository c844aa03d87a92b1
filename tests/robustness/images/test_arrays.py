"""Tests of arrays in memory and in `.npz` files: accepted values, helpful errors, lazy reading."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from robustness.errors import ImagesError
from robustness.images import from_arrays, open_source

SHAPE = (4, 5, 3)


def _images(count=6, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE)).astype(dtype)


@pytest.fixture(params=[np.savez, np.savez_compressed])
def npz(request, tmp_path):
    def save(known=None, **arrays):
        request.param(tmp_path / "data.npz", **arrays)
        return open_source(tmp_path / "data.npz", known)

    return save


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, ">f4"])
def test_counts_of_any_type_are_unchanged(npz, dtype):
    images = _images(dtype=dtype)
    for source in (from_arrays(images), npz(images=images)):
        pictures = [source.read(entry, SHAPE) for entry in source.entries()]
        assert [p.entry.key for p in pictures] == [f"row {n}" for n in range(6)]
        assert pictures[0].pixels.dtype == np.uint8
        np.testing.assert_array_equal([p.pixels for p in pictures], _images())
        assert pictures[3].note == ""


def test_labels_and_names_are_read(npz):
    images, labels = _images(3), np.array([1, 0, 1])
    source = npz(images=images, labels=labels, class_names=np.array(["cat", "dog"]))
    assert source.class_names == ("cat", "dog")
    assert [entry.label for entry in source.entries()] == [1, 0, 1]
    assert source.description == "data.npz, 2 classes, 3 images"
    assert npz(known=["a", "b"], images=images, class_names=["cat", "dog"]).class_names == (
        "a",
        "b",
    )
    words = from_arrays(images, ["dog", "cat", "dog"], names=["x", "y", "z"])
    assert words.class_names == ("cat", "dog")
    assert [(e.label, e.name, e.key) for e in words.entries()][1] == (0, "y", "row 1")


def test_integer_labels_are_indices_even_if_classes_have_numeric_names():
    source = from_arrays(_images(2), [0, 1], class_names=["1", "0"])
    assert [entry.label for entry in source.entries()] == [0, 1]


@pytest.mark.parametrize("low", [0, -1])
def test_scaled_images_are_refused_with_the_formula(npz, low):
    scaled = _images(dtype=np.float32) / 255 * (1 - low) + low
    formula = r"images \* 255" if low == 0 else r"\(images \+ 1\) \* 127.5"
    with pytest.raises(ImagesError, match=rf"expected counts 0..255: give np.round\({formula}"):
        npz(images=scaled)
    with pytest.raises(ImagesError, match="expected counts"):
        from_arrays((_images() > 128).astype(np.float32))


@pytest.mark.parametrize("value", [0.5, -3, 256, np.nan, np.inf])
def test_values_outside_8_bit_counts_are_refused(value):
    images = _images(dtype=np.float64)
    images[2, 0, 0, 0] = value
    with pytest.raises(ImagesError, match=r"row 2 has values .*whole numbers from 0 to 255"):
        from_arrays(images)


def test_black_float_images_are_counts():
    assert (
        from_arrays(np.zeros((2, *SHAPE)))
        .read(from_arrays(np.zeros((2, *SHAPE))).entries()[0], SHAPE)
        .digest
    )


@pytest.mark.parametrize("shape", [SHAPE, (6, 4, 5), (0, *SHAPE), (2, 0, 5, 3)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ImagesError, match=r"expected \(n, height, width, channels\)"):
        from_arrays(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [bool, complex, "U1", object])
def test_another_type_is_refused(dtype):
    with pytest.raises(ImagesError, match="expected counts"):
        from_arrays(np.zeros((1, *SHAPE), dtype))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1], "expected one each"),
        (np.eye(6), "np.argmax"),
        ([0, 1, 2, 0, 1, 2], "2 is not a class; expected cat, dog"),
        ([0, 1, -1, 0, 1, 0], "-1 is not a class"),
        ([0.5] * 6, "0.5 is no whole number; expected a class number or name"),
    ],
)
def test_bad_labels_are_refused(labels, words):
    with pytest.raises(ImagesError, match=words):
        from_arrays(_images(), labels, ["cat", "dog"])


def test_an_image_of_another_size_is_resized_with_a_note():
    source = from_arrays(np.full((1, 8, 10, 1), 9, np.uint8))
    picture = source.read(source.entries()[0], SHAPE)
    assert (picture.pixels == 9).all()
    assert picture.note == "grey converted to RGB; resized from 10x8"
    seven = from_arrays(np.zeros((1, 8, 8, 7), np.uint8))
    assert "7 channels are not resized" in seven.read(seven.entries()[0], SHAPE).reason
    assert seven.read(seven.entries()[0], (8, 8, 7)).pixels is not None


def test_rows_are_read_one_at_a_time(npz):
    images = np.random.default_rng(0).integers(0, 256, (400, 64, 64, 3), np.uint8)  # 4.7 MiB
    npz(images=images[:1])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    source = npz(images=images)
    tracemalloc.reset_peak()
    for entry in source.entries():
        assert source.read(entry, (64, 64, 3)).pixels is not None
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 1 << 20


def test_pickles_are_refused(npz):
    with pytest.raises(ImagesError, match="pickled"):
        npz(images=np.full((1, *SHAPE), None))
    with pytest.raises(ImagesError, match=r"cannot be read .*expected a sound \.npz"):
        npz(images=_images(), labels=np.array([None] * 6))


def test_an_npz_without_images_is_refused_with_the_expected_content(npz, tmp_path):
    with pytest.raises(ImagesError, match="holds the arrays x_train; expected `images`"):
        npz(x_train=_images())
    with pytest.raises(ImagesError, match="Fortran-ordered"):
        npz(images=np.asfortranarray(_images()))
    (tmp_path / "bad.npz").write_bytes(b"garbage")
    with pytest.raises(ImagesError, match="cannot be read"):
        open_source(tmp_path / "bad.npz")


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    """The header claims a terabyte; no memory is allocated for it."""
    import io
    import zipfile

    header = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000, 1)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(ImagesError, match="truncated"):
        open_source(tmp_path / "data.npz")
