"""Tests of pixel drawings: data URIs, amplification, patches and thumbnails."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from robustness.reports.page import pixels as pictures

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_data_uri_is_lossless(channels: int) -> None:
    pixels = RNG.integers(0, 256, (5, 9, channels), dtype=np.uint8)
    head, _, body = pictures.data_uri(pixels).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as picture:
        assert np.array_equal(np.asarray(picture).reshape(pixels.shape), pixels)


@pytest.mark.parametrize(
    ("largest", "factor"), [(0, 64), (1, 64), (2, 64), (4, 32), (8, 16), (200, 0.5)]
)
def test_amplification_never_clips(largest: int, factor: float) -> None:
    change = np.array([[[largest, -largest, 0]]])
    assert pictures.amplification(change) == factor
    shown = pictures.amplified(change, factor).astype(int)
    assert shown[0, 0, 2] == 128
    # 128 + 128 is 256: only the largest value is reduced, by one count.
    assert shown[0, 0, 0] == min(255, 128 + largest * factor)
    assert shown[0, 0, 1] == 128 - largest * factor


def test_patch_is_where_the_change_is() -> None:
    before = RNG.integers(20, 200, (40, 50, 3), dtype=np.uint8)
    after = before.copy()
    after[21:29, 33:41, 1] += 9
    found = pictures.patch(before, after)
    assert (found.top, found.left, found.channel) == (21, 33, 1)
    assert (found.difference == 9).all()
    assert np.array_equal(found.before, before[21:29, 33:41, 1])
    assert np.array_equal(found.after, after[21:29, 33:41, 1])


def test_of_equal_changes_the_most_varied_patch_is_shown() -> None:
    before = np.full((24, 24, 1), 100, np.uint8)
    before[8:16, 8:16, 0] = RNG.integers(0, 250, (8, 8))
    found = pictures.patch(before, before + np.uint8(1))
    assert (found.top, found.left) == (8, 8)


def test_patch_of_a_picture_smaller_than_a_patch() -> None:
    before = RNG.integers(0, 200, (3, 5, 1), dtype=np.uint8)
    found = pictures.patch(before, before + np.uint8(1))
    assert found.before.shape == (3, 5)


def test_thumbnail_averages_whole_blocks() -> None:
    pixels = RNG.integers(0, 256, (400, 300, 3), dtype=np.uint8)
    small, factor = pictures.thumbnail(pixels)
    assert (factor, small.shape) == (3, (133, 100, 3))
    assert small[2, 1, 0] == round(float(pixels[6:9, 3:6, 0].mean()))
    same, factor = pictures.thumbnail(pixels[:128, :128])
    assert factor == 1
    assert same.shape == (128, 128, 3)
