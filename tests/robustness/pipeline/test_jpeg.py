"""Tests of jpeg.py against libjpeg (Pillow), and of its gradient against the linear codec."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from keras import ops
from PIL import Image

from robustness.backend import compile as compiled
from robustness.backend import value_and_grad
from robustness.errors import SettingError
from robustness.pipeline.jpeg import CHROMA, LUMA, jpeg, steps_of
from robustness.pipeline.upload import SUBSAMPLINGS, parse_upload


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Shades, an edge and some noise, as photographs have them; uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [
        90
        * np.sin(rows / rng.uniform(9, 30) + rng.uniform(0, 6))
        * np.cos(columns / rng.uniform(9, 30))
        for _ in range(channels)
    ]
    picture = np.stack(waves, -1) + 128 + rng.normal(0, 6, (height, width, channels))
    picture[rows + 2 * columns > height + width // 2] *= 0.5
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def canvas_of(pictures: list[np.ndarray], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    canvas = np.zeros((len(pictures), height, width, pictures[0].shape[-1]), "float32")
    for row, picture in zip(canvas, pictures, strict=True):
        row[: len(picture), : picture.shape[1]] = picture
    return canvas, np.array([picture.shape[:2] for picture in pictures], "int32")


def array(x: object) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(x))


def gradient_of(x: np.ndarray, weights: np.ndarray, quality: float, **more: Any) -> np.ndarray:
    """The gradient of ``sum(weights * jpeg(x))``."""
    rows = np.full(len(x), quality, "float32")

    def value(points, by):
        return ops.sum(jpeg(points, rows, **more) * by, axis=(1, 2, 3)), ()

    _, found = value_and_grad(value)(ops.convert_to_tensor(x), ops.convert_to_tensor(weights))
    return array(found)


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", list(SUBSAMPLINGS))
@pytest.mark.parametrize("quality", [50, 75, 90, 100])
def test_values_are_those_of_libjpeg(quality, subsampling):
    # Whole blocks, odd sizes, few pixels in the last blocks; rows of 48 x 56 hold them all.
    sizes = [(48, 56), (33, 32), (32, 41), (31, 47), (18, 17), (5, 21)] * 8
    pictures = [photograph(*size, seed=n) for n, size in enumerate(sizes)]
    canvas, shapes = canvas_of(pictures, 48, 56)
    upload = parse_upload(f"jpeg:{quality},subsampling={subsampling}")
    out = array(jpeg(canvas, np.full(len(pictures), quality), shapes, subsampling))
    assert np.array_equal(out, np.round(out))
    differences = [
        np.abs(row[: len(picture), : picture.shape[1]] - upload.decode(upload.encode(picture)))
        for row, picture in zip(out, pictures, strict=True)
    ]
    # libjpeg rounds within its cosine transform: a coefficient beside a tie may go the other way.
    for place in range(6):
        several = np.concatenate([d.ravel() for d in differences[place::6]])
        assert several.mean() < 0.5
        assert np.mean(several == 0) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", list(SUBSAMPLINGS))
def test_photographs_are_those_of_libjpeg(subsampling, article_photos):
    files = sorted(article_photos.glob("*.jpg"))
    pictures = [np.asarray(Image.open(file).convert("RGB"))[:232, :296] for file in files]
    canvas, sizes = canvas_of(pictures, 240, 304)
    for quality in (50, 75, 90, 95, 100):
        upload = parse_upload(f"jpeg:{quality},subsampling={subsampling}")
        out = array(jpeg(canvas, np.full(len(files), quality), sizes, subsampling))
        differences = [
            np.abs(row[:232, :296] - upload.decode(upload.encode(picture)))
            for row, picture in zip(out, pictures, strict=True)
        ]
        assert np.mean(differences) < 0.12
        assert np.mean(np.equal(differences, 0)) > 0.91


def test_each_row_has_its_own_quality():
    picture = photograph(48, 64)
    qualities = np.array([5, 49, 50, 51, 98])
    out = array(jpeg(np.repeat(picture[None].astype("float32"), 5, 0), qualities))
    for row, quality in zip(out, qualities, strict=True):
        upload = parse_upload(f"jpeg:{quality}")
        assert np.abs(row - upload.decode(upload.encode(picture))).mean() < 0.5


def test_grey_pictures():
    picture = photograph(43, 50, channels=1)
    upload = parse_upload("jpeg:80")
    out = array(jpeg(picture[None].astype("float32"), np.array([80])))[0]
    assert np.abs(out - upload.decode(upload.encode(picture))).mean() < 0.1


@pytest.mark.parametrize("quality", range(1, 101))
def test_steps_are_those_in_files(quality):
    buffer = io.BytesIO()
    Image.fromarray(photograph(16, 16)).save(buffer, "JPEG", quality=quality)
    with Image.open(io.BytesIO(buffer.getvalue())) as file:
        tables = getattr(file, "quantization")  # noqa: B009 - JPEG files only have it
    for number, table in enumerate((LUMA, CHROMA)):
        steps = array(steps_of(table, ops.convert_to_tensor(np.array([quality], "float32"))))
        assert steps.reshape(-1).tolist() == list(tables[number])


@pytest.mark.parametrize("subsampling", list(SUBSAMPLINGS))
def test_the_gradient_predicts_the_mean_change(subsampling):
    """Changes along random directions correlate with the slopes that the gradient tells."""
    rng = np.random.default_rng(1)
    x = photograph(32, 48)[None].astype("float32")
    weights = rng.normal(0, 1, x.shape).astype("float32")
    found = gradient_of(x, weights, 90, subsampling=subsampling)
    assert np.isfinite(found).all()

    def value(points: np.ndarray) -> np.ndarray:
        out = array(jpeg(points.astype("float32"), np.full(len(points), 90), None, subsampling))
        return (out * weights).sum((1, 2, 3))

    directions = rng.normal(0, 1, (200, *x.shape[1:]))
    changes = value(x + directions) - value(x - directions)
    slopes = (directions * found).sum((1, 2, 3))
    assert np.corrcoef(changes, slopes)[0, 1] > 0.4


def triangle(size: int, factor: int) -> np.ndarray:
    """(size, size / factor): 3/4 of the nearer and 1/4 of the other sample, as libjpeg enlarges chroma."""
    if factor == 1:
        return np.eye(size)
    table = np.zeros((size, size // 2))
    for place in range(size):
        other = place // 2 + (1 if place % 2 else -1)
        table[place, place // 2] += 0.75
        table[place, np.clip(other, 0, size // 2 - 1)] += 0.25
    return table


@pytest.mark.parametrize(
    ("subsampling", "tall", "wide"), [("4:4:4", 1, 1), ("4:2:2", 1, 2), ("4:2:0", 2, 2)]
)
def test_with_a_slope_of_1_the_gradient_is_that_of_the_linear_codec(
    monkeypatch, subsampling, tall, wide
):
    monkeypatch.setattr(
        "robustness.pipeline.jpeg._slope", lambda exact, whole: ops.ones_like(exact)
    )
    height, width = 32, 48
    weights = np.random.default_rng(2).normal(0, 1, (1, height, width, 3)).astype("float32")
    found = gradient_of(np.full_like(weights, 100), weights, 80, subsampling=subsampling)
    forth = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    smooth = [
        triangle(size, factor) @ np.kron(np.eye(size // factor), np.ones((1, factor)) / factor)
        for size, factor in ((height, tall), (width, wide))
    ]
    of_planes = weights[0] @ np.linalg.inv(forth)
    of_planes[..., 1:] = np.einsum("iy,ijc,jx->yxc", smooth[0], of_planes[..., 1:], smooth[1])
    np.testing.assert_allclose(found[0], of_planes @ forth, atol=2e-3)


def test_a_flat_picture_has_a_gradient():
    x = np.full((1, 16, 16, 3), 200, "float32")
    weights = np.random.default_rng(3).normal(0, 1, x.shape).astype("float32")
    assert np.abs(gradient_of(x, weights, 75)).max() > 1e-3


def test_outside_of_pictures_nothing_counts():
    pictures = [photograph(24, 40), photograph(19, 21, seed=1)]
    canvas, sizes = canvas_of(pictures, 32, 48)
    other = canvas.copy()
    other[0, 24:], other[0, :, 40:], other[1, 19:], other[1, :, 21:] = 255, 77, 13, 200
    weights = np.random.default_rng(4).normal(0, 1, canvas.shape).astype("float32")
    quality = np.array([70, 95])
    first, second = (array(jpeg(x, quality, sizes)) for x in (canvas, other))
    gradient = gradient_of(other, weights, 70, sizes=sizes)
    for row, (height, width) in enumerate(sizes):
        assert np.array_equal(first[row, :height, :width], second[row, :height, :width])
        assert not gradient[row, height:].any()
        assert not gradient[row, :, width:].any()
        assert gradient[row, :height, :width].all()


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", list(SUBSAMPLINGS))
def test_a_picture_is_the_same_in_any_batch(subsampling):
    pictures = [photograph(40 - n, 44 + n, seed=n) for n in range(7)]
    canvas, sizes = canvas_of(pictures, 48, 56)
    quality = np.arange(80, 94, 2).astype("float32")
    weights = np.random.default_rng(5).normal(0, 1, canvas.shape).astype("float32")

    def value(points, quality, sizes, weights):
        out = jpeg(points, quality, sizes, subsampling)
        return ops.sum(out * weights, axis=(1, 2, 3)), out

    step = compiled(value_and_grad(value))

    def outcome(rows: list[int]) -> list[np.ndarray]:
        tensors = [ops.convert_to_tensor(x[rows]) for x in (canvas, quality, sizes, weights)]
        (_, out), gradient = step(*tensors)
        return [array(out), array(gradient)]

    whole = outcome(list(range(7)))
    for rows in ([0], [6], [3, 1], [5, 4, 2, 0, 6]):
        for found, expected in zip(outcome(rows), whole, strict=True):
            assert np.array_equal(found, expected[rows])


def test_wrong_use():
    with pytest.raises(SettingError, match="1 or 3 channels; these have 4"):
        jpeg(np.zeros((1, 8, 8, 4), "float32"), np.array([90]))
    with pytest.raises(SettingError, match="expected 4:4:4, 4:2:2, 4:2:0"):
        jpeg(np.zeros((1, 8, 8, 3), "float32"), np.array([90]), None, "4:1:1")


OTHER_BACKEND = """
import numpy as np
from keras import ops
from robustness.backend import value_and_grad
from robustness.pipeline.jpeg import jpeg
from robustness.pipeline.upload import parse_upload
rows, columns = np.mgrid[:24, :40]
shades = np.stack([rows * 4 + columns, 200 - rows * 3, columns * 5], -1)
x = np.clip(shades + np.random.default_rng(0).integers(-3, 4, (2, 24, 40, 3)), 0, 255).astype("uint8")
def value(points):
    out = jpeg(points, np.array([90, 90]), np.array([[24, 40], [24, 40]]))
    return ops.sum(out * out, axis=(1, 2, 3)), out
(_, out), gradient = value_and_grad(value)(ops.convert_to_tensor(x.astype("float32")))
upload = parse_upload("jpeg:90")
for row, picture in zip(ops.convert_to_numpy(out), x):
    assert np.abs(row - upload.decode(upload.encode(picture))).mean() < 0.5
gradient = ops.convert_to_numpy(gradient)
assert gradient.shape == x.shape and np.isfinite(gradient).all() and gradient.any()
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-c", OTHER_BACKEND], env=environment, check=True)
