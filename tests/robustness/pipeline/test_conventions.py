"""Named pipelines against the libraries called by hand, and against their differentiable twins."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustness.errors import PipelineError
from robustness.images.decode import decode
from robustness.images.png import to_png
from robustness.pipeline.conventions.pillow import FILTERS
from robustness.pipeline.conventions.tensorflow_image import cropped_axes
from robustness.pipeline.geometry import twin_image
from robustness.pipeline.named import CONVENTIONS, parse_pipeline
from tests.robustness.pipeline.by_hand import BY_HAND

SHAPE = (48, 64)
SIZES = [
    (1, 1),
    (1, 9),
    (11, 1),
    (17, 23),
    (48, 64),
    (64, 48),
    (96, 128),
    (97, 61),
    (60, 20),
    (128, 301),
    (200, 133),
    (375, 500),
]
FILES = {"keras_hub": "keras_hub", "torchvision": "torchvision", "opencv": "cv2"}
"""The modules that must be installed for the library to be called by hand."""
ASPECT: list[dict[str, Any]] = [{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}]
CROPS: list[dict[str, Any]] = [
    {},
    {"pad": 114},
    {"crop": "aspect"},
    {"resize": 70, "crop": "48x64"},
]
SOFT = ("gaussian", "mitchellcubic")


def variants(name: str) -> Iterator[dict[str, Any]]:
    """Every interpolation with every option that changes the result."""
    interpolations = CONVENTIONS[name].keys["interpolation"].kind.names  # type: ignore[attr-defined]
    every: dict[str, list[dict[str, Any]]] = {
        "pillow": CROPS,
        "opencv": CROPS,
        "keras.load_img": [{}, {"keep_aspect_ratio": True}],
        "keras.image_dataset_from_directory": ASPECT,
        "tf.image.resize": [{}, {"antialias": True}],
        "tf.image.resize_with_pad": [{}, {"antialias": True}],
        "keras.layers.Resizing": [
            *ASPECT,
            {"antialias": True},
            {"dtype": "uint8"},
            {"dtype": "uint8", "pad_to_aspect_ratio": True, "fill_value": 114},
        ],
        "keras.layers.CenterCrop": [{}],
        "keras_hub": [
            {},
            {"dtype": "uint8"},
            {"crop_to_aspect_ratio": False},
            {"crop_to_aspect_ratio": False, "pad_to_aspect_ratio": True, "antialias": True},
        ],
        "torchvision": [{}, {"resize": 70, "crop": "48x64"}],
    }
    for interpolation, more in itertools.product(interpolations, every[name]):
        if not (interpolation in SOFT and "crop_to_aspect_ratio" in more):
            yield {"interpolation": interpolation, **more}


def tensor_variants() -> Iterator[dict[str, Any]]:
    for kind, interpolation, antialias, more in itertools.product(
        ("tensor", "tensor-v1"),
        ("bilinear", "nearest", "nearest-exact", "bicubic"),
        (True, False),
        ({}, {"resize": 70, "crop": "48x64"}),
    ):
        yield {"interpolation": interpolation, "kind": kind, "antialias": antialias, **more}


def text_of(name: str, keys: dict[str, Any]) -> str:
    return f"{name}:" + ",".join(f"{key}={value}" for key, value in keys.items())


def noise(size: tuple[int, int], channels: int, seed: int) -> np.ndarray:
    """Noise of all counts, or of 0 and 255 only, which makes kernels overshoot."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        return (rng.random((*size, channels)) < 0.5).astype(np.uint8) * np.uint8(255)
    return rng.integers(0, 256, (*size, channels)).astype(np.uint8)


def _crashes(name: str) -> bool:
    """Whether the library cannot be imported any more: PyTorch's CUDA build after TensorFlow."""
    late = "tensorflow" in sys.modules and find_spec("triton") is not None
    return name == "torchvision" and late and name not in sys.modules


