"""Judges candidates: a flip counts only if the saved 8-bit file, read back, flips the user's own model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from robustness.engine.votes import flips as vote_on_flips
from robustness.images.png import from_png, to_png
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import LARGE_BATCH
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.upload import PNG, Upload
from robustness.threat.norms import NORMS, Norm, has_own_column
from robustness.threat.norms.measuring import distance
from robustness.threat.threat import Threat


@dataclass(frozen=True)
class Distances:
    """The distances between two 8-bit pictures, in counts; `l0` in pixels, `components` in their channels.

    `own` is the distance in the threat's norm if that is none of these; 0 without a norm.
    """

    l0: int
    components: int
    l1: float
    l2: float
    linf: float
    own: float = 0.0

    def of(self, norm: str) -> float:
        """Return the distance in a norm: in one of the fields, or otherwise in the threat's norm."""
        return float(vars(self).get(norm, self.own))

    @property
    def columns(self) -> dict[str, Any]:
        """The distances by column, as the tables of every run hold them."""
        return {name: value for name, value in asdict(self).items() if name != "own"}


@dataclass(frozen=True)
class Candidate:
    """A picture to judge, with its original (h, w, c) uint8, the class of that, and the budget."""

    original: np.ndarray
    label: int
    epsilon: float
    picture: np.ndarray


@dataclass(frozen=True)
class UploadedFile:
    """The file of a flip in a lossy format, and the distances of its decoded picture to the original."""

    data: bytes
    distances: Distances


@dataclass(frozen=True)
class Flip:
    """A verified flip: the picture as PNG, its class and confidence, and its distances to the original.

    With a lossy upload the class is that of `upload`; the budget limits the picture before it is encoded.
    """

    png: bytes
    adversarial_class: int
    confidence: float
    distances: Distances
    upload: UploadedFile | None = None


def distances(original: np.ndarray, picture: np.ndarray, norm: Norm | None = None) -> Distances:
    """Return the exact distances between two uint8 pictures (height, width, channels), including `norm`."""
    measured = {name: known.distance(original, picture) for name, known in NORMS.items()}
    own = norm is not None and has_own_column(norm)
    return Distances(
        l0=int(measured["l0"]),
        components=int(np.count_nonzero(original != picture)),
        l1=measured["l1"],
        l2=measured["l2"],
        linf=measured["linf"],
        own=distance(norm, original, picture) if own and norm else 0.0,
    )


SMALL = 1 << 12
"""Bytes of a picture below which saving and reading it takes less time than passing it to a thread."""


class Saved(NamedTuple):
    """The file of a picture, the picture read from it, its distances to the original, and its upload."""

    data: bytes
    picture: np.ndarray
    far: Distances
    upload: UploadedFile | None = None


def _saved(norm: Norm, candidate: Candidate) -> Saved:
    data = to_png(candidate.picture)
    picture = from_png(data)
    return Saved(data, picture, distances(candidate.original, picture, norm))


def _uploaded(norm: Norm, upload: Upload, candidate: Candidate) -> Saved:
    """`_saved`, with the file in the lossy format of the upload."""
    data = upload.encode(candidate.picture)
    file = UploadedFile(data, distances(candidate.original, upload.decode(data), norm))
    saved = _saved(norm, candidate)
    return Saved(saved.data, saved.picture, saved.far, file)


def _together(pictures: Sequence[np.ndarray]) -> np.ndarray | Sequence[np.ndarray]:
    """Pictures of one shape as one array, others as they are."""
    alike = len({picture.shape for picture in pictures}) == 1
    return np.stack(pictures) if alike else pictures


class FileThreads:
    """The threads that write and read files, shared by all judges.

    Starting threads takes longer than the attack on a small network, so they are kept while they are in use.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._users = 0

    def submit(self, norm: Norm, candidate: Candidate) -> Future[Saved]:
        """Start to save `candidate`."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(thread_name_prefix="judge")
            return self._executor.submit(_saved, norm, candidate)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the threads during the block; the last such block to end closes them."""
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
        """Finish the submitted work and end the threads; the next `submit` starts new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()


FILE_THREADS = FileThreads()


def _saving(norm: Norm, candidate: Candidate) -> Callable[[], Saved]:
    """A function that returns the saved candidate, which a thread may already be writing."""
    if candidate.picture.nbytes < SMALL:
        return partial(_saved, norm, candidate)
    return FILE_THREADS.submit(norm, candidate).result


