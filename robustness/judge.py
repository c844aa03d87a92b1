"""The judge: a flip counts only when the saved 8-bit file, read back, flips the user's own model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np

from robustness.classifier import TOGETHER, Classifier
from robustness.pictures import from_png, to_png
from robustness.threat import Threat


@dataclass(frozen=True)
class Distances:
    """How far two 8-bit pictures are apart, in counts; `l0` in pixels, `components` in channels of them."""

    l0: int
    components: int
    l1: float
    l2: float
    linf: float

    def of(self, norm: str) -> float:
        """The distance under a norm by name; without a norm there is none."""
        if norm == "free":
            return 0.0
        return float(getattr(self, norm))


@dataclass(frozen=True)
class Suspect:
    """A picture that may have flipped: the original, its class, the budget, and the picture."""

    original: np.ndarray
    label: int
    epsilon: float
    picture: np.ndarray


@dataclass(frozen=True)
class Flip:
    """A flip that holds: the file's bytes, the class it gets, with which confidence, how far away."""

    png: bytes
    adversarial_class: int
    confidence: float
    distances: Distances


def distances(original: np.ndarray, picture: np.ndarray) -> Distances:
    """Exact distances between two uint8 pictures (height, width, channels)."""
    # No wider than a square of a change needs; sums are of 64 bits.
    delta = np.abs(picture.astype(np.int32) - original.astype(np.int32))
    return Distances(
        l0=int(delta.any(axis=-1).sum()),
        components=int(np.count_nonzero(delta)),
        l1=float(delta.sum(dtype=np.int64)),
        l2=float(np.sqrt((delta * delta).sum(dtype=np.int64))),
        linf=float(delta.max()),
    )


def _saved(suspect: Suspect) -> tuple[bytes, np.ndarray]:
    """The file of a picture, and what is read from it."""
    data = to_png(suspect.picture)
    return data, from_png(data)


@cache
def _hands() -> ThreadPoolExecutor:
    """Threads for all judges: starting them anew takes longer than a small network's attack."""
    return ThreadPoolExecutor(thread_name_prefix="judge")


class Judge:
    """Saves, reads back, predicts with the user's model in float32, and measures."""

    def __init__(self, classifier: Classifier, threat: Threat) -> None:
        self._classifier, self._threat = classifier, threat

    def __call__(self, suspects: Sequence[Suspect]) -> list[Flip | None]:
        """The flip of each suspect, or None where its file does not flip within the budget."""
        # Compressing needs no Python lock: the next files are made while the model looks at the last.
        saved = _hands().map(_saved, suspects)
        verdicts: list[Flip | None] = []
        for start in range(0, len(suspects), TOGETHER):
            some = suspects[start : start + TOGETHER]
            files, pictures = zip(*islice(saved, len(some)), strict=True)
            rows = self._classifier.probabilities(np.stack(pictures))
            verdicts += map(self._verdict, some, files, pictures, rows)
        return verdicts

    def judges(self, classifier: Classifier) -> bool:
        """Whether `classifier` is the one that is judged by."""
        return classifier is self._classifier

    def in_float(self, points: np.ndarray, labels: Sequence[int]) -> list[bool]:
        """Whether each float picture (n, height, width, channels) reaches the goal as it is.

        False for whole counts, whose file the model has been asked about.
        """
        aims = self._threat.goal.aims(np.asarray(labels))
        between = (points != np.round(points)).any(axis=(1, 2, 3))
        found = np.zeros(len(points), bool)
        if between.any():
            rows = self._classifier.probabilities(points[between])
            reached = self._threat.goal.reached(rows.argmax(axis=1), aims[between])
            found[between] = reached & np.isfinite(rows).all(axis=1)
        return found.tolist()

    def _verdict(
        self, suspect: Suspect, data: bytes, picture: np.ndarray, row: np.ndarray
    ) -> Flip | None:
        goal, norm = self._threat.goal, self._threat.norm
        predicted = int(row.argmax())
        aim = int(goal.aims(np.array([suspect.label]))[0])
        far = distances(suspect.original, picture)
        flipped = (
            np.isfinite(row).all()
            and predicted != suspect.label
            and bool(goal.reached(predicted, aim))
        )
        mask = self._threat.mask
        if mask is not None and (picture != suspect.original)[~mask.free].any():
            return None
        # Exact for whole counts; the little more is the rounding of a square root.
        if not flipped or far.of(norm.name) > suspect.epsilon * (1 + 1e-9):
            return None
        return Flip(data, predicted, float(row[predicted]), far)
