"""JPEG as a differentiable function: what libjpeg writes and reads, and a gradient through its rounding.

The value is the decoded file, close to libjpeg's; the gradient is written by hand, since every other step
than rounding is linear. `Upload.encode` and `Upload.decode` are the exact code, which judges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import ops

from robustness.backend.types import Tensor
from robustness.errors import SettingError
from robustness.pipeline.upload import DEFAULT_SUBSAMPLING, SUBSAMPLINGS

LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    "float32",
)
"""Quantisation tables K.1 (luma) and K.2 (chroma) of the standard, at quality 50."""
CHROMA = np.full((8, 8), 99, "float32")
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# libjpeg's colour conversion: JFIF 1.02 in units of 2^-16, so that float32 sums of whole counts are exact.
# Rows are red, green, blue, and Y, Cb, Cr.
_TO_YCC = np.array([[0.299, -0.16874, 0.5], [0.587, -0.33126, -0.41869], [0.114, 0.5, -0.08131]])
_TO_YCC = (np.round(_TO_YCC * 65536) / 65536).astype("float32")
_TO_RGB = np.array([[1, 1, 1], [0, -0.34414, 1.772], [1.402, -0.71414, 0]])
_TO_RGB = (np.round(_TO_RGB * 65536) / 65536).astype("float32")
_HALF_DOWN = np.float32(0.5 - 2**-16)

_FACTORS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}
"""How many lines and columns share one value of chroma."""

_TIES_AWAY = np.float32(1 - 2e-6)
"""Divisor that makes halves round away from zero, as in libjpeg."""

_LEAST_SLOPE = 0.05
"""Without it, flat pictures and those that come from a JPEG of the same quality had no gradient."""

Pull = Callable[[Tensor], Tensor]
"""From the gradient at the values to the gradient at the pictures."""
Gradient = Callable[..., tuple[Tensor, ...]]

_COSINES = np.cos(np.pi / 8 * np.outer(np.arange(8), np.arange(8) + 0.5))
_COSINES /= np.linalg.norm(_COSINES, axis=1, keepdims=True)
_TRANSFORM = np.kron(_COSINES, _COSINES).T.astype("float32")
"""(64, 64): a flat block of 8 x 8 pixels times this is its cosine transform; the transpose is the inverse."""
_EIGHTHS = 8 * _TRANSFORM
"""libjpeg's transform has whole results in units of 1/8, so that ties of rounding are frequent."""


def jpeg(
    pictures: Tensor,
    quality: Tensor,
    sizes: Tensor | None = None,
    subsampling: str = DEFAULT_SUBSAMPLING,
) -> Tensor:
    """Return pictures as they are after JPEG compression, with a gradient.

    Parameters
    ----------
    pictures : tensor, shape (rows, height, width, channels)
        float32 counts of 0..255; height and width are static, channels 1 or 3. Each picture lies at the top
        left.
    quality : tensor, shape (rows,)
        1 to 100; whole numbers, of any type.
    sizes : tensor, shape (rows, 2), optional
        Height and width of each picture. What lies outside does not count, and gets the gradient 0. By
        default pictures fill their rows.
    subsampling : str
        ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``; without effect on grey pictures.

    Returns
    -------
    tensor, shape (rows, height, width, channels)
        float32, whole counts of 0..255. Outside of pictures the values are of no use.

    Raises
    ------
    SettingError
        Pictures have neither 1 nor 3 channels, or the subsampling is unknown.

    Notes
    -----
    As in libjpeg, pictures are extended by their last column and row, chroma is averaged with an alternating
    bias and enlarged by the triangle filter, and every intermediate result is rounded. Two things differ:
    libjpeg also rounds between the two passes of its cosine transform, so that a coefficient beside a tie may
    be rounded the other way; and chroma at the right and bottom edge of a picture in a larger row.

    A coefficient :math:`z` in units of its step is rounded to :math:`r`. The derivative of this rounding is
    taken as :math:`3 (z - r)^2 + 0.05`; that of all other roundings and limits is 1. Pixels that libjpeg
    repeats beyond the edge contribute no gradient. The derivative 1 everywhere (straight through) gave fewer
    flips at the quality that is seen; see docs/pipeline.md.

    References
    ----------
    ITU-T T.81, annexes A and K; JFIF 1.02. Shin & Song, "JPEG-resistant adversarial images", NIPS 2017
    Workshop on Machine Learning and Computer Security: the cubic. Reich et al., "Differentiable JPEG: the
    devil is in the details", WACV 2024, arXiv:2309.06978: exact values with approximate derivatives.
    """
    height, width, channels = pictures.shape[1:]
    if channels not in (1, 3):
        raise SettingError(f"JPEG takes pictures with 1 or 3 channels; these have {channels}.")
    if subsampling not in SUBSAMPLINGS:
        raise SettingError(f"subsampling is {subsampling!r}; expected {', '.join(SUBSAMPLINGS)}.")
    factors = _FACTORS[subsampling] if channels == 3 else (1, 1)
    codec = _Codec(height, width, channels, *factors)
    quality = ops.cast(quality, "float32")
    if sizes is None:
        return ops.custom_gradient(codec.coded)(pictures, quality)
    return ops.custom_gradient(codec.coded_part)(pictures, quality, ops.cast(sizes, "float32"))


