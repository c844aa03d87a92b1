"""Evaluates the pictures of a run with the model, in chunks, here or by what else answers them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from robustness.engine import votes
from robustness.errors import RunUsageError
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.preprocessing import Preprocessing
from robustness.pipeline.upload import parse_upload
from robustness.pipeline.user_function import UserFunction, taking_inputs
from robustness.runs.schema import DeploymentEntry
from robustness.verification.rows import Inconsistency

CHUNK = 24
"""Pictures that the model evaluates at once."""
CHUNK_BYTES = 64 << 20
"""A chunk whose pictures have more bytes gets no further one."""

Chunk = Sequence[np.ndarray | bytes]
"""Pictures uint8 (height, width, channels), and the bytes of uploaded files."""
Expectation = Callable[[Any], Iterable[Inconsistency]]
"""Checks the probabilities (classes,) of a picture, or its `votes.Vote` if the model has random outputs."""


class Predicting(Protocol):
    """The part of a classifier that verification needs."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes, in the order of the outputs."""

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""

    def card(self) -> Mapping[str, Any]:
        """Return the description of the model for `run.json` (`Classifier.card`)."""

    def probabilities(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Return probabilities (n, classes) of uint8 images (n, height, width, channels), or of pictures."""

    def probabilities_of_files(self, files: Sequence[bytes]) -> np.ndarray:
        """Return probabilities (n, classes) of uploaded files."""


@dataclass(frozen=True)
class Answers:
    """The model's outputs for a chunk.

    Attributes
    ----------
    rows : for each picture its probabilities (classes,), or its `votes.Vote`.
    like : whether hardware like that of this process computed them.
    """

    rows: Sequence[Any]
    like: bool = True


@dataclass(frozen=True)
class Share:
    """What one process has evaluated.

    Attributes
    ----------
    host, device : where it ran, and on what; "" for the process that verified.
    pictures : how many.
    processor_seconds : the processor time that it used.
    like : whether it computes the same bits as the process that verified.
    lost : whether it ended before the verification.
    driver : whether it is the process that verified.
    """

    host: str
    device: str
    pictures: int
    processor_seconds: float
    like: bool = True
    lost: bool = False
    driver: bool = False


Here = Callable[[Chunk], Answers]
"""Evaluates a chunk in this process."""
Evaluate = Callable[[Iterator[Chunk], Here], Iterator[Answers]]
"""Yields the answers to chunks in their order; it may take further chunks before the first is answered."""


@dataclass(frozen=True)
class Question:
    """A picture, or the bytes of an uploaded file, and what is expected of the model's output for it."""

    picture: np.ndarray | bytes
    expectations: Sequence[Expectation]

    def faults(self, answer: Any) -> list[Inconsistency]:
        """Return where an output is not as expected."""
        return [one for expect in self.expectations for one in expect(answer)]


def one_by_one(chunks: Iterator[Chunk], here: Here) -> Iterator[Answers]:
    """Yield the answers of this process, each chunk after the one before."""
    return map(here, chunks)


def faults_of(
    questions: Iterator[Question], here: Here, evaluate: Evaluate
) -> Iterator[Inconsistency]:
    """Yield where the model's outputs are not as expected, in the order of the questions.

    What other hardware objects to is evaluated again here: its last bits may differ.
    """
    asked: deque[Sequence[Question]] = deque()

    def chunks() -> Iterator[Chunk]:
        for some in _chunked(questions):
            asked.append(some)
            yield [question.picture for question in some]

    for answers in evaluate(chunks(), here):
        some = asked.popleft()
        faults = [q.faults(row) for q, row in zip(some, answers.rows, strict=True)]
        doubtful = [] if answers.like else [n for n, found in enumerate(faults) if found]
        if doubtful:
            again = here([some[n].picture for n in doubtful])
            for n, row in zip(doubtful, again.rows, strict=True):
                faults[n] = some[n].faults(row)
        for found in faults:
            yield from found


def _chunked(questions: Iterator[Question]) -> Iterator[Sequence[Question]]:
    some: list[Question] = []
    size = 0
    for question in questions:
        some.append(question)
        size += size_of(question.picture)
        if len(some) == CHUNK or size > CHUNK_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def size_of(picture: np.ndarray | bytes) -> int:
    """Return the bytes of a picture or file."""
    return len(picture) if isinstance(picture, bytes) else picture.nbytes


def answers(classifier: Predicting, chunk: Chunk, *, random: bool) -> Sequence[Any]:
    """Return a model's outputs for a chunk.

    Parameters
    ----------
    classifier : the model, behind the input pipeline of the run.
    chunk : the pictures and files.
    random : whether the model has random outputs, so that each picture gets a `votes.Vote`.
    """

    def predict(some: Any) -> np.ndarray:
        return _predicted(classifier, some)

    if random:
        return votes.ask(predict, chunk, len(classifier.class_names))
    return list(predict(chunk))


def _predicted(classifier: Predicting, some: Chunk) -> np.ndarray:
    files = {n: one for n, one in enumerate(some) if isinstance(one, bytes)}
    pictures = {n: one for n, one in enumerate(some) if not isinstance(one, bytes)}
    if not files:
        alike = len({picture.shape for picture in pictures.values()}) == 1
        shown = list(pictures.values())
        return classifier.probabilities(np.stack(shown) if alike else shown)
    rows = classifier.probabilities_of_files(list(files.values()))
    known = dict(zip(files, rows, strict=True))
    if pictures:
        others = classifier.probabilities(list(pictures.values()))
        known |= zip(pictures, others, strict=True)
    return np.stack([known[n] for n in range(len(some))])


def as_deployed(
    entry: DeploymentEntry | None, classifier: Predicting, function: UserFunction | None
) -> Predicting:
    """Return the classifier behind the input pipeline of a run that attacked pictures of their own size.

    Parameters
    ----------
    entry : the pipeline, as the run records it.
    classifier : the model; returned as it is where no pipeline was attacked, or it has one.
    function : the user's own preprocessing.

    Raises
    ------
    RunUsageError
        The run was made with a preprocessing of the user, and `function` is None.
    """
    if entry is None or not entry.at_full_size or not isinstance(classifier, Classifier):
        return classifier
    if classifier.deployment is not None:
        return classifier
    preprocessing: Preprocessing | None = function and function.before(classifier)
    if entry.function is None and entry.pipeline is not None:
        preprocessing = parse_pipeline(entry.pipeline).convention
    if function is not None and entry.function is not None:
        classifier = taking_inputs(classifier)
    if preprocessing is None:
        raise RunUsageError(
            f"The run was made with the preprocessing {entry.function.name if entry.function else None}, "
            "which is code; expected it in this command: --preprocess module:function, the same as then."
        )
    upload = parse_upload(entry.upload)
    return classifier.deployed(Deployment(preprocessing, classifier.input_shape, upload=upload))
