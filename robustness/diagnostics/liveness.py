"""Checks whether a model's outputs depend on the picture: detects constant outputs and ties (D28).

A model with the same output for every picture cannot be flipped, and a class that wins by rounding alone
means nothing. Both look like robustness but are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import SMALL_BATCH

EPS = float(np.finfo("float32").eps)
ULPS = 1
"""The largest difference of tied probabilities, in steps of float32."""
ROUNDINGS = 8
"""Roundings of a logit, and of the largest, within which two logits of a class count as equal."""
CONSTANT = 1e-3
"""Outputs that vary by no more than this share of the difference to the largest logit count as constant."""
MOST, SOME = 0.5, 0.02
"""Shares of images above which ties decide the audit, and above which they are reported."""
TELLING = 3
"""Number of different images from which a share of them is significant by itself."""


@dataclass(frozen=True)
class Answers:
    """A model's outputs for some pictures.

    Attributes
    ----------
    probabilities, logits : (n, classes).
    sees : whether `logits` are from before the last activation; logarithms of saturated probabilities are
        equal for all pictures.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    sees: bool

    def of(self, which: np.ndarray) -> Answers:
        """Return the outputs for some of the pictures, by a mask or indices."""
        return Answers(self.probabilities[which], self.logits[which], self.sees)

    def join(self, others: Answers) -> Answers:
        """Return these outputs followed by others."""
        return Answers(
            np.concatenate([self.probabilities, others.probabilities]),
            np.concatenate([self.logits, others.logits]),
            self.sees,
        )

    @property
    def tied(self) -> np.ndarray:
        """Whether each output is a tie, (n,) bool: the two best classes differ by rounding only."""
        best, second = _two_best(self.probabilities)
        ties = best - second <= ULPS * np.spacing(best.astype("float32"))
        if self.sees:
            first, next_ = _two_best(self.logits)
            size = np.maximum(np.abs(first), np.abs(next_))
            ties |= first - next_ <= ULPS * EPS * size
        return ties

    @property
    def alike(self) -> int:
        """The largest number of outputs that are equal up to rounding.

        Saturated outputs do not count unless logits are from before the last activation.
        """
        told = self if self.sees else self.of(self.probabilities.max(axis=1) < 1 - 2 * EPS)
        centred = _centred(told.logits)
        # By class: one that a model excludes, by a logit of -1e9, says nothing of the others' rounding.
        size = np.abs(told.logits.astype("float64"))
        limit = (
            ROUNDINGS * EPS * (size + size.max(axis=1, where=centred == 0, initial=0.0)[:, None])
        )
        counts = (
            np.sum((np.abs(centred - row) <= np.maximum(limit, here)).all(axis=1))
            for row, here in zip(centred, limit, strict=True)
        )
        return int(max(counts, default=0))

    @property
    def constant(self) -> bool:
        """Whether all outputs have the same class and are equal up to `CONSTANT`, class by class."""
        classes = self.probabilities.argmax(axis=1)
        centred = _centred(self.logits)
        spread, size = np.ptp(centred, axis=0), np.abs(centred).max(axis=0)
        return bool((classes == classes[0]).all() and (spread <= CONSTANT * size).all())


@dataclass(frozen=True)
class Liveness:
    """The result of the check.

    Attributes
    ----------
    state : "alive"; "some" if some images tie; "dead" if the outputs do not depend on the pictures.
    sentence : the result in words.
    """

    state: Literal["alive", "some", "dead"]
    sentence: str


def liveness(
    classifier: Classifier, images: np.ndarray, probabilities: np.ndarray, logits: np.ndarray
) -> Liveness:
    """Check whether a model's outputs depend on the picture.

    If `images` do not settle it, the model is also run on pictures without content (`blanks`).

    Parameters
    ----------
    classifier : the model.
    images : uint8 (n, height, width, channels).
    probabilities, logits : its outputs for `images`, finite, (n, classes).
    """
    # By their bytes: np.unique sorts rows, which takes a fifth of a second for 64 photographs.
    different = np.array(list({image.tobytes(): i for i, image in enumerate(images)}.values()))
    real = Answers(probabilities, logits, classifier.head.rebuilt).of(different)
    count, ties, alike = len(different), int(real.tied.sum()), real.alike
    few = count < TELLING
    what = "1 image" if count == 1 else f"{count} different images"
    if ties > MOST * count and (not few or _blank(classifier, images).tied.mean() > MOST):
        return Liveness(
            "dead",
            f"The two best classes of {ties} of {what} are apart by rounding alone: the class that the model "
            "names is the first of those that tie, whatever the picture. No attack can flip that, and it "
            "is no robustness.",
        )
    if not few and alike > MOST * count:
        return Liveness(
            "dead",
            f"The model gives {alike} of {what} the same answer but for rounding: it does not depend on the "
            "picture. No attack can flip that, and it is no robustness.",
        )
    if real.constant and (blank := _blank(classifier, images)) and real.join(blank).constant:
        return Liveness(
            "dead",
            f"The model gives {what} and {len(blank.logits)} that show nothing (black, white, grey, noise, "
            "negatives) the same class with the same confidence: its answers do not depend on the "
            "picture, which is no robustness.",
        )
    if ties > SOME * count:
        return Liveness(
            "some",
            f"The two best classes of {ties} of {what} are apart by rounding alone: their class is chance, "
            "and that none of these flips says nothing.",
        )
    return Liveness("alive", f"The answers to {what} depend on the picture; {ties} are ties.")


def blanks(images: np.ndarray) -> np.ndarray:
    """Return flat and noise pictures, and negatives of some of `images`.

    uint8, at most `SMALL_BATCH` pictures (m, height, width, channels).
    """
    shape, rng = images.shape[1:], np.random.default_rng(28)
    flat = [np.full(shape, count, np.uint8) for count in (0, 128, 255)]
    noise = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(3)]
    rough = [255 * rng.integers(0, 2, shape, dtype=np.uint8) for _ in range(2)]
    made = [*flat, *noise, *rough]
    return np.stack([*made, *(255 - image for image in images[: SMALL_BATCH - len(made)])])


def _blank(classifier: Classifier, images: np.ndarray) -> Answers:
    """The finite outputs for `blanks`."""
    shown = blanks(images)
    probabilities, logits = classifier.probabilities(shown), classifier.logits_of(shown)
    answers = Answers(probabilities, logits, classifier.head.rebuilt)
    return answers.of(np.isfinite(np.concatenate([probabilities, logits], axis=1)).all(axis=1))


def _two_best(rows: np.ndarray) -> tuple[Any, Any]:
    ordered = np.partition(rows.astype("float64"), -2, axis=1)
    return ordered[:, -1], ordered[:, -2]


def _centred(logits: np.ndarray) -> np.ndarray:
    """Logits minus the largest of their row; a common shift does not change probabilities."""
    exact = logits.astype("float64")
    return np.asarray(exact - exact.max(axis=1, keepdims=True))
