"""Losses of unit vectors that are small where the vectors are far apart.

Every loss takes vectors (rows, count, dim) of any length, uses their directions only, and returns (rows,).
Gradients are finite everywhere: a vector is never compared with itself, and the derivatives of the angle and
of the square root, infinite at 0, are cut off near it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from robustness.backend.types import Tensor
from robustness.errors import SettingError

SELF = -1e30
"""The log-weight of an excluded pair; finite, also in float32, so that its product with 0 is 0."""
_TOUCH = 1e-12
"""The value of 1 - cosine below which two vectors count as equal."""


def unit(points: Tensor) -> Tensor:
    """Divide each vector by its length; a zero vector stays zero."""
    squares = ops.sum(points * points, axis=-1, keepdims=True)
    return points / ops.sqrt(ops.maximum(squares, 1e-200))


def _others(points: Tensor) -> Tensor:
    """1 for pairs of two different vectors, 0 on the diagonal, (count, count)."""
    count = points.shape[1]
    return ops.convert_to_tensor(1.0 - np.eye(count), dtype=points.dtype)


def _nearest_angles(points: Tensor) -> Tensor:
    """The angle of each vector to its nearest neighbour (rows, count), radians."""
    x, other = unit(points), _others(points)
    cosines = ops.matmul(x, ops.transpose(x, (0, 2, 1))) * other - (1.0 - other)
    nearest = ops.max(cosines, axis=2)
    return ops.arccos(ops.clip(nearest, _TOUCH - 1.0, 1.0 - _TOUCH))


def smallest_angle(points: Tensor) -> Tensor:
    """Compute minus the smallest angle between two vectors, radians, (rows,).

    Only the closest pair has a gradient.
    """
    return -ops.min(_nearest_angles(points), axis=1)


def angle_and_variance(points: Tensor, weight: float = 0.4) -> Tensor:
    """Compute minus the smallest angle plus `weight` times the variance of the nearest angles, (rows,)."""
    nearest = _nearest_angles(points)
    return weight * ops.var(nearest, axis=1) - ops.min(nearest, axis=1)


def net_force(points: Tensor) -> Tensor:
    """Compute the sum over vectors of the length of the net force along the sphere, (rows,).

    Each vector is repelled by all others with the inverse of their distance; the forces on one vector are
    added before the length is taken, so that a balanced vector contributes nothing.

    Notes
    -----
    The inverse square is so stiff where two vectors are close that no optimizer distributes 20 of them over a
    circle: Adam ends between 5 and 17 degrees; with the inverse it ends at 18.
    """
    x, other = unit(points), _others(points)
    cosines = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
    squares = ops.maximum(2.0 - 2.0 * cosines, _TOUCH) * other + (1.0 - other)
    strength = other / squares
    # Sum over j of strength (x_i - x_j); its part along x_i does not move a vector on the sphere.
    pull = ops.matmul(strength, x)
    along = ops.sum(pull * x, axis=2, keepdims=True)
    force = along * x - pull
    return ops.sum(ops.sqrt(ops.sum(force * force, axis=2) + _TOUCH**2), axis=1)


def inverse_power(points: Tensor, fixed: Tensor, log_weights: Tensor, power: Tensor) -> Tensor:
    """Compute ``log(sum over pairs of weight / distance**power) / power``, (rows,).

    With power 1 this is the logarithm of Coulomb's energy; with a large power it approximates the logarithm
    of 1 / the smallest distance.

    Parameters
    ----------
    points : tensor, shape (rows, count, dim)
        The vectors that move.
    fixed : tensor, shape (rows, others, dim)
        The vectors that do not move.
    log_weights : tensor, shape (rows, count, count + others)
        The logarithms of the weights, `SELF` for excluded pairs; or twice as wide: then the negatives of all
        vectors repel too (antipodal mode).
    power : tensor, shape (rows,)
        The exponent of the distance.
    """
    x = unit(points)
    around = ops.concatenate([x, unit(fixed)], axis=1)
    if log_weights.shape[2] == 2 * around.shape[1]:
        around = ops.concatenate([around, -around], axis=1)
    # The logarithm of an excluded pair is finite, and its weight is 0.
    squares = 2.0 - ops.matmul(2.0 * x, ops.transpose(around, (0, 2, 1)))
    half = 0.5 * power[:, None, None]
    exponents = log_weights - half * ops.log(ops.maximum(squares, _TOUCH))
    top = ops.stop_gradient(ops.max(exponents, axis=(1, 2), keepdims=True))
    total = ops.sum(ops.exp(exponents - top), axis=(1, 2))
    return (ops.log(total) + top[:, 0, 0]) / power


def directions(rows: Any, name: str) -> np.ndarray:
    """Return `rows` scaled to unit vectors, (count, dim) float64.

    Parameters
    ----------
    rows : array_like, shape (count, dim)
        Finite vectors that are not zero.
    name : str
        The name of `rows` in error messages.

    Raises
    ------
    SettingError
        The array is not two-dimensional, is empty or not finite, or contains a zero vector.
    """
    x = np.asarray(rows, "float64")
    if x.ndim != 2 or not len(x) or not np.all(np.isfinite(x)):
        raise SettingError(f"{name} of shape {x.shape}; expected finite vectors, one in each row.")
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if np.any(lengths == 0):
        raise SettingError(f"{name} contains a zero vector, which has no direction; leave it out.")
    return x / lengths