def steps_of(table: np.ndarray, quality: Tensor) -> Tensor:
    """Return libjpeg's quantisation steps at each row's quality.

    Parameters
    ----------
    table : ndarray, shape (8, 8)
        `LUMA` or `CHROMA`.
    quality : tensor, shape (rows,)
        float32, 1 to 100.

    Returns
    -------
    tensor, shape (rows, 1, 64)
        float32, whole numbers of 1 to 255.
    """
    scale = ops.where(quality < 50, ops.floor(5000.0 / quality + 0.001), 200.0 - 2.0 * quality)
    flat = ops.convert_to_tensor(table.reshape(1, 1, 64))
    # 0.001 keeps exact quotients whole where a compiler multiplies by 1 / 100.
    return ops.clip(ops.floor((flat * scale[:, None, None] + 50.0) / 100.0 + 0.001), 1.0, 255.0)


@dataclass(frozen=True)
class _Codec:
    """Encoder and decoder for rows of one shape; chroma is `tall` times lower and `wide` times narrower."""

    height: int
    width: int
    channels: int
    tall: int
    wide: int

    def coded(self, pictures: Tensor, quality: Tensor) -> tuple[Tensor, Gradient]:
        """Return the values, and the function that pulls a gradient back, as Keras wants both."""
        values, pull = self._extended(self._fill(pictures), quality)

        def gradient(*args: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, ...]:
            return pull(args[0] if upstream is None else upstream), ops.zeros_like(quality)

        return values, gradient

    def coded_part(
        self, pictures: Tensor, quality: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Gradient]:
        """Do the same for pictures that fill their rows in part."""
        inside, extended = self._replicated(pictures, sizes)
        values, pull = self._extended(self._fill(extended), quality)

        def gradient(*args: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, ...]:
            back = pull(args[0] if upstream is None else upstream)
            back = ops.reshape(back, ops.shape(inside)) * inside
            return (
                ops.reshape(back, (-1, *pictures.shape[1:])),
                ops.zeros_like(quality),
                ops.zeros_like(sizes),
            )

        return values, gradient

    def _extended(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Pull]:
        """Code rows that are whole blocks."""
        if self.channels == 1:
            grey, pull_grey = _quantised(x, LUMA, quality)
            return self._cut(ops.clip(grey, 0.0, 255.0)), lambda g: self._cut(
                pull_grey(self._pad(g))
            )
        luma, pull_luma = _quantised(ops.floor(ops.matmul(x, _TO_YCC[:, :1]) + 0.5), LUMA, quality)
        chroma = ops.floor(ops.matmul(x, _TO_YCC[:, 1:]) + (128.0 + _HALF_DOWN))
        small, pull_chroma = _quantised(self._reduced(chroma), CHROMA, quality)
        shades = self._enlarged(small) - 128.0
        values = ops.clip(luma + ops.floor(ops.matmul(shades, _TO_RGB[1:]) + 0.5), 0.0, 255.0)

        def pull(upstream: Tensor) -> Tensor:
            g = self._pad(upstream)
            of_luma = pull_luma(ops.matmul(g, _TO_RGB[:1].T))
            of_chroma = pull_chroma(self._enlarged_pull(ops.matmul(g, _TO_RGB[1:].T)))
            shares = ops.matmul(of_chroma, _TO_YCC[:, 1:].T / (self.tall * self.wide))
            for axis, times in ((1, self.tall), (2, self.wide)):
                shares = ops.repeat(shares, times, axis=axis) if times > 1 else shares
            return self._cut(of_luma * _TO_YCC[:, 0] + shares)

        return self._cut(values), pull

    def _reduced(self, chroma: Tensor) -> Tensor:
        """Means of chroma, rounded down and up in turn, as libjpeg does to avoid a bias."""
        if self.wide == 1:
            return chroma
        pool = (self.tall, self.wide)
        means = ops.average_pool(chroma, pool, pool, "valid", "channels_last")
        turns = np.arange(means.shape[2], dtype="float32")[:, None] % 2
        bias = (1 + turns) / 4 if self.tall == 2 else turns / 2
        return ops.floor(means + bias)

    def _enlarged(self, chroma: Tensor) -> Tensor:
        """Chroma at full size by libjpeg's triangle filter, in whole counts."""
        if self.wide == 1:
            return chroma
        if self.tall == 1:
            return ops.floor(_doubled(chroma, 2, (1.0, 2.0)) / 4.0)
        return ops.floor(_doubled(_doubled(chroma, 1, (0.0, 0.0)), 2, (8.0, 7.0)) / 16.0)

    def _enlarged_pull(self, g: Tensor) -> Tensor:
        for axis, times in ((2, self.wide), (1, self.tall)):
            g = _doubled_pull(g, axis) if times > 1 else g
        return g

    def _replicated(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Extend pictures to the borders of their rows by their last column and row.

        Also return what lies inside, (rows, height, width * channels), as 1 and 0: products of flat rows are
        faster than selections.
        """
        height, width, channels = self.height, self.width, self.channels
        sizes = ops.cast(sizes, "int32")
        rows = ops.arange(ops.shape(x)[0], dtype="int32")[:, None]
        lines = np.arange(height, dtype="int32")[None]
        columns = np.repeat(np.arange(width, dtype="int32"), channels)[None]
        last = (rows * height + lines) * width + sizes[:, 1:] - 1
        column = ops.tile(ops.take(ops.reshape(x, (-1, channels)), last, axis=0), (1, 1, width))
        within = ops.cast(ops.less(columns, sizes[:, 1:]), "float32")[:, None]
        x = ops.reshape(x, (-1, height, width * channels)) * within + column * (1.0 - within)
        last = rows * height + sizes[:, :1] - 1
        line = ops.take(ops.reshape(x, (-1, width * channels)), last, axis=0)
        above = ops.cast(ops.less(lines, sizes[:, :1]), "float32")[:, :, None]
        x = x * above + line * (1.0 - above)
        return above * within, ops.reshape(x, (-1, height, width, channels))

    def _fill(self, x: Tensor) -> Tensor:
        """Repeat the last line and column until rows consist of whole blocks."""
        for axis, size, unit in ((1, self.height, 8 * self.tall), (2, self.width, 8 * self.wide)):
            if spare := -size % unit:
                x = ops.take(x, np.minimum(np.arange(size + spare), size - 1), axis=axis)
        return x

    def _pad(self, g: Tensor) -> Tensor:
        below, right = -self.height % (8 * self.tall), -self.width % (8 * self.wide)
        return ops.pad(g, ((0, 0), (0, below), (0, right), (0, 0))) if below or right else g

    def _cut(self, x: Tensor) -> Tensor:
        return x[:, : self.height, : self.width]


def _quantised(planes: Tensor, table: np.ndarray, quality: Tensor) -> tuple[Tensor, Pull]:
    """Quantise the cosine transform of planes (rows, height, width, planes), and return the decoded ones."""
    height, width, count = planes.shape[1:]
    cut = (-1, height // 8, 8, width // 8, 8, count)
    blocks = (-1, height * width * count // 64, 64)
    joined = (-1, height // 8, width // 8, count, 8, 8)

    def forth(x: Tensor, transform: np.ndarray) -> Tensor:
        parts = ops.transpose(ops.reshape(x, cut), (0, 1, 3, 5, 2, 4))
        return ops.matmul(ops.reshape(parts, blocks), transform)

    def back(coefficients: Tensor) -> Tensor:
        parts = ops.reshape(ops.matmul(coefficients, _TRANSFORM.T), joined)
        return ops.reshape(ops.transpose(parts, (0, 1, 4, 2, 5, 3)), (-1, height, width, count))

    steps = steps_of(table, quality)
    exact = ops.round(forth(planes - 128.0, _EIGHTHS)) / (steps * (8 * _TIES_AWAY))
    whole = ops.round(exact)

    def pull(g: Tensor) -> Tensor:
        return back(forth(g, _TRANSFORM) * _slope(exact, whole))

    return ops.clip(ops.round(back(whole * steps) + 128.0), 0.0, 255.0), pull


def _slope(exact: Tensor, whole: Tensor) -> Tensor:
    """The derivative that is taken for the rounding of coefficients."""
    return _LEAST_SLOPE + 3.0 * ops.square(exact - whole)


def _doubled(x: Tensor, axis: int, bias: tuple[float, float]) -> Tensor:
    """Four times the triangle filter: 3/4 of the nearer, 1/4 of the other neighbour, plus `bias` in turn."""
    last = x.shape[axis] - 1
    before = _joined(_part(x, axis, 0, 1), _part(x, axis, 0, last), axis)
    after = _joined(_part(x, axis, 1, last + 1), _part(x, axis, last, last + 1), axis)
    pairs = ops.stack([3.0 * x + before + bias[0], 3.0 * x + after + bias[1]], axis=axis + 1)
    shape = [-1, *x.shape[1:]]
    shape[axis] *= 2
    return ops.reshape(pairs, shape)


def _doubled_pull(g: Tensor, axis: int) -> Tensor:
    """The transpose of the triangle filter."""
    half = g.shape[axis] // 2
    shape = [-1, *g.shape[1:]]
    shape[axis : axis + 1] = [half, 2]
    first, second = ops.unstack(ops.reshape(g, shape), axis=axis + 1)
    later = _joined(_part(first, axis, 1, half), _part(second, axis, half - 1, half), axis)
    earlier = _joined(_part(first, axis, 0, 1), _part(second, axis, 0, half - 1), axis)
    return 0.75 * (first + second) + 0.25 * (later + earlier)


def _part(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(start, stop),)]


def _joined(first: Tensor, second: Tensor, axis: int) -> Tensor:
    return ops.concatenate([first, second], axis=axis)
