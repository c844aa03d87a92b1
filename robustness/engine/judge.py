"""The judge: a flip counts only when the saved 8-bit file, read back, flips the user's own model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from robustness.engine.votes import flips
from robustness.images.png import from_png, to_png
from robustness.models.classifier import LARGE_BATCH, Classifier
from robustness.threat.norms import NORMS, Norm, has_own_column
from robustness.threat.threat import Threat


@dataclass(frozen=True)
class Distances:
    """How far two 8-bit pictures are apart, in counts; `l0` in pixels, `components` in channels of them.

    `own` is the distance in the threat's norm where that is none of these, 0 without a norm.
    """

    l0: int
    components: int
    l1: float
    l2: float
    linf: float
    own: float = 0.0

    def of(self, norm: str) -> float:
        """The distance in a norm: one that has a field, or else the threat's."""
        return float(vars(self).get(norm, self.own))

    @property
    def columns(self) -> dict[str, Any]:
        """What the tables of every run hold."""
        return {name: value for name, value in asdict(self).items() if name != "own"}


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


def distances(original: np.ndarray, picture: np.ndarray, norm: Norm | None = None) -> Distances:
    """Exact distances between two uint8 pictures (height, width, channels), that in `norm` among them."""
    measured = {name: known.distance(original, picture) for name, known in NORMS.items()}
    own = norm is not None and has_own_column(norm)
    return Distances(
        l0=int(measured["l0"]),
        components=int(np.count_nonzero(original != picture)),
        l1=measured["l1"],
        l2=measured["l2"],
        linf=measured["linf"],
        own=norm.distance(original, picture) if own and norm else 0.0,
    )


SMALL = 1 << 12
"""Bytes of a picture that is saved and read in less time than another thread needs to begin."""


class Saved(NamedTuple):
    """The file of a picture, what is read from it, and how far that is from the original."""

    data: bytes
    picture: np.ndarray
    far: Distances


def _saved(norm: Norm, suspect: Suspect) -> Saved:
    data = to_png(suspect.picture)
    picture = from_png(data)
    return Saved(data, picture, distances(suspect.original, picture, norm))


def _stacked(files: Sequence[Saved]) -> np.ndarray:
    return np.stack([file.picture for file in files]) if files else np.zeros(0, np.uint8)


