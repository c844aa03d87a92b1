"""Fitting of universal perturbations and patches: one change that flips as many fitting images as possible.

A universal perturbation is added to an image; a patch replaces a square of it. Both are optimised by
`optimization.descent`: the loss is the mean over the fitting images, computed in pieces.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from robustness.errors import SettingError
from robustness.files import writing
from robustness.files.bounded import parse_json
from robustness.files.disk_errors import expect_named
from robustness.files.npy import read_npz
from robustness.models.classifier import Classifier
from robustness.numerics import losses
from robustness.optimization.descent import minimize, value_and_gradient
from robustness.threat.threat import Threat

PIECE = 32
"""Number of fitting images in a piece."""
OPTIMIZERS = {"linf": "adam", "l2": "momentum", "l1": "momentum"}
"""Adam steps along signs, the steepest direction in linf; momentum steps along the gradient."""
GAIN = 0.1
"""The loss counts a flipped image until its margin is this share of the mean margin: a change that ends
at the boundary would not survive rounding, nor generalise to new images."""


@dataclass(frozen=True)
class PatchRegion:
    """A square: its upper left corner and its side, in pixels."""

    top: int
    left: int
    side: int

    def inside(self, shape: tuple[int, ...]) -> np.ndarray:
        """The mask of the square in images of `shape`, (height, width, 1) float32.

        Raises
        ------
        SettingError
            The square is not inside the image.
        """
        height, width = shape[:2]
        fits = self.top + self.side <= height and self.left + self.side <= width
        if self.side < 1 or min(self.top, self.left) < 0 or not fits:
            raise SettingError(
                f"A patch of side {self.side} at ({self.top}, {self.left}) is not inside an image of "
                f"{height} × {width} pixels; expected a corner and a side that are."
            )
        covered = np.zeros((height, width, 1), "float32")
        covered[self.top : self.top + self.side, self.left : self.left + self.side] = 1
        return covered


@dataclass(frozen=True)
class Fitted:
    """A fitted change, and the data of its fit.

    Attributes
    ----------
    values : (height, width, channels) float32 counts, added to an image or, inside `place`, replacing it.
    norm, epsilon, goal : those of the threat. place : the square of a patch; None for a perturbation. images
    : number of fitting images. flipped : the share of the fitting images that flips, before rounding to 8
    bits. model : digest of the model. losses : the mean loss at every step. card : the model as
    `Classifier.card`; empty in files of an older version.
    """

    values: np.ndarray
    norm: str
    epsilon: float
    goal: str
    place: PatchRegion | None
    images: int
    flipped: float
    model: str
    losses: tuple[float, ...]
    card: dict[str, Any] = field(default_factory=dict)

    def onto(self, images: Any) -> Any:
        """Apply the change to images (..., height, width, channels) in counts, without projection."""
        if self.place is None:
            return images + self.values
        covered = self.place.inside(self.values.shape)
        return images * (1 - covered) + self.values * covered

    def save(self, path: str | Path) -> None:
        """Write the change to a `.npz` file."""
        expect_named(path, "The path of the fitted change")
        fields = {k: v for k, v in asdict(self).items() if k != "values"}
        content = io.BytesIO()
        np.savez_compressed(content, values=self.values, told=json.dumps(fields))
        writing.replace(Path(path), content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Fitted:
        """Read a file that `save` wrote.

        Raises
        ------
        SettingError
            The file is missing or holds no fitted change.
        """
        expect_named(path, "The path of the fitted change")
        try:
            stored = read_npz(path, "values", "told")
            values, fields = stored["values"], parse_json(str(stored["told"]))
            place = PatchRegion(**fields.pop("place")) if fields["place"] else fields.pop("place")
            return cls(values=values, place=place, losses=tuple(fields.pop("losses")), **fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingError(
                f"{path} holds no fitted change ({error}); expected a file that `robustness fit` wrote."
            ) from None

    @property
    def digest(self) -> str:
        """SHA-256 of the values."""
        return hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest()


def fit(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    place: PatchRegion | None = None,
    steps: int = 50,
    each: Callable[[int, float], None] | None = None,
) -> Fitted:
    """Fit one change that flips as many images as possible within the threat's largest epsilon.

    A perturbation minimises the mean margin loss of the images, clipped where an image has flipped (see
    `GAIN`), and is projected onto the ball after each step. A patch may take any colours within its square.

    Parameters
    ----------
    classifier
        The model.
    images
        (n, height, width, channels) counts; misclassified ones are left out.
    labels
        (n,) classes.
    threat
        Its largest epsilon is the budget.
    place
        The square of a patch; None for a perturbation of the whole image.
    steps
        Number of steps.
    each
        Called with the number and the mean loss of every step.

    Raises
    ------
    SettingError
        The patch is not inside the image, no image is classified correctly, or the norm has no such change.

    References
    ----------
    Moosavi-Dezfooli et al. 2017, arXiv:1610.08401, for the problem.
    Shafahi et al. 2020, arXiv:1811.11304, for the solution.
    Brown et al. 2017, arXiv:1712.09665, for patches.
    """
    right = classifier.logits_of(images).argmax(axis=1) == labels
    images, labels = images[right], np.asarray(labels)[right]
    if not len(images):
        raise SettingError(
            "None of the fitting images is classified correctly; expected at least one that can be flipped."
        )
    epsilon, shape = threat.epsilons[-1], images.shape[1:]
    aims = threat.goal.aims(labels)
    covered = None if place is None else place.inside(shape)
    ahead = threat.goal.loss(losses.margin, classifier.logits_of(images), aims)
    enough = GAIN * float(np.mean(np.abs(ops.convert_to_numpy(ahead))))

    def apply(point: Any, some: Any) -> Any:
        change = ops.cast(point, "float32")
        changed = some + change if covered is None else some * (1 - covered) + change * covered
        return ops.clip(changed, 0.0, 255.0)

    def loss(point: Any, some: Any, aim: Any) -> Any:
        logits = classifier.logits(apply(point, some))
        short = ops.maximum(threat.goal.loss(losses.margin, logits, aim) + enough, 0.0)
        return ops.cast(short, "float64") / len(images)

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(images), PIECE):
            some = slice(start, start + PIECE)
            yield images[some].astype("float32"), aims[some]

    def project(point: Any) -> Any:
        if covered is not None:
            return ops.clip(point, 0.0, 255.0)
        change = ops.cast(point, "float32")[None]
        whole = ops.full_like(change, 255.0)
        radius = ops.full((1,), epsilon, "float32")
        return ops.cast(threat.norm.project(change, radius, -whole, whole)[0], "float64")

    start = np.zeros(shape) if covered is None else np.full(shape, 127.5)
    optimizer, pace = _descent(
        threat, start, value_and_gradient(loss, (), pieces, total=True), patch=covered is not None
    )
    optimum = minimize(
        loss,
        start,
        optimizer=optimizer,
        learning_rate=keras.optimizers.schedules.CosineDecay(pace, steps),
        steps=steps,
        project=project,
        pieces=pieces,
        each=None if each is None else (lambda step: each(step.step, step.loss)),
    )
    values = np.asarray(optimum.value, "float32")
    made = Fitted(
        values=values,
        norm=threat.norm.name,
        epsilon=float(epsilon),
        goal=threat.goal.describe(classifier.class_names),
        place=place,
        images=len(images),
        flipped=0.0,
        model=classifier.digest,
        losses=tuple(float(loss) for loss in optimum.history),
        card=classifier.card(),
    )
    points = np.clip(made.onto(images.astype("float32")), 0, 255)
    reached = threat.goal.reached(classifier.logits_of(points).argmax(axis=1), aims)
    return Fitted(**{**vars(made), "flipped": float(np.mean(reached))})


def _descent(
    threat: Threat,
    start: np.ndarray,
    loss_and_gradient: Callable[[np.ndarray], Any],
    *,
    patch: bool,
) -> tuple[str, float]:
    """An optimizer and its first rate: the first step is a tenth of the budget, or of a patch's range.

    Adam steps along signs, the steepest direction in linf; in l2 and l1 the steps follow the gradient.
    """
    if patch:
        return "adam", 25.5
    name, epsilon = threat.norm.name, threat.epsilons[-1]
    if name not in OPTIMIZERS:
        raise SettingError(
            f"A universal perturbation has no {name} version; expected linf, l2 or l1, or the place of "
            "a patch."
        )
    if OPTIMIZERS[name] == "adam":
        return "adam", 0.1 * epsilon
    _, slope = loss_and_gradient(start)
    return "momentum", 0.1 * epsilon / max(float(np.linalg.norm(slope)), 1e-30)