class Judge:
    """Decide which pictures flip: save, read back, predict with the user's model in float32, measure.

    Parameters
    ----------
    classifier
        The user's model.
    threat
        The norm, the goal and the mask that a flip must satisfy.
    draws
        1; more if the model's outputs are random: each verdict is then a vote (`votes`).

    Attributes
    ----------
    passes
        The number of forward passes for each candidate of the last call.
    """

    def __init__(self, classifier: Classifier, threat: Threat, draws: int = 1) -> None:
        self._classifier, self._threat, self._draws = classifier, threat, draws
        self.passes: list[int] = []
        deployed = classifier.deployment
        upload = deployed.upload if isinstance(deployed, Deployment) else PNG
        self._upload = None if upload.lossless else upload

    def __call__(self, candidates: Sequence[Candidate]) -> list[Flip | None]:
        """Return the flip of each candidate, or None if its file does not flip within the budget.

        A PNG is written only for candidates that reach the goal. If the file has other pixels than the
        candidate, the model's output for the file decides.
        """
        if self._draws > 1:
            return self._voted(candidates)
        self.passes = [1] * len(candidates)
        if self._upload is not None:
            return self._of_uploads(candidates)
        pending: list[tuple[np.ndarray, Callable[[], Saved]] | None] = []
        for start in range(0, len(candidates), LARGE_BATCH):
            part = candidates[start : start + LARGE_BATCH]
            rows = self._classifier.probabilities(_together([c.picture for c in part]))
            for candidate, row in zip(part, rows, strict=True):
                # Compression releases the Python lock: files are written while the model runs on
                # the next part.
                flips = self._flips(candidate, row)
                norm = self._threat.norm
                pending.append((row, _saving(norm, candidate)) if flips else None)
        return [
            self._flip(candidate, *flip) if flip else None
            for candidate, flip in zip(candidates, pending, strict=True)
        ]

    def _of_uploads(self, candidates: Sequence[Candidate]) -> list[Flip | None]:
        """The flip of each candidate whose encoded file, decoded as deployed, reaches the goal."""
        verdicts: list[Flip | None] = []
        for start in range(0, len(candidates), LARGE_BATCH):
            part = candidates[start : start + LARGE_BATCH]
            files = [self._encoded(candidate) for candidate in part]
            rows = self._classifier.probabilities_of_files(
                [file.upload.data for file in files if file.upload]
            )
            for candidate, file, row in zip(part, files, rows, strict=True):
                flips = self._flips(candidate, row) and self._within(candidate, file)
                predicted = int(row.argmax())
                flip = Flip(file.data, predicted, float(row[predicted]), file.far, file.upload)
                verdicts.append(flip if flips else None)
        return verdicts

    def _encoded(self, candidate: Candidate) -> Saved:
        """The files of a candidate, in the formats that the judge needs."""
        if self._upload is None:
            return _saved(self._threat.norm, candidate)
        return _uploaded(self._threat.norm, self._upload, candidate)

    def judges(self, classifier: Classifier) -> bool:
        """Return whether `classifier` is this judge's model and its outputs are not random."""
        return classifier is self._classifier and self._draws == 1

    def flips_in_float(self, points: np.ndarray, labels: Sequence[int]) -> list[bool]:
        """Return whether each float picture reaches the goal without being rounded.

        Parameters
        ----------
        points
            (n, height, width, channels) counts.
        labels
            The class of each image, (n,).

        Returns
        -------
        One bool per picture. False for whole counts, which rounding does not change; for a model that takes
        integers and for an input pipeline, which have no output for fractions; and for a model with random
        outputs.
        """
        whole = self._classifier.cuts_fractions or self._classifier.deployment is not None
        if whole or self._draws > 1:
            return [False] * len(points)
        aims = self._threat.goal.aims(np.asarray(labels))
        between = (points != np.round(points)).any(axis=(1, 2, 3))
        flips = np.zeros(len(points), bool)
        if between.any():
            rows = self._classifier.probabilities(points[between])
            reached = self._threat.goal.reached(rows.argmax(axis=1), aims[between])
            flips[between] = reached & np.isfinite(rows).all(axis=1)
        return flips.tolist()

    def _flips(self, candidate: Candidate, row: np.ndarray) -> bool:
        """Whether the output `row` (classes,) for a candidate reaches the goal."""
        predicted = int(row.argmax())
        if predicted == candidate.label or not np.isfinite(row).all():
            return False
        return bool(self._threat.goal.reached(predicted, self._aim(candidate)))

    def _aim(self, candidate: Candidate) -> int:
        return int(self._threat.goal.aims(np.array([candidate.label]))[0])

    def _voted(self, candidates: Sequence[Candidate]) -> list[Flip | None]:
        """The flip of each candidate whose file, read back, flips in more than half of all draws."""
        saved = [self._encoded(candidate) for candidate in candidates]
        numbers = np.arange(len(self._classifier.class_names))
        wanted = [
            (numbers != s.label) & self._threat.goal.reached(numbers, self._aim(s))
            for s in candidates
        ]
        results = vote_on_flips(
            self._classifier.probabilities, _together([file.picture for file in saved]), wanted
        )
        self.passes = [vote.draws for vote, _ in results]
        verdicts: list[Flip | None] = []
        for candidate, file, classes, (vote, holds) in zip(
            candidates, saved, wanted, results, strict=True
        ):
            predicted = int(np.where(classes, vote.counts, -1).argmax())
            sure = vote.confidence(predicted)
            flip = Flip(file.data, predicted, sure, file.far, file.upload)
            verdicts.append(flip if holds and self._within(candidate, file) else None)
        return verdicts

    def _within(self, candidate: Candidate, file: Saved) -> bool:
        """Whether a file changes only what the mask allows, within the budget."""
        mask = self._threat.mask
        if mask is not None and (file.picture != candidate.original)[~mask.free].any():
            return False
        # Exact for whole counts; the margin covers the rounding of a square root.
        return file.far.of(self._threat.norm.name) <= candidate.epsilon * (1 + 1e-9)

    def _flip(
        self, candidate: Candidate, row: np.ndarray, saved: Callable[[], Saved]
    ) -> Flip | None:
        """The flip of a candidate's file; None if it is outside the budget or the mask."""
        file = saved()
        if not np.array_equal(file.picture, candidate.picture):
            row = self._classifier.probabilities(_together([file.picture]))[0]
            if not self._flips(candidate, row):
                return None
        if not self._within(candidate, file):
            return None
        predicted = int(row.argmax())
        return Flip(file.data, predicted, float(row[predicted]), file.far)
