"""Adversarial training: the network learns from pictures that one signed-gradient step has moved.

Madry et al. 2018, arXiv:1706.06083, eq. 2.1, with the inner problem solved by a single step from a random
point of the ball (Wong et al. 2020, arXiv:2001.03994, alg. 3), which costs one gradient a picture more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness import backend

LENGTH = 1.25
"""The step in budgets: theirs, a little over one, so that the corners of the ball are reached."""

Move = Callable[[Any, np.ndarray, np.random.Generator], Any]


def adversary(model: keras.Model, epsilon: float) -> Move:
    """A function that moves images in 0..1 (n, h, w, c) within `epsilon` counts against `model`.

    It takes the images, their labels (n,) and a generator; the model is asked as it is trained,
    BatchNorm with the statistics of the batch: in inference mode it is another network, and the one
    that learns is fooled by nothing but the adversary's mistakes. Each image has a budget of its own,
    drawn between 0 and `epsilon`: under the whole of it everywhere, a network that was not robust at
    all forgets what it knew and answers one half to everything.
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
