"""Verifies a run without trusting it: recomputes every flip from its PNG, with the model only.

Files are checked against the hashes in their names and against the rows; distances, budgets, classes and
confidences are computed again, with code that neither the attacks nor the judge use; rows are checked against
each other and against `run.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from robustness.engine.votes import MOST
from robustness.errors import ModelError
from robustness.pipeline.upload import parse_upload
from robustness.pipeline.user_function import UserFunction, load_function
from robustness.runs.model_differences import differences
from robustness.runs.records import ImageRow
from robustness.runs.schema import ModelEntry
from robustness.runs.store import Run
from robustness.text import percent, plural
from robustness.verification import pictures as evidence
from robustness.verification import random_models, uploads, views
from robustness.verification.evaluation import (
    Answers,
    Chunk,
    Evaluate,
    Expectation,
    Predicting,
    Question,
    Share,
    answers,
    as_deployed,
    faults_of,
    one_by_one,
)
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

CONFIDENCE = 1e-3
"""The tolerance of confidences, since another device rounds differently."""


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
    shares: tuple[Share, ...] = ()
    """Which processes evaluated the pictures; empty if only the one that verified."""

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

    @property
    def evaluated(self) -> str:
        """Which workers evaluated the pictures, sentences; "" without workers."""
        workers = [share for share in self.shares if not share.driver]
        if not self.shares:
            return ""
        count = sum(share.pictures for share in workers)
        said = f"{plural(len(workers), 'worker')} evaluated {plural(count, 'picture')}"
        if own := sum(share.pictures for share in self.shares if share.driver):
            said += f", this process {own:,}"
        if lost := sum(share.lost for share in workers):
            said += f"; {plural(lost, 'worker')} ended early"
        if unlike := sum(not share.like for share in workers):
            said += (
                f". {plural(unlike, 'worker')} had other hardware: what they objected to was evaluated "
                "again here"
            )
        return f"{said}."

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return asdict(self) | {"exit_code": self.exit_code, "sentence": self.sentence}


def verify(
    run: Run,
    classifier: Predicting,
    *,
    preprocess: str | UserFunction | None = None,
    spread: Callable[[Predicting], Evaluate] | None = None,
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
    spread : callable, optional
        Returns what evaluates pictures with the model that it gets; by default this process does.

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
    classifier = as_deployed(claims.manifest.config.deployment, classifier, function)
    faults = [*_of_the_model(claims, classifier), *_of_the_function(claims, function)]
    faults += check_rows(claims)
    evaluate = one_by_one if spread is None else spread(classifier)

    def here(chunk: Chunk) -> Answers:
        return Answers(answers(classifier, chunk, random=claims.random))

    # The files are checked while the questions are made, so their faults come first.
    answered = list(faults_of(_questions(run, claims, classifier, faults), here, evaluate))
    faults += answered
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


def _questions(
    run: Run, claims: RunContents, classifier: Predicting, faults: list[Inconsistency]
) -> Iterator[Question]:
    """Yield the pictures for the model, image by image; add the faults of their files to `faults`."""
    upload, deployment = parse_upload(claims.upload), getattr(classifier, "deployment", None)
    pictures = Pictures(run, claims.picture_shape)
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
                yield Question(data, [expected])
        for row in claims.strips.get(image.key, ()):
            faults += evidence.step(claims, image, row, pictures)
            asked.setdefault(row["png"], []).append(expect_step(claims, image, row))
        for seen in claims.views.get(image.key, ()):
            faults += views.viewed(run, claims, image, seen, pictures, deployment)
        for name, expectations in asked.items():
            pixels = pictures.pixels(name)
            if pixels is not None:
                yield Question(pixels, expectations)
        pictures.forget()


def _of_the_function(claims: RunContents, function: UserFunction | None) -> Iterator[Inconsistency]:
    """Yield an inconsistency if the preprocessing is not the one of the run."""
    entry = claims.manifest.config.deployment
    if entry is None or entry.function is None or function is None:
        return
    if said := function.source_differs(entry.function):
        yield Inconsistency(MODEL, f"{said} Everything below is recomputed with it.")


def _order(one: Inconsistency) -> tuple[Any, ...]:
    places = (MODEL, RUN, ROW, FILE, BUDGET, DISTANCE, CLASS, CONFIDENT)
    of_the_whole = one.what in (MODEL, RUN)
    return (not of_the_whole, one.name, one.attack, one.epsilon or 0, places.index(one.what))


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
            f"The model predicts {claims.class_name(predicted)} ({percent(float(answer[predicted]))}, "
            "the next class "
            f"{percent(float(two[0]))}) for the {what}; the row says {claims.class_name(said)}.",
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
    before = before.with_outputs(random=claims.random)
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
