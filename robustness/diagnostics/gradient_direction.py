"""Compares gradients with the changes of the loss that they predict: part of D04.

A gradient may be finite and not zero and still lead nowhere: a custom gradient with another sign, noise in
place of the gradient, or a loss that is rough between whole counts. Attacks that follow it find nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

IMAGES = 6
STEPS = (0.1, 0.5, 2.0, 8.0)
"""Lengths of the steps in counts. One of them suffices: models that round their inputs need a large one,
models with a small radius of linearity a small one."""
AGREES = 0.25
"""The least share of the predicted change: noise in place of a gradient has a share near zero."""
ROUNDINGS = 64 * float(np.finfo("float32").eps)
"""Changes below this share of the largest logit are rounding."""


def agreement(
    logits_of: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    classes: np.ndarray,
    slopes: np.ndarray,
) -> np.ndarray:
    """Return the share of the predicted change of the margin that steps along the gradient's signs cause.

    Parameters
    ----------
    logits_of : logits (n, classes) of images in counts (n, height, width, channels).
    images : float32 counts (n, height, width, channels).
    classes : the classes whose margin is meant, (n,).
    slopes : the gradients of the margins, like `images`.

    Returns
    -------
    numpy.ndarray
        (n,) for the best length of `STEPS`; NaN where all predicted changes are within rounding.
    """
    axes = tuple(range(1, images.ndim))
    points, predicted = [], []
    for length in STEPS:
        ends = [np.clip(images + sign * length * np.sign(slopes), 0, 255) for sign in (1, -1)]
        points += ends
        predicted.append(np.sum(slopes.astype("float64") * (ends[0] - ends[1]), axis=axes))
    logits = logits_of(np.concatenate(points)).astype("float64")
    mine = np.arange(logits.shape[1]) == np.tile(classes, len(points))[:, None]
    own, other = logits[mine], np.where(mine, -np.inf, logits).max(axis=1)
    ends_of = (other - own).reshape(len(STEPS), 2, len(images))
    caused, told = ends_of[:, 0] - ends_of[:, 1], np.stack(predicted)
    least = ROUNDINGS * max(np.abs(own).max(), np.abs(other).max())
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(told > least, caused / told, np.nan)
    known = np.isfinite(shares)
    best = np.where(known, shares, -np.inf).max(axis=0)
    return np.where(known.any(axis=0), best, np.nan)
