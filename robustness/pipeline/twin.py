"""The differentiable twin of a convention: pictures on a canvas to images of the model, in keras.ops."""

from __future__ import annotations

from keras import ops

from robustness.backend.types import Tensor
from robustness.numerics import prng
from robustness.pipeline.jpeg import jpeg
from robustness.pipeline.preprocessing import LinearConvention
from robustness.pipeline.upload import DEFAULT_SUBSAMPLING, Upload

QUALITY_STREAM = 15
"""The stream of the random qualities; those of attacks begin at 16 (`Task.uniform`)."""


def images_of(
    points: Tensor,
    rows: Tensor,
    columns: Tensor,
    convention: LinearConvention,
    rows_first: Tensor | None = None,
) -> Tensor:
    """Return the images of the model.

    Parameters
    ----------
    points : (m, height, width, channels) counts; m is the number n of pictures, or k times that: k points of
        the first picture, then k of the second, ...
    rows, columns : (n, image height, height) and (n, image width, width), see `Geometry`; 0 beyond a picture.
    convention : what was resized by which code.
    rows_first : (n,) bool: whether rows are resized before columns; it matters only where values are limited
        between (`Geometry.rows_first`). None for columns first.

    Returns
    -------
    (m, image height, image width, channels) counts. Rounding, and the limits of 0..255, count for the values
    and not for the gradient.
    """
    several = points.shape[0] // rows.shape[0]
    if several > 1:
        rows, columns = (ops.repeat(x, several, axis=0) for x in (rows, columns))
        rows_first = None if rows_first is None else ops.repeat(rows_first, several, axis=0)
    if not convention.clips_between:
        image = _rows_first(points, rows, columns)
    elif rows_first is None:
        image = _columns_first(points, rows, columns)
    else:
        image = ops.where(
            rows_first[:, None, None, None],
            _limited_rows_first(points, rows, columns),
            _columns_first(points, rows, columns),
        )
    if convention.fill:
        covered = ops.sum(rows, axis=2)[:, :, None] * ops.sum(columns, axis=2)[:, None, :]
        image = image + convention.fill * (1.0 - covered[..., None])
    return _limited(image, clips=convention.clips, whole=convention.whole)


def after_upload(
    points: Tensor, upload: Upload, sizes: Tensor, keys: Tensor, step: Tensor
) -> Tensor:
    """Return the pictures that the deployment decodes, as far as attacks look through the encoding.

    Parameters
    ----------
    points : as for `images_of`.
    upload : the format; attacks look through JPEG of the qualities `upload.seen`.
    sizes : (n, 2) int32: height and width of each picture.
    keys, step : (n, 2) and (n,) int32: each step of each picture has its own quality.
    """
    if upload.seen is None:
        return points
    low, high = upload.seen
    share = prng.uniform(keys, QUALITY_STREAM + 4096 * (1 + step), (1,))[:, 0]
    quality = low + ops.floor(share * float(high - low + 1))
    several = points.shape[0] // sizes.shape[0]
    if several > 1:
        quality, sizes = (ops.repeat(x, several, axis=0) for x in (quality, sizes))
    return jpeg(points, quality, sizes, upload.subsampling or DEFAULT_SUBSAMPLING)


def _rows_first(points: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    count, _, width, channels = points.shape
    lower = ops.matmul(rows, ops.reshape(points, (count, -1, width * channels)))
    # The columns last: the product is one large matrix per picture, not one for each of its rows.
    turned = ops.transpose(ops.reshape(lower, (count, -1, width, channels)), (0, 1, 3, 2))
    narrow = ops.matmul(ops.reshape(turned, (count, -1, width)), ops.transpose(columns, (0, 2, 1)))
    return _unturned(narrow, rows.shape[1], channels)


def _columns_first(points: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    count, height, width, channels = points.shape
    turned = ops.reshape(ops.transpose(points, (0, 1, 3, 2)), (count, -1, width))
    narrow = ops.matmul(turned, ops.transpose(columns, (0, 2, 1)))
    between = _limited(narrow, clips=True, whole=True)
    lower = ops.matmul(rows, ops.reshape(between, (count, height, -1)))
    return _unturned(lower, rows.shape[1], channels)


def _limited_rows_first(points: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    turned = _columns_first(ops.transpose(points, (0, 2, 1, 3)), columns, rows)
    return ops.transpose(turned, (0, 2, 1, 3))


def _unturned(values: Tensor, height: int, channels: int) -> Tensor:
    """(m, height, width, channels) from values whose channels stand before the columns."""
    shaped = ops.reshape(values, (values.shape[0], height, channels, -1))
    return ops.transpose(shaped, (0, 1, 3, 2))


def _limited(values: Tensor, *, clips: bool, whole: bool) -> Tensor:
    """Values within 0..255 and in whole counts, as far as the code does that, with the slope of `values`."""
    limited = ops.clip(values, 0.0, 255.0) if clips else values
    limited = ops.round(limited) if whole else limited
    return values if limited is values else values + ops.stop_gradient(limited - values)
