"""Verifies a run without trusting it: recomputes every flip from its PNG, with the model only.

Files are checked against the hashes in their names and against the rows; distances, budgets, classes and
confidences are computed again, with code that neither the attacks nor the judge use; rows are checked against
each other and against `run.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from robustness.engine import votes
from robustness.engine.votes import MOST
from robustness.errors import ModelError, RunUsageError
from robustness.models.classifier import Classifier
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.preprocessing import Preprocessing
from robustness.pipeline.upload import parse_upload
from robustness.pipeline.user_function import UserFunction, load_function, taking_inputs
from robustness.runs.model_differences import differences
from robustness.runs.records import ImageRow
from robustness.runs.schema import ModelEntry
from robustness.runs.store import Run
from robustness.verification import pictures as evidence
from robustness.verification import random_models, uploads, views
from robustness.verification.pictures import Pictures
from robustness.verification.rows import (
    BUDGET,
    CLASS,
    CONFIDENT,
    DISTANCE,
    FILE,
    MODEL,
    ROW,
    RUN,
    Inconsistency,
    RunContents,
    check_rows,
    fault,
    said_of,
)

CHUNK = 24
"""Pictures that the model evaluates at once."""
CONFIDENCE = 1e-3
"""The tolerance of confidences, since another device rounds differently."""


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
class Verification:
    """The result of a verification.

    Parameters
    ----------
    outcomes : int
        The outcomes of the run.
    flips, checked, held : int
        Of the flips of the run, all, those with a picture, and those without a fault.
    originals, steps : int
        The other pictures that were checked.
    strangers : int
        Files among the pictures that no row names; a run that was killed leaves some.
    faults : tuple of Inconsistency
        Everything that contradicts the run.
    """

    outcomes: int
    flips: int
    checked: int
    held: int
    originals: int
    steps: int
    strangers: int
    faults: tuple[Inconsistency, ...] = ()
    draws: int = 1
    """Evaluations of each picture; more than one if the model has random outputs."""

    @property
    def exit_code(self) -> int:
        """0 without faults, 1 with faults, 4 if no flip has a picture, 5 if there is no outcome."""
        if self.faults:
            return 1
        if not self.outcomes:
            return 5
        return 4 if self.flips and not self.checked else 0

    @property
    def sentence(self) -> str:
        """The result in words."""
        if not self.outcomes:
            return "The run has no outcome, so there is nothing to verify."
        if not self.flips:
            said = "The run has no flips."
        elif not self.checked:
            said = f"None of the {self.flips:,} flips has a picture, so none can be verified."
        else:
            said = f"{self.held:,} of {self.checked:,} flips hold, recomputed from their pictures."
            if self.draws > 1:
                said += f" The model has random outputs, so each was evaluated {self.draws} times."
            if left := self.flips - self.checked:
                said += f" {left:,} more have no picture."
        if not self.faults:
            return f"{said} Everything else in the run is consistent."
        count = len(self.faults)
        return f"{said} {count:,} {'inconsistency was' if count == 1 else 'inconsistencies were'} found."

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return asdict(self) | {"exit_code": self.exit_code, "sentence": self.sentence}


def verify(
    run: Run, classifier: Predicting, *, preprocess: str | UserFunction | None = None
) -> Verification:
    """Check everything that a run claims against its files and the model.

    Parameters
    ----------
    run : Run
        The run, open for reading.
    classifier : Predicting
        The model that was audited.
    preprocess : str or UserFunction, optional
        The user's own preprocessing with which the run was made, as ``module:function``; it is imported and
        run.

    Returns
    -------
    Verification
        The counts, and the faults in the order in which they are shown.

    Raises
    ------
    ModelError
        The model takes images of another shape, so that nothing can be recomputed.
    RunError
        The manifest or the database is damaged.
    """
    claims = RunContents.of(run)
    if claims.shape != tuple(classifier.input_shape):
        raise ModelError(
            f"The model takes images of shape {tuple(classifier.input_shape)}, those of the run have shape "
            f"{claims.shape}; expected the model that was audited. Name it with --model."
        )
    function = load_function(preprocess) if isinstance(preprocess, str) else preprocess
    classifier = _as_deployed(claims, classifier, function)
    upload, deployment = parse_upload(claims.upload), getattr(classifier, "deployment", None)
    faults = [*_of_the_model(claims, classifier), *_of_the_function(claims, function)]
    faults += check_rows(claims)
    eyes, pictures = _Eyes(classifier, claims.random), Pictures(run, claims.picture_shape)
    for image in claims.images.values():
        asked: dict[str, list[Expectation]] = {}
        faults += evidence.original(image, pictures)
        if image.png is not None:
            asked[image.png] = [expect_clean(claims, image)]
        for row in claims.pictured(image.key):
            faults += evidence.flip(claims, image, row, pictures)
            expected = expect_flip(claims, image, row)
            if upload.lossless:
                asked.setdefault(row["png"], []).append(expected)
                continue
            data = uploads.file_of(run, claims, row)
            faults += uploads.uploaded(claims, image, row, pictures, upload, data)
            picture = pictures.pixels(row["png"])
            if data is not None and uploads.judgeable(upload, data, picture):
                eyes.ask(data, [expected])
        for row in claims.strips.get(image.key, ()):
            faults += evidence.step(claims, image, row, pictures)
            asked.setdefault(row["png"], []).append(expect_step(claims, image, row))
        for seen in claims.views.get(image.key, ()):
            faults += views.viewed(run, claims, image, seen, pictures, deployment)
        for name, expectations in asked.items():
            pixels = pictures.pixels(name)
            if pixels is not None:
                eyes.ask(pixels, expectations)
        pictures.forget()
    faults += eyes.close()
    bad = {(f.image, f.attack, f.epsilon) for f in faults}
    lost = {f.image for f in faults if not f.attack}
    flips = [row for key in claims.images for row in claims.pictured(key)]
    held = [
        row
        for row in flips
        if (row["image"], row["attack"], row["epsilon"]) not in bad and row["image"] not in lost
    ]
    return Verification(
        outcomes=len(claims.outcomes),
        flips=sum(map(len, claims.flips.values())),
        checked=len(flips),
        held=len(held),
        originals=sum(image.png is not None for image in claims.images.values()),
        steps=sum(map(len, claims.strips.values())),
        strangers=_strangers(run, claims),
        faults=tuple(sorted(faults, key=_order)),
        draws=MOST if claims.random else 1,
    )


def _of_the_function(claims: RunContents, function: UserFunction | None) -> Iterator[Inconsistency]:
    """Yield an inconsistency if the preprocessing is not the one of the run."""
    entry = claims.manifest.config.deployment
    if entry is None or entry.function is None or function is None:
        return
    if said := function.source_differs(entry.function):
        yield Inconsistency(MODEL, f"{said} Everything below is recomputed with it.")


def _as_deployed(
    claims: RunContents, classifier: Predicting, function: UserFunction | None
) -> Predicting:
    """The classifier behind the input pipeline of the run, where pictures were attacked at their own size."""
    entry = claims.manifest.config.deployment
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
    return classifier.deployed(
        Deployment(
            preprocessing,
            classifier.input_shape,
            upload=parse_upload(entry.upload),
        )
    )


def _order(one: Inconsistency) -> tuple[Any, ...]:
    places = (MODEL, RUN, ROW, FILE, BUDGET, DISTANCE, CLASS, CONFIDENT)
    of_the_whole = one.what in (MODEL, RUN)
    return (not of_the_whole, one.name, one.attack, one.epsilon or 0, places.index(one.what))


Expectation = Callable[[Any], Iterable[Inconsistency]]
"""Checks the probabilities (classes,) of a picture, or its `votes.Vote` if the model has random outputs."""


@dataclass
class _Eyes:
    """Evaluates pictures in batches, and passes each output to the expectations of its picture."""

    classifier: Predicting
    random: bool = False
    _waiting: list[tuple[np.ndarray | bytes, list[Expectation]]] = field(default_factory=list)
    _faults: list[Inconsistency] = field(default_factory=list)

    def ask(self, picture: np.ndarray | bytes, expectations: list[Expectation]) -> None:
        """Evaluate a picture, or the bytes of an uploaded file."""
        self._waiting.append((picture, expectations))
        if len(self._waiting) == CHUNK:
            self._answer()

    def _answer(self) -> None:
        rows = self._asked([picture for picture, _ in self._waiting])
        for (_, expectations), row in zip(self._waiting, rows, strict=True):
            for expect in expectations:
                self._faults += expect(row)
        self._waiting = []

    def _asked(self, some: Sequence[np.ndarray | bytes]) -> Sequence[Any]:
        """The answers to pictures and files, in order."""
        if self.random:
            return votes.ask(self._predict, some, len(self.classifier.class_names))
        return list(self._predict(some))

    def _predict(self, some: Any) -> np.ndarray:
        places = [n for n, one in enumerate(some) if isinstance(one, bytes)]
        if not places:
            alike = len({picture.shape for picture in some}) == 1
            return self.classifier.probabilities(np.stack(some) if alike else some)
        answers: dict[int, np.ndarray] = dict(
            zip(
                places,
                self.classifier.probabilities_of_files([some[n] for n in places]),
                strict=True,
            )
        )
        others = [n for n in range(len(some)) if n not in answers]
        if others:
            rows = self.classifier.probabilities([some[n] for n in others])
            answers |= dict(zip(others, rows, strict=True))
        return np.stack([answers[n] for n in range(len(some))])

    def close(self) -> list[Inconsistency]:
        """Evaluate the remaining pictures, and return all faults."""
        if self._waiting:
            self._answer()
        return self._faults


def expect_clean(claims: RunContents, image: ImageRow) -> Expectation:
    """Return the check that the model gives an original the class and the confidence of its row."""
    if claims.random:
        return partial(random_models.clean, claims, image)

    def check(answer: np.ndarray) -> Iterator[Inconsistency]:
        yield from _same(
            claims, answer, image.clean_class, image.confidence, image, None, image.png, "original"
        )

    return check


def expect_flip(claims: RunContents, image: ImageRow, row: Mapping[str, Any]) -> Expectation:
    """Return the check that a flip has the class and confidence of its row, and reaches the goal."""
    if claims.random:
        return partial(random_models.flip, claims, image, row)

    def check(answer: np.ndarray) -> Iterator[Inconsistency]:
        said, sure = row["adversarial_class"], row["confidence_after"]
        yield from _same(claims, answer, said, sure, image, row, row["png"], "flip")
        predicted = int(answer.argmax())
        if predicted == image.clean_class or not np.isfinite(answer).all():
            yield fault(
                CLASS,
                f"The picture does not flip: the model still predicts {claims.class_name(predicted)}.",
                image,
                row,
                file=row["png"],
            )
        elif claims.target is not None and predicted != claims.target:
            yield fault(
                CLASS,
                f"The model predicts {claims.class_name(predicted)}; the goal was "
                f"{claims.class_name(claims.target)}.",
                image,
                row,
                file=row["png"],
            )

    return check


def expect_step(claims: RunContents, image: ImageRow, row: Mapping[str, Any]) -> Expectation:
    """Return the check that a step has the probabilities of its row; none for random outputs."""
    if claims.random:
        return lambda vote: ()

    def check(answer: np.ndarray) -> Iterator[Inconsistency]:
        said = _probabilities(row["probabilities"])
        if len(said) != len(answer) or not np.allclose(said, answer, rtol=0, atol=CONFIDENCE):
            yield fault(
                CONFIDENT,
                f"The probabilities of step {row['step']} are {_shown(answer)}; the row says "
                f"{_shown(said)}.",
                image,
                row,
                file=row["png"],
            )

    return check


def _same(  # noqa: PLR0917 - the columns of one row
    claims: RunContents,
    answer: np.ndarray,
    said: float | None,
    sure: float | None,
    image: ImageRow,
    row: Mapping[str, Any] | None,
    file: str | None,
    what: str,
) -> Iterator[Inconsistency]:
    predicted = int(answer.argmax())
    if said is None or predicted != int(said):
        two = np.sort(answer)[-2:]
        yield fault(
            CLASS,
            f"The model predicts {claims.class_name(predicted)} ({answer[predicted]:.1%}, the next class "
            f"{two[0]:.1%}) for the {what}; the row says {claims.class_name(said)}.",
            image,
            row,
            file=file or "",
        )
    elif sure is None or not abs(float(answer[predicted]) - sure) <= CONFIDENCE:
        yield fault(
            CONFIDENT,
            f"The confidence in the {what} is {answer[predicted]:.4f}; the row says "
            f"{said_of(sure)}.",
            image,
            row,
            file=file or "",
        )


def _of_the_model(claims: RunContents, classifier: Predicting) -> Iterator[Inconsistency]:
    said = str(claims.manifest.model.weights_sha256)
    if classifier.digest != said:
        yield Inconsistency(
            MODEL,
            f"The model's weights have the hash {classifier.digest[:16]}…, those of the run "
            f"{said[:16]}…: everything below is recomputed with another model.",
        )
    # Weights and classes are compared in this function.
    before = claims.manifest.model.without("weights_sha256", "class_names")
    if other := differences(before, ModelEntry.model_validate(classifier.card())):
        yield Inconsistency(
            MODEL,
            f"The model is not the one of the run: {'; '.join(other)}. Everything below is recomputed "
            "with another model.",
        )
    if tuple(classifier.class_names) != claims.names:
        yield Inconsistency(
            MODEL,
            f"The model's classes are {', '.join(classifier.class_names)}; those of the run are "
            f"{', '.join(claims.names)}.",
        )


def _strangers(run: Run, claims: RunContents) -> int:
    named = {row.png for row in claims.images.values()}
    named.add(claims.mask)
    named |= {row["png"] for rows in claims.flips.values() for row in rows}
    named |= {row["png"] for rows in claims.strips.values() for row in rows}
    named |= {str(row["file"]) for row in claims.uploads.values()}
    named |= {
        str(row[one]) for rows in claims.views.values() for row in rows for one in views.SIDES
    }
    files = (
        path.relative_to(run.path).as_posix()
        for path in (run.path / "images").rglob("*")
        if path.suffix in (".png", ".jpg", ".webp")
    )
    return sum(1 for file in files if file not in named)


def _probabilities(text: Any) -> list[float]:
    try:
        return [float(value) for value in json.loads(text)]
    except (TypeError, ValueError):
        return []


def _shown(values: Iterable[float]) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in list(values)[:8]) + "]"
