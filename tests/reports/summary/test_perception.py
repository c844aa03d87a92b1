"""Tests of perception.py against scikit-image, and against published colour differences."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from robustness.reports.summary import perception
from robustness.reports.summary.perception import colour_difference, ssim

SIZES = [(11, 11, 3), (12, 40, 1), (40, 13, 4), (257, 301, 3), (31, 33, 2)]


def changed(shape: tuple[int, ...], most: int, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture with noise, and the same with changes of up to `most` counts."""
    rng = np.random.default_rng(shape[0] + most)
    rows, columns = np.linspace(0, 5, shape[0]), np.linspace(0, 9, shape[1])
    waves = 128 + 90 * np.sin(rows[:, None] + columns) + 20 * rng.standard_normal(shape[:2])
    before = np.clip(waves[..., None] + 40 * np.arange(shape[2]), 0, 255).astype(np.uint8)
    noise = rng.integers(-most, most + 1, shape) * (rng.random((*shape[:2], 1)) < share)
    return before, np.clip(before + noise, 0, 255).astype(np.uint8)


def library(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    similar = structural_similarity(
        before,
        after,
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    colours = [
        rgb2lab(one[..., :3] if one.shape[-1] >= 3 else np.repeat(one[..., :1], 3, -1))
        for one in (before, after)
    ]
    return float(similar), float(deltaE_ciede2000(*colours).mean())


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(("most", "share"), [(1, 1.0), (4, 1.0), (200, 1.0), (255, 0.05)])
def test_the_figures_are_those_of_the_library(shape, most, share, monkeypatch):
    monkeypatch.setattr(perception, "_STRIP", 4000)
    before, after = changed(shape, most, share)
    similar, colour = library(before, after)
    assert ssim(before, after) == pytest.approx(similar, abs=1e-4)
    assert colour_difference(before, after) == pytest.approx(colour, abs=1e-4)


def test_flat_black_and_white_pictures_have_the_figures_of_the_library():
    black, white = np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)
    for pair in ((black, white), (black, black), (white, white - 1), (black, black + 1)):
        similar, colour = library(*pair)
        assert ssim(*pair) == pytest.approx(similar, abs=1e-4)
        assert colour_difference(*pair) == pytest.approx(colour, abs=1e-4)


def test_every_colour_is_within_rounding_of_the_library():
    rng = np.random.default_rng(7)
    before, after = rng.integers(0, 256, (2, 150, 200, 3), dtype=np.uint8)
    assert colour_difference(before, after) == pytest.approx(library(before, after)[1], abs=1e-4)


def test_strips_and_threads_change_nothing_but_rounding(monkeypatch):
    before, after = changed((257, 301, 3), 4)
    whole = ssim(before, after), colour_difference(before, after)
    monkeypatch.setattr(perception, "_STRIP", 1)
    monkeypatch.setattr(perception, "_THREADS", 3)
    found = ssim(before, after), colour_difference(before, after)
    assert found == pytest.approx(whole, abs=1e-6)
    assert found == (ssim(before, after), colour_difference(before, after))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (56, -27, -3), 31.9030),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_published_colour_differences(one, other, expected):
    """Sharma et al. 2005, table 1."""
    pair = (np.array([colour], np.float32).T for colour in (one, other))
    assert perception._ciede2000(*pair) == pytest.approx(expected, abs=1e-4)