class FileThreads:
    """The threads that make and read files, shared by all judges.

    Starting threads takes longer than the attack on a small network: they stay until nobody uses them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._users = 0

    def submit(self, norm: Norm, suspect: Suspect) -> Future[Saved]:
        """Start to save `suspect`."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(thread_name_prefix="judge")
            return self._executor.submit(_saved, norm, suspect)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the threads within the block; the last such block to end closes them."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                last = not self._users
            if last:
                self.close()

    def close(self) -> None:
        """Finish what was submitted and end the threads; the next `submit` starts new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()


FILE_THREADS = FileThreads()


def _begun(norm: Norm, suspect: Suspect) -> Callable[[], Saved]:
    """How to get what `_saved` gives, which may be on its way already."""
    if suspect.picture.nbytes < SMALL:
        return partial(_saved, norm, suspect)
    return FILE_THREADS.submit(norm, suspect).result


class Judge:
    """Saves, reads back, predicts with the user's model in float32, and measures."""

    def __init__(self, classifier: Classifier, threat: Threat, draws: int = 1) -> None:
        """`draws` is 1, or more where the model answers at random: then each file is voted on (`votes`)."""
        self._classifier, self._threat, self._draws = classifier, threat, draws
        self.passes: list[int] = []
        """How often the model was asked about each of the last suspects."""

    def __call__(self, suspects: Sequence[Suspect]) -> list[Flip | None]:
        """The flip of each suspect, or None where its file does not flip within the budget.

        Only of what the model takes for a flip a file is made; if it held other pixels than the model
        was shown, the model would be shown these.
        """
        if self._draws > 1:
            return self._voted(suspects)
        self.passes = [1] * len(suspects)
        held: list[tuple[np.ndarray, Callable[[], Saved]] | None] = []
        for start in range(0, len(suspects), LARGE_BATCH):
            some = suspects[start : start + LARGE_BATCH]
            rows = self._classifier.probabilities(np.stack([s.picture for s in some]))
            for suspect, row in zip(some, rows, strict=True):
                # Compressing needs no Python lock: files are made while the model looks at the next.
                held.append(
                    (row, _begun(self._threat.norm, suspect)) if self._flips(suspect, row) else None
                )
        return [
            self._flip(suspect, *found) if found else None
            for suspect, found in zip(suspects, held, strict=True)
        ]

    def judges(self, classifier: Classifier) -> bool:
        """Whether `classifier` is the one that is judged by, and says the same whenever it is asked."""
        return classifier is self._classifier and self._draws == 1

    def in_float(self, points: np.ndarray, labels: Sequence[int]) -> list[bool]:
        """Whether each float picture (n, height, width, channels) reaches the goal as it is.

        False for whole counts, whose file the model has been asked about, of a model that takes
        whole numbers, which has no answer to what lies between, and of one that answers at random.
        """
        if self._classifier.cuts_fractions or self._draws > 1:
            return [False] * len(points)
        aims = self._threat.goal.aims(np.asarray(labels))
        between = (points != np.round(points)).any(axis=(1, 2, 3))
        found = np.zeros(len(points), bool)
        if between.any():
            rows = self._classifier.probabilities(points[between])
            reached = self._threat.goal.reached(rows.argmax(axis=1), aims[between])
            found[between] = reached & np.isfinite(rows).all(axis=1)
        return found.tolist()

    def _flips(self, suspect: Suspect, row: np.ndarray) -> bool:
        """Whether the answer `row` (classes,) to a picture is the goal's."""
        predicted = int(row.argmax())
        if predicted == suspect.label or not np.isfinite(row).all():
            return False
        return bool(self._threat.goal.reached(predicted, self._aim(suspect)))

    def _aim(self, suspect: Suspect) -> int:
        return int(self._threat.goal.aims(np.array([suspect.label]))[0])

    def _voted(self, suspects: Sequence[Suspect]) -> list[Flip | None]:
        """The flip of each suspect whose file, read back, flips more often than not."""
        saved = [_saved(self._threat.norm, suspect) for suspect in suspects]
        numbers = np.arange(len(self._classifier.class_names))
        wanted = [
            (numbers != s.label) & self._threat.goal.reached(numbers, self._aim(s))
            for s in suspects
        ]
        told = flips(self._classifier.probabilities, _stacked(saved), wanted)
        self.passes = [vote.draws for vote, _ in told]
        found: list[Flip | None] = []
        for suspect, file, classes, (vote, holds) in zip(
            suspects, saved, wanted, told, strict=True
        ):
            predicted = int(np.where(classes, vote.counts, -1).argmax())
            flip = Flip(file.data, predicted, vote.confidence(predicted), file.far)
            found.append(flip if holds and self._within(suspect, file) else None)
        return found

    def _within(self, suspect: Suspect, file: Saved) -> bool:
        """Whether a file keeps to the mask and to the budget."""
        mask = self._threat.mask
        if mask is not None and (file.picture != suspect.original)[~mask.free].any():
            return False
        # Exact for whole counts; the little more is the rounding of a square root.
        return file.far.of(self._threat.norm.name) <= suspect.epsilon * (1 + 1e-9)

    def _flip(self, suspect: Suspect, row: np.ndarray, saved: Callable[[], Saved]) -> Flip | None:
        """The flip that the file of `suspect` is; None if it lies beyond the budget or the mask."""
        file = saved()
        if not np.array_equal(file.picture, suspect.picture):
            row = self._classifier.probabilities(file.picture[None])[0]
            if not self._flips(suspect, row):
                return None
        if not self._within(suspect, file):
            return None
        predicted = int(row.argmax())
        return Flip(file.data, predicted, float(row[predicted]), file.far)
