"""Tests of the share of pixels that a pipeline reads: against closed form, and against changed pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.pipeline.geometry import Geometry
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.read_share import PixelsRead

SHAPE = (128, 128, 3)
SIDES = st.integers(1, 40)


def of(text: str, size: tuple[int, int], shape: tuple[int, int, int] = SHAPE) -> PixelsRead:
    return PixelsRead.of(parse_pipeline(text).convention.geometry(size, shape))


@pytest.mark.parametrize(
    "text", ["pillow:nearest", "keras.load_img:nearest", "tf.image.resize:nearest"]
)
def test_nearest_reads_one_pixel_per_pixel_of_the_image(text):
    read = of(text, (375, 500))
    assert read.share == 128 * 128 / (375 * 500)
    assert f"{100 * read.share:.1f}" == "8.7"
    assert read.influence().shape == (375, 500)
    assert read.influence().sum() == 128 * 128 and read.influence().max() == 1


def test_bilinear_without_antialiasing_reads_four_pixels_per_pixel_of_the_image():
    read = of("tf.image.resize:bilinear", (750, 1000))
    assert read.share == pytest.approx(4 * 128 * 128 / (750 * 1000), rel=0.02)


@pytest.mark.parametrize("text", ["pillow:bilinear", "pillow:box", "tf.image.resize:area"])
def test_a_resize_that_averages_reads_every_pixel(text):
    read = of(text, (384, 512))
    assert read.share == read.share_of_window == 1
    assert read.influence().sum() == pytest.approx(128 * 128, rel=1e-3)


def test_a_crop_is_not_what_the_resize_ignores():
    read = of("torchvision:resize=256,crop=224", (512, 1024), (224, 224, 3))
    # The crop keeps 448 of 512 rows and 448 of 1024 columns; the kernels reach a little beyond.
    assert read.share == pytest.approx(448 * 448 / (512 * 1024), rel=0.02)
    assert read.share_of_window == 1


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    height=SIDES,
    width=SIDES,
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_exactly_the_pixels_with_influence_change_the_image(height, width, rows, columns, seed):
    rng = np.random.default_rng(seed)

    def weights(out: int, length: int) -> np.ndarray:
        return np.where(rng.random((out, length)) < 0.3, rng.normal(size=(out, length)), 0).astype(
            "f4"
        )

    geometry = Geometry(weights(rows, height), weights(columns, width))
    read = PixelsRead.of(geometry)
    black = np.zeros((height, width, 1), np.float32)
    moved = np.zeros((height, width), bool)
    for place in np.ndindex(height, width):
        one = black.copy()
        one[place] = 255
        moved[place] = np.abs(geometry.apply(one)).max() > 0
    assert ((read.influence() > 0) == moved).all()
    assert read.share == moved.mean()
    assert read.share <= read.share_of_window <= 1
