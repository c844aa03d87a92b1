"""Pictures for a page: data URIs, the amplified change, the square of pixel values, thumbnails."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from robustness.reports.summary.metrics import delta

PATCH = 8
_MIDDLE = 128
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def data_uri(pixels: np.ndarray) -> str:
    """Return a uint8 picture (height, width, channels) as a PNG data URI that holds only pixels.

    Of two channels, which a page cannot show, only the first is shown.
    """
    mode = _MODES.get(pixels.shape[-1])
    pixels = pixels[..., :1] if mode is None else pixels
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(flat), mode or "L").save(buffer, "PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def amplification(change: np.ndarray) -> float:
    """Return the factor for signed counts with which the largest fits the scale: 0.5 to 64."""
    largest = int(np.abs(change).max(initial=0))
    for factor in (64, 32, 16, 8, 4, 2, 1):
        if largest * factor <= _MIDDLE:
            return float(factor)
    return 0.5


def amplified(change: np.ndarray, factor: float) -> np.ndarray:
    """Return middle grey + `factor` x the signed change, as a uint8 picture without transparency."""
    shown = change[..., :3] if change.shape[-1] == 4 else change
    return np.clip(np.round(_MIDDLE + factor * shown), 0, 255).astype(np.uint8)


_MOST_COLOURS = 65


def difference_scale(reach: int, factor: float, channels: int) -> np.ndarray:
    """Return the colours of `amplified` for changes from -`reach` to +`reach`, uint8 (rows, columns, 3).

    Each column is a change; each row is what a pixel looks like if only that channel changes: red, green
    and blue, or a single row for grey pictures.
    """
    counts = np.linspace(-reach, reach, min(2 * reach + 1, _MOST_COLOURS))
    shades = np.clip(np.round(_MIDDLE + factor * counts), 0, 255).astype(np.uint8)
    if channels < 3:
        return np.repeat(shades[None, :, None], 3, axis=2)
    scale = np.full((3, len(counts), 3), _MIDDLE, np.uint8)
    for channel in range(3):
        scale[channel, :, channel] = shades
    return scale


def strongest(change: np.ndarray, factor: int) -> np.ndarray:
    """Return the change with the largest size of each block of `factor` x `factor` pixels, by channel.

    The mean of a block would hide changes whose signs alternate.
    """
    if factor <= 1:
        return change
    height, width = (side - side % factor for side in change.shape[:2])
    blocks = change[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
    flat = blocks.transpose(0, 2, 4, 1, 3).reshape(height // factor, width // factor, -1, factor**2)
    place = np.abs(flat).argmax(axis=-1)[..., None]
    return np.take_along_axis(flat, place, axis=-1)[..., 0]


def thumbnail(pixels: np.ndarray, most: int = 192) -> tuple[np.ndarray, int]:
    """Reduce a picture by a whole factor until no side is above `most`; return it and the factor."""
    factor = -(-max(pixels.shape[:2]) // most)
    if factor <= 1:
        return pixels, 1
    height, width = (side - side % factor for side in pixels.shape[:2])
    if not height or not width:
        return pixels, 1
    cut = pixels[:height, :width].astype(np.float64)
    blocks = cut.reshape(height // factor, factor, width // factor, factor, -1)
    return np.round(blocks.mean(axis=(1, 3))).astype(np.uint8), factor


@dataclass(frozen=True)
class Patch:
    """A square of one channel: before, after and the difference, each (side, side)."""

    top: int
    left: int
    channel: int
    before: np.ndarray
    after: np.ndarray
    difference: np.ndarray


def patch(before: np.ndarray, after: np.ndarray, side: int = PATCH) -> Patch:
    """Return the square of one channel with the largest change (sum of sizes).

    Of several, the one with the largest variance. Small pictures have smaller squares.
    """
    change = np.abs(delta(before, after)).astype(np.int64)
    colours = min(3, change.shape[-1])
    channel = int(change[..., :colours].sum(axis=(0, 1)).argmax())
    rows, columns = (min(side, length) for length in before.shape[:2])
    sums = _boxes(change[..., channel], rows, columns)
    values = before[..., channel].astype(np.int64)
    spread = _boxes(values * values, rows, columns) * rows * columns
    spread = spread - _boxes(values, rows, columns) ** 2
    varied = np.where(sums == sums.max(), spread, -1)
    top, left = (int(i) for i in np.unravel_index(int(varied.argmax()), varied.shape))
    where = np.s_[top : top + rows, left : left + columns, channel]
    return Patch(top, left, channel, before[where], after[where], delta(before, after)[where])


def _boxes(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The sum over every rectangle of that size, by a summed-area table."""
    area = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int64)
    area[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    inner = area[rows:, columns:] - area[:-rows, columns:]
    return inner - area[rows:, :-columns] + area[:-rows, :-columns]
