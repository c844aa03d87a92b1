"""How the points of a batch enter the attacked model: as its images, or as pictures through a pipeline.

Pictures of different sizes share a canvas: each lies at its top left, and nothing changes around it. The
canvas of a picture depends on its own size alone, so its outcomes do not depend on the other pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.contract.task import Task
from robustness.engine.jobs import Example
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.threat.threat import Threat

Shape = tuple[int, int, int]
Arrays = dict[str, Any]

PARTS = 4
"""Sizes of canvases per doubling of a side: at most a quarter of a side is empty."""
SMALLEST = 32
"""The smallest side of a canvas."""


class ModelInput(Protocol):
    """How points (rows, height, width, channels) become logits.

    Attributes
    ----------
    shape : of a point.
    """

    shape: Shape

    def arrays(self, examples: Sequence[Example]) -> Arrays:
        """Return what rows need beside their pixels, each array with a leading row axis."""

    def mask(self, arrays: Arrays) -> Any:
        """Return the mask of a task, see `Task.mask`."""

    def logits(self, task: Task, arrays: Arrays) -> Callable[[Any], Any]:
        """Return a function from points (n, height, width, channels) to logits (n, classes).

        n is the number of rows, or k times as many points: k of the first row, then k of the second, ...
        """


class ImageInput:
    """The points are images of the model."""

    def __init__(self, classifier: Classifier, threat: Threat) -> None:
        self._classifier, self._threat, self.shape = classifier, threat, classifier.input_shape

    def arrays(self, examples: Sequence[Example]) -> Arrays:
        """Return nothing."""
        return {}

    def mask(self, arrays: Arrays) -> Any:
        """Return the mask of the threat."""
        return self._threat.weights

    def logits(self, task: Task, arrays: Arrays) -> Callable[[Any], Any]:
        """Return the model's logits."""
        return self._classifier.logits


class PictureInput:
    """The points are pictures on a canvas, which reach the model through its input pipeline.

    Parameters
    ----------
    classifier : a deployed classifier.
    deployment : its deployment.
    canvas : (height, width, channels) of the canvas.
    """

    def __init__(self, classifier: Classifier, deployment: Deployment, canvas: Shape) -> None:
        self._classifier, self._deployment, self.shape = classifier, deployment, canvas

    def arrays(self, examples: Sequence[Example]) -> Arrays:
        """Return the matrices of each picture, its place on the canvas, and its size."""
        height, width = self.shape[:2]
        found = []
        for example in examples:
            size = example.size or example.pixels.shape[:2]
            geometry = self._deployment.geometry((int(size[0]), int(size[1])))
            found.append((_padded(geometry.rows, height), _padded(geometry.columns, width)))
        return {
            "rows": np.stack([rows for rows, _ in found]),
            "columns": np.stack([columns for _, columns in found]),
            "inside": np.stack([_inside(example) for example in examples]),
            "sizes": np.array([e.size or e.pixels.shape[:2] for e in examples], np.int32),
        }

    def mask(self, arrays: Arrays) -> Any:
        """Return 1 inside the picture of each row."""
        return ops.cast(arrays["inside"], "float32")

    def logits(self, task: Task, arrays: Arrays) -> Callable[[Any], Any]:
        """Return the logits of the model behind the differentiable part of its pipeline."""
        see = self._deployment.differentiable(
            arrays["rows"], arrays["columns"], arrays["sizes"], task.keys, task.step
        )
        return lambda points: self._classifier.logits(see(points))


def model_input(classifier: Classifier, threat: Threat, canvas: Shape | None) -> ModelInput:
    """Return how points enter `classifier`: as pictures on `canvas` if it is deployed, else as images."""
    if isinstance(classifier.deployment, Deployment):
        if canvas is None:
            raise ValueError("A deployed model came without a canvas.")
        return PictureInput(classifier, classifier.deployment, canvas)
    return ImageInput(classifier, threat)


def canvas_of(size: tuple[int, int], channels: int, *, exact: bool = False) -> Shape:
    """Return the shape of the canvas for pictures of `size` (height, width).

    Parameters
    ----------
    size, channels : of the pictures.
    exact : whether the canvas is as large as the picture, for attacks whose steps depend on its borders.
    """
    height, width = size
    return (height, width, channels) if exact else (_side(height), _side(width), channels)


def _side(length: int) -> int:
    """The side of a canvas for pictures of `length` pixels: one of `PARTS` per doubling."""
    unit = 1 << max((length - 1).bit_length() - 1 - (PARTS.bit_length() - 1), 3)
    return max(SMALLEST, -(-length // unit) * unit)


def on_canvas(picture: np.ndarray, canvas: tuple[int, ...]) -> np.ndarray:
    """Return a picture at the top left of a canvas (height, width, channels) of zeros."""
    if picture.shape == tuple(canvas):
        return picture
    whole = np.zeros(canvas, picture.dtype)
    whole[: picture.shape[0], : picture.shape[1]] = picture
    return whole


def example_on(
    canvas: Shape | None, key: str, pixels: np.ndarray, label: int, count: int | None = None
) -> Example:
    """Return the example of a picture, on a canvas if there is one."""
    if canvas is None:
        return Example(key, pixels, label, count)
    height, width = pixels.shape[:2]
    return Example(key, on_canvas(pixels, canvas), label, count, size=(height, width))


def by_canvas(
    classifier: Classifier, attack: Attack, examples: Iterable[Example]
) -> list[tuple[Shape | None, list[Example]]]:
    """Return the examples of each canvas that the attack needs, the most frequent canvas first.

    Models without an input pipeline need no canvas: all examples are one group with None.
    """
    if classifier.deployment is None:
        return [(None, list(examples))]
    groups: dict[Shape | None, list[Example]] = {}
    for example in examples:
        height, width, channels = example.cropped(example.pixels).shape
        canvas = canvas_of((height, width), channels, exact=not attack.padded)
        placed = example_on(
            canvas,
            example.key,
            example.cropped(example.pixels),
            example.label,
            example.epsilon_count,
        )
        groups.setdefault(canvas, []).append(placed)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def _padded(matrix: np.ndarray, length: int) -> np.ndarray:
    """A matrix (image side, picture side) with columns of zeros up to `length`."""
    return np.pad(matrix, ((0, 0), (0, length - matrix.shape[1]))).astype(np.float32)


def _inside(example: Example) -> np.ndarray:
    inside = example.inside
    return np.ones((*example.pixels.shape[:2], 1), np.uint8) if inside is None else inside
