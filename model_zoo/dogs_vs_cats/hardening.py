"""Adversarial training: moves each training image by a signed gradient step against the network.

It minimises the robust risk of Madry et al. 2018, arXiv:1706.06083, eq. 2.1. The inner problem is solved by
a single step from a random point of the ball (Wong et al. 2020, arXiv:2001.03994, alg. 3), which costs one
more gradient per image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness import backend

LENGTH = 1.25
"""The step in budgets, as in Wong et al.: more than one, so that corners of the ball are reached."""

Move = Callable[[Any, np.ndarray, np.random.Generator], Any]


def adversary(model: keras.Model, epsilon: float) -> Move:
    """Return a function that moves images within a budget so that the loss of a model rises.

    The returned function takes images (n, h, w, c) in 0..1, their labels (n,) and a random generator, and
    returns the moved images.

    Parameters
    ----------
    model
        The network in training.
    epsilon
        The largest budget in counts.

    Notes
    -----
    The model runs in training mode, with batch normalisation by the statistics of the batch. In inference
    mode it is another network, and steps against that one hardly affect the network in training. Each image
    has its own budget, drawn between 0 and `epsilon`: with the whole budget for every image, a network that
    is not robust yet forgets what it has learnt and outputs one half for everything.
    """

    def loss(points: Any, labels: Any) -> tuple[Any, Any]:
        answers = model(points, training=True)
        return keras.losses.sparse_categorical_crossentropy(labels, answers), ()

    @backend.compile
    def step(images: Any, start: Any, radius: Any, labels: Any) -> Any:
        begin = ops.clip(images + start, 0.0, 1.0)
        _, gradient = backend.value_and_grad(loss)(begin, labels)
        moved = begin + LENGTH * radius * ops.sign(gradient)
        within = ops.clip(moved, images - radius, images + radius)
        return ops.clip(within, 0.0, 1.0)

    def move(images: Any, labels: np.ndarray, rng: np.random.Generator) -> Any:
        radius = rng.uniform(0, epsilon / 255, (len(labels), 1, 1, 1)).astype("float32")
        start = radius * rng.uniform(-1, 1, tuple(images.shape)).astype("float32")
        return step(images, start, radius, labels)

    return move
