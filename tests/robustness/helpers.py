"""Small models with known answers, used by several tests."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from robustness.engine.jobs import Example
from robustness.models.classifier import Classifier


def linear(weights: np.ndarray, bias: np.ndarray, shape: tuple[int, int, int]) -> Classifier:
    """Logits ``flat(image) @ weights + bias``."""
    model = keras.Sequential(
        [keras.layers.Input(shape), keras.layers.Flatten(), keras.layers.Dense(weights.shape[1])]
    )
    model.layers[-1].set_weights([weights.astype("float32"), bias.astype("float32")])
    return Classifier(model, scaling="0..255", head="logits", name="linear")


def two_sided(
    rng: np.random.Generator,
    *,
    rows: int = 12,
    shape: tuple[int, int, int] = (6, 6, 3),
    far: float = 6.0,
) -> tuple[Classifier, np.ndarray, np.ndarray, np.ndarray]:
    """A two-class linear classifier with images, their classes and their |margin|.

    The linf distance |margin| / ||w||_1 is below about `far` counts.
    """
    size = int(np.prod(shape))
    images = (rng.integers(110, 146, shape) + rng.integers(-50, 51, (rows, *shape))).astype(
        np.uint8
    )
    normal = rng.normal(0, 0.004, size)
    scores = images.reshape(rows, -1) @ normal
    centre = np.median(scores)
    weights = np.stack([np.zeros(size), normal], axis=1)
    classifier = linear(weights, np.array([0.0, -centre]), shape)
    margins = scores - centre
    keep = (np.abs(margins) > 1e-3) & (np.abs(margins) < far * np.abs(normal).sum())
    return classifier, images[keep], (margins[keep] > 0).astype(int), np.abs(margins[keep])


def normal_of(classifier: Classifier) -> np.ndarray:
    """The direction from class 0 to class 1 of a linear classifier."""
    weights = classifier.model.layers[-1].get_weights()[0]
    return weights[:, 1] - weights[:, 0]


def small_cnn(seed: int, shape: tuple[int, int, int] = (12, 12, 3), classes: int = 3) -> Classifier:
    """A small nonlinear network that small changes can flip."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input(shape),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    return Classifier(model, scaling="0..1", name="small")


def subjects(classifier: Classifier, images: np.ndarray, labels: Any = None) -> list[Example]:
    """An `Example` for every image with its class, by default the predicted one."""
    if labels is None:
        labels = classifier.probabilities(images).argmax(1)
    return [
        Example(f"row {i}", x, int(y)) for i, (x, y) in enumerate(zip(images, labels, strict=True))
    ]
