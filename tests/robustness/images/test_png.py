"""Tests of the PNG writer and reader against Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from robustness.errors import SettingError
from robustness.images.png import from_png, to_png

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from(sorted(MODES)))


def by_pillow(data: bytes) -> tuple[str, np.ndarray]:
    """Mode and pixels (h, w, c) as read by Pillow, which checks every checksum."""
    Image.open(io.BytesIO(data)).verify()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture)
        return picture.mode, pixels[..., None] if pixels.ndim == 2 else pixels


@settings(deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays.arrays(np.uint8, shape)))
def test_pillow_reads_the_same_pixels(pixels):
    mode, read = by_pillow(to_png(pixels))
    assert mode == MODES[pixels.shape[-1]]
    np.testing.assert_array_equal(read, pixels)
    np.testing.assert_array_equal(from_png(to_png(pixels)), pixels)


def test_views_are_written_correctly_and_bytes_are_reproducible():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for view in (pixels[::-1], pixels[:, ::2], pixels.transpose(1, 0, 2), pixels[..., ::-1]):
        np.testing.assert_array_equal(by_pillow(to_png(view))[1], view)
        assert to_png(view) == to_png(view.copy())


def test_files_of_photos_are_hardly_larger_than_those_of_pillow():
    from skimage import data

    cat = data.chelsea()[:128, :128]
    noise = np.random.default_rng(0).integers(-4, 5, cat.shape)
    for picture in (cat, np.clip(cat + noise, 0, 255).astype(np.uint8)):
        library = io.BytesIO()
        Image.fromarray(picture).save(library, format="PNG")
        assert len(to_png(picture)) < 1.15 * len(library.getvalue())


def test_two_channels_are_refused():
    with pytest.raises(SettingError, match="2 channels"):
        to_png(np.zeros((4, 4, 2), np.uint8))