def expect_exact(
    name: str, keys: dict[str, Any], sizes: list[tuple[int, int]], channels: int, folder: Path
) -> None:
    """Judge and library agree to the bit, on pixels and on files; the twin is within a count of both."""
    convention = parse_pipeline(text_of(name, keys)).convention
    shape = (*SHAPE, channels)
    folder.mkdir()
    pictures, images, paths = [], [], []
    for number, size in enumerate(sizes):
        picture = noise(size, channels, number)
        try:
            images.append(convention.image(picture, shape))
        except PipelineError:
            assert max(size) > 40 * min(size)  # nothing else is too thin for a library
            continue
        pictures.append(picture)
        paths.append(folder / f"{number:04}.png")
        paths[-1].write_bytes(to_png(picture))
    assert len(images) >= len(sizes) // 2
    for picture, image in zip(pictures, images, strict=True):
        assert image.shape == shape
        twin = twin_image(convention.geometry(picture.shape[:2], shape), convention, picture)
        allowed = 1.001 if convention.whole else 0.01
        assert abs(twin - image.astype(np.float64)).max() <= allowed, (keys, picture.shape)
        assert not convention.whole or np.array_equal(image, np.rint(image))
    if find_spec(FILES.get(name, "numpy")) is not None and not _crashes(name):
        for path, image, wanted in zip(
            paths, images, BY_HAND[name](paths, shape, keys), strict=True
        ):
            assert np.array_equal(image, wanted), (keys, path)
            assert np.array_equal(convention.image_of_file(path.read_bytes(), shape), wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("pillow", "tf.image.resize") else pytest.mark.slow)
        for name in CONVENTIONS
    ],
)
def test_a_convention_is_the_named_code_to_the_bit(name, tmp_path):
    if name == "opencv":
        pytest.importorskip("cv2")
    for number, keys in enumerate(variants(name)):
        folder = tmp_path / str(number)
        expect_exact(name, keys, SIZES[number % 3 :: 3], (3, 1)[number // 3 % 2], folder)


def test_tensors_of_torchvision_are_the_named_code_to_the_bit(tmp_path):
    if _crashes("torchvision"):
        pytest.skip("this build of PyTorch crashes after TensorFlow; run this test alone")
    pytest.importorskip("torchvision")
    for number, keys in enumerate(tensor_variants()):
        folder = tmp_path / str(number)
        expect_exact("torchvision", keys, SIZES[number % 3 :: 3], (3, 1)[number // 3 % 2], folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVENTIONS)
def test_two_hundred_random_pictures_are_equal_to_the_bit(name, tmp_path):
    if name == "opencv":
        pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    every = list(variants(name))
    sides = (1 + rng.uniform(0, 1, (200, 2)) ** 2.5 * (799, 599)).astype(int)
    sizes = [(int(a), int(b)) for a, b in [(1, 1), (1500, 1100), *sides[2:]]]
    for number, keys in enumerate(every):
        folder = tmp_path / str(number)
        expect_exact(name, keys, sizes[number :: len(every)], (3, 1)[number % 2], folder)


def turned_jpeg(turn: int = 6) -> bytes:
    """A JPEG of 40x24 pixels with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = turn
    data = io.BytesIO()
    Image.fromarray(noise((24, 40), 3, 0)).save(data, "JPEG", quality=90, exif=exif)
    return data.getvalue()


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_photograph_is_decoded_and_turned_as_the_library_does(name, channels, tmp_path):
    if find_spec(FILES.get(name, "numpy")) is None or _crashes(name):
        pytest.skip(f"{FILES[name]} is not installed, or cannot be imported after TensorFlow")
    path = tmp_path / "only" / "turned.jpg"
    path.parent.mkdir()
    path.write_bytes(turned_jpeg())
    keys = {"interpolation": "bilinear" if name == "keras.layers.CenterCrop" else "nearest"}
    convention = parse_pipeline(text_of(name, keys)).convention
    image = convention.image_of_file(path.read_bytes(), (*SHAPE, channels))
    wanted = BY_HAND[name]([path], (*SHAPE, channels), keys)[0]
    assert np.array_equal(image, wanted)
    path.write_bytes(turned_jpeg(turn=1))
    upright = convention.image_of_file(path.read_bytes(), (*SHAPE, channels))
    assert np.array_equal(image, upright) != convention.oriented


@pytest.mark.parametrize("name", ["pillow", "opencv"])
def test_the_orientation_can_be_ignored(name):
    pytest.importorskip("cv2")
    convention = parse_pipeline(f"{name}:orientation=ignore").convention
    assert not convention.oriented
    turned, upright = (convention.image_of_file(turned_jpeg(turn), (*SHAPE, 3)) for turn in (6, 1))
    assert np.array_equal(turned, upright)


@pytest.mark.parametrize("kind", ["RGBA", "P", "CMYK", "I;16", "LA"])
def test_pillow_is_what_an_audit_without_a_pipeline_does(kind):
    data = io.BytesIO()
    if kind == "I;16":
        picture = Image.fromarray(noise((30, 50), 1, 0)[..., 0].astype(np.uint16) * 257)
    elif kind in ("RGBA", "CMYK"):
        picture = Image.fromarray(noise((30, 50), 4, 0), kind)
    else:
        picture = Image.fromarray(noise((30, 50), 3, 0)).convert(kind)
    picture.save(data, "TIFF" if kind == "CMYK" else "PNG")
    image = parse_pipeline("pillow").convention.image_of_file(data.getvalue(), (*SHAPE, 3))
    assert np.array_equal(image, decode(data.getvalue(), "a.png", (*SHAPE, 3))[0])


def test_every_filter_of_pillow_is_offered():
    assert {name.lower() for name in Image.Resampling.__members__} == set(FILTERS)


@pytest.mark.parametrize(
    ("text", "size", "message"),
    [
        ("pillow:crop=48x64", (40, 80), "has 80 × 40 pixels; the pipeline crops 64 × 48"),
        ("pillow:resize=50,crop=48x64", (40, 40), "40 × 40 pixels, 50 × 50 after resizing"),
        ("opencv:crop=48x64", (40, 80), "the pipeline crops 64 × 48"),
        ("pillow:crop=32", (40, 80), "gives images of 32 × 32 × 3 .* takes 48 × 64 × 3"),
        ("pillow:resize=9000,crop=9", (1, 60_000), "at most 50,000,000 are made"),
        ("torchvision:resize=70,crop=60", (40, 80), "gives images of 60 × 60 × 3"),
        ("tf.image.resize_with_pad", (1, 900), "cannot resize a picture of 900 × 1 pixels"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(text, size, message):
    if text.startswith("opencv"):
        pytest.importorskip("cv2")
    convention = parse_pipeline(text).convention
    with pytest.raises(PipelineError, match=message):
        convention.image(noise(size, 3, 0), (*SHAPE, 3))


def test_torchvision_pads_what_is_smaller_than_its_crop():
    convention = parse_pipeline("torchvision:crop=48x64").convention
    image = convention.image(np.full((11, 80, 3), 200, np.uint8), (*SHAPE, 3))
    assert (image[18:29] == 200).all()
    assert not image[:18].any()
    assert not image[29:].any()


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would start another program
        to_png(np.zeros((4, 4, 3), np.uint8))[:30],
        # The header of a PNG with 60,000 x 60,000 pixels.
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea`\0\0\xea`\x08\2\0\0\0\x1d\xb4\x1f\x9b",
    ],
    ids=["empty", "postscript", "truncated", "huge"],
)
def test_files_that_are_no_sound_pictures_are_refused(name, data):
    if name == "opencv":
        pytest.importorskip("cv2")
    with pytest.raises(PipelineError):
        parse_pipeline(name).convention.image_of_file(data, (*SHAPE, 3))


def test_load_img_refuses_grey_counts_above_255():
    data = io.BytesIO()
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(data, "PNG")
    with pytest.raises(PipelineError, match="exceed 255"):
        parse_pipeline("keras.load_img").convention.image_of_file(data.getvalue(), (4, 4, 1))


def test_models_with_other_channels_are_refused():
    with pytest.raises(PipelineError, match="takes 2 channels"):
        parse_pipeline("pillow").convention.image_of_file(turned_jpeg(), (*SHAPE, 2))


def test_weights_of_large_pictures_are_complete():
    geometry = parse_pipeline("pillow:lanczos").convention.geometry((3000, 4000), (224, 224, 3))
    assert geometry.size == (3000, 4000)
    assert geometry.rows.dtype == geometry.columns.dtype == np.float32
    np.testing.assert_allclose(geometry.columns.sum(axis=1), 1, atol=1e-5)
    assert (geometry.columns != 0).any(axis=0).all()


def test_nearest_reads_the_share_of_pixels_that_the_sizes_say():
    geometry = parse_pipeline("keras.load_img").convention.geometry((375, 500), (128, 128, 3))
    read = np.outer((geometry.rows != 0).any(axis=0), (geometry.columns != 0).any(axis=0))
    assert read.mean() == 128 * 128 / (375 * 500)


@pytest.mark.parametrize("shape", [(224, 224, 3), (299, 180, 3), (48, 64, 1), (1, 7, 3)])
def test_crops_are_the_same_in_both_precisions_of_keras(shape):
    """Keras counts in float64 where it knows a picture's size, and in float32 in a dataset."""
    for side in range(1, 8192, 7):
        for size in ((side, 3000), (3000, side)):
            rows, columns = cropped_axes(size, shape)
            height = max(1, min(size[0], int(float(size[1] * shape[0]) / shape[1])))
            width = max(1, min(size[1], int(float(size[0] * shape[1]) / shape[0])))
            assert (rows.length, columns.length) == (height, width)
            assert rows.start == int(float(size[0] - height) / 2)
            assert columns.start == int(float(size[1] - width) / 2)
