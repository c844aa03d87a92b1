"""JPEG compression and decompression in keras.ops, equal to Pillow's default (4:2:0)."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

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
"""Quantisation tables K.1 and K.2 of the standard (ITU-T T.81, annex K)."""
CHROMA = np.full((8, 8), 99, "float32")
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# Colour conversion as in JFIF 1.02.
TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], "float32"
)
TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], "float32")


def compressed(pictures: Any, quality: Any) -> Any:
    """Compress images as JPEG and decompress them.

    Parameters
    ----------
    pictures
        (rows, h, w, c) in counts of 0..255; c is 1 or 3.
    quality
        (rows,), 1 to 49.

    Returns
    -------
    (rows, h, w, c), whole counts.

    References
    ----------
    ITU-T T.81, annex K; JFIF 1.02.
    """
    height, width, channels = pictures.shape[1:]
    tall, wide = -(-height // 16) * 16, -(-width // 16) * 16
    whole = ops.take(pictures, np.minimum(np.arange(tall), height - 1), axis=1)
    whole = ops.take(whole, np.minimum(np.arange(wide), width - 1), axis=2)
    if channels != 3:
        planes = [_coded(whole[..., n], LUMA, quality) for n in range(channels)]
        return ops.stack(planes, axis=-1)[:, :height, :width]
    middle = ops.convert_to_tensor([0.0, 128.0, 128.0])
    ycc = ops.round(ops.einsum("nhwc,dc->nhwd", whole, TO_YCC) + middle)
    luma = _coded(ycc[..., 0], LUMA, quality)
    sides = [(_halving(n), _doubling(n)) for n in (tall, wide)]
    chroma = []
    for plane in (ycc[..., 1], ycc[..., 2]):
        sums = ops.einsum("ij,njl,ml->nim", sides[0][0], plane, sides[1][0])
        # libjpeg rounds a mean of four down in one column and up in the next.
        small = ops.floor((sums + 1.0 + ops.arange(wide // 2, dtype="float32") % 2) / 4.0)
        coded = _coded(small, CHROMA, quality)
        chroma.append(ops.einsum("ij,njl,ml->nim", sides[0][1], coded, sides[1][1]) - 128.0)
    back = ops.einsum("nhwc,dc->nhwd", ops.stack([luma, *chroma], axis=-1), TO_RGB)
    return ops.clip(ops.round(back), 0.0, 255.0)[:, :height, :width]


def _coded(plane: Any, table: np.ndarray, quality: Any) -> Any:
    """A plane (rows, h, w) after the quantised cosine transform of its blocks of 8 x 8."""
    scale = ops.floor(5000.0 / quality)[:, None, None]
    steps = ops.clip(ops.floor((ops.convert_to_tensor(table) * scale + 50) / 100), 1.0, 255.0)[
        :, None, :, None, :
    ]
    tall, wide = plane.shape[1:]
    blocks = ops.reshape(plane - 128.0, (-1, tall // 8, 8, wide // 8, 8))
    waves = _cosines()
    there = ops.einsum("ui,naibj,vj->naubv", waves, blocks, waves)
    # Half a step is rounded away from zero; the 1e-5 absorbs rounding errors of the cosines.
    kept = ops.sign(there) * ops.floor(ops.abs(there) / steps + 0.5 + 1e-5) * steps
    back = ops.einsum("ui,naubv,vj->naibj", waves, kept, waves)
    return ops.clip(ops.round(ops.reshape(back, (-1, tall, wide)) + 128.0), 0.0, 255.0)


def _cosines() -> np.ndarray:
    """The matrix of the orthonormal cosine transform of eight numbers, (8, 8)."""
    wave = np.cos(np.pi / 8 * np.outer(np.arange(8), np.arange(8) + 0.5))
    return (wave / np.linalg.norm(wave, axis=1, keepdims=True)).astype("float32")


def _halving(size: int) -> np.ndarray:
    """The matrix (size / 2, size) that sums pairs of neighbours."""
    return np.kron(np.eye(size // 2), [[1.0, 1.0]]).astype("float32")


def _doubling(size: int) -> np.ndarray:
    """The matrix (size, size / 2) of linear interpolation: 3/4 of the nearer neighbour, 1/4 of the other."""
    half = size // 2
    table = np.zeros((size, half))
    for place in range(size):
        near, far = place // 2, place // 2 + (1 if place % 2 else -1)
        table[place, near] += 0.75
        table[place, min(max(far, 0), half - 1)] += 0.25
    return table.astype("float32")
