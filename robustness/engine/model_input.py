"""How the points of a batch enter the attacked model: as its images, or as pictures through a pipeline.

Pictures of different sizes share a canvas: each lies at its top left, and nothing changes around it. The
canvas of a picture depends on its own size alone, so its outcomes do not depend on the other pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from keras import ops

from robustness import backend
from robustness.contract.attack import Attack
from robustness.contract.task import Task
from robustness.engine.jobs import Example
from robustness.errors import PipelineError
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
    exact : whether points are rounded to 8-bit files, as the judge's are.
    """

    shape: Shape
    exact: bool

    def arrays(self, examples: Sequence[Example]) -> Arrays:
        """Return what rows need beside their pixels, each array with a leading row axis."""

    def mask(self, arrays: Arrays) -> Any:
        """Return the mask of a task, see `Task.mask`."""

    def expect_success(self) -> None:
        """Raise the error of an earlier call of `logits`, if there was one."""

    def logits(self, task: Task, arrays: Arrays) -> Callable[[Any], Any]:
        """Return a function from points (n, height, width, channels) to logits (n, classes).

        n is the number of rows, or k times as many points: k of the first row, then k of the second, ...
        """


class ImageInput:
    """The points are images of the model."""

    exact = False

    def __init__(self, classifier: Classifier, threat: Threat) -> None:
        self._classifier, self._threat, self.shape = classifier, threat, classifier.input_shape

    def arrays(self, examples: Sequence[Example]) -> Arrays:
        """Return nothing."""
        return {}

    def mask(self, arrays: Arrays) -> Any:
        """Return the mask of the threat."""
        return self._threat.weights

    def expect_success(self) -> None:
        """Do nothing: errors arise at once."""

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

    exact = False

    def __init__(self, classifier: Classifier, deployment: Deployment, canvas: Shape) -> None:
        self._classifier, self._deployment, self.shape = classifier, deployment, canvas
        self._ordered = deployment.convention.clips_between and self._may_begin_with_rows()

    def _may_begin_with_rows(self) -> bool:
        """Whether a picture on the canvas may be resized along its rows first; both orders take longer."""
        height, width = self.shape[:2]
        narrow = width
        while narrow > 1 and _side(narrow - 1) == _side(width):
            narrow -= 1
        try:
            return self._deployment.geometry((height, narrow)).rows_first
        except PipelineError:  # no picture of this size, but maybe others
            return True

    def arrays(self, examples: Sequence[Example]) -> Arrays:
        """Return the matrices of each picture, its place on the canvas, and its size."""
        height, width = self.shape[:2]
        sizes = [example.size or example.pixels.shape[:2] for example in examples]
        found = [self._deployment.geometry((int(h), int(w))) for h, w in sizes]
        order = {}
        if self._ordered:
            order["rows_first"] = np.array([one.rows_first for one in found])
        return {
            "rows": np.stack([_padded(one.rows, height) for one in found]),
            "columns": np.stack([_padded(one.columns, width) for one in found]),
            **order,
            **_places(examples),
        }

    def mask(self, arrays: Arrays) -> Any:
        """Return 1 inside the picture of each row."""
        return ops.cast(arrays["inside"], "float32")

    def expect_success(self) -> None:
        """Do nothing: errors arise at once."""

    def logits(self, task: Task, arrays: Arrays) -> Callable[[Any], Any]:
        """Return the logits of the model behind the differentiable part of its pipeline."""
        see = self._deployment.differentiable(
            arrays["rows"],
            arrays["columns"],
            arrays["sizes"],
            task.keys,
            task.step,
            arrays.get("rows_first"),
        )
        return lambda points: self._classifier.logits(see(points))


class QueriedInput:
    """The points are pictures on a canvas, which reach the model through the user's own function.

    Each is rounded and uploaded as the judge does it, so its logits are those of its file.

    Parameters
    ----------
    classifier : a classifier that is deployed behind the function.
    canvas : (height, width, channels) of the canvas.
    """

    exact = True

    def __init__(self, classifier: Classifier, canvas: Shape) -> None:
        self._classifier, self.shape = classifier, canvas
        self._failures: list[Exception] = []

    def arrays(self, examples: Sequence[Example]) -> Arrays:
        """Return the place of each picture on the canvas, and its size."""
        return _places(examples)

    def mask(self, arrays: Arrays) -> Any:
        """Return 1 inside the picture of each row."""
        return ops.cast(arrays["inside"], "float32")

    def expect_success(self) -> None:
        """Raise the error of the function in an earlier call of `logits`, if there was one."""
        if self._failures:
            raise self._failures.pop()

    def logits(self, task: Task, arrays: Arrays) -> Callable[[Any], Any]:
        """Return the logits of the model behind the function; NaN for a point that is not finite."""

        def see(points: Any) -> Any:
            shape = (points.shape[0], *self._classifier.input_shape)
            images = backend.host_call(self._images, shape, points, arrays["sizes"])
            return self._classifier.logits(images)

        return see

    def _images(self, points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """The model's images, float32, of points (rows * k, height, width, channels)."""
        finite = np.isfinite(points).all(axis=(1, 2, 3))
        whole = np.where(finite[:, None, None, None], points, 0).round().clip(0, 255)
        places = np.repeat(sizes, len(points) // len(sizes), axis=0)
        images = np.full((len(points), *self._classifier.input_shape), np.nan, np.float32)
        # A row that waits for others may ask for the same picture again.
        known: dict[tuple[int, int, bytes], int] = {}
        try:
            for number in np.flatnonzero(finite).tolist():
                height, width = map(int, places[number])
                picture = np.ascontiguousarray(whole[number, :height, :width], np.uint8)
                first = known.setdefault((height, width, picture.tobytes()), number)
                images[number] = images[first] if first < number else self._image(picture)
        except Exception as error:  # raised by `expect_success`: frameworks would wrap it
            self._failures.append(error)
        return images

    def _image(self, picture: np.ndarray) -> np.ndarray:
        deployment = self._classifier.deployment
        if not isinstance(deployment, Deployment):
            raise TypeError("The classifier of queries has no deployment.")
        return deployment.image(picture)


def model_input(
    classifier: Classifier, threat: Threat, canvas: Shape | None, *, gradients: bool = True
) -> ModelInput:
    """Return how points enter `classifier`: as pictures on `canvas` if it is deployed, else as images.

    Without `gradients` they enter the classifier that its deployment names for queries, if it names one.
    """
    deployment = classifier.deployment
    if isinstance(deployment, Deployment):
        if canvas is None:
            raise ValueError("A deployed model came without a canvas.")
        if deployment.queried is not None and not gradients:
            return QueriedInput(deployment.queried, canvas)
        return PictureInput(classifier, deployment, canvas)
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


def _places(examples: Sequence[Example]) -> Arrays:
    """1 where the canvas of each row holds its picture, and the picture's size."""
    return {
        "inside": np.stack([_inside(example) for example in examples]),
        "sizes": np.array([e.size or e.pixels.shape[:2] for e in examples], np.int32),
    }


def _inside(example: Example) -> np.ndarray:
    inside = example.inside
    return np.ones((*example.pixels.shape[:2], 1), np.uint8) if inside is None else inside
