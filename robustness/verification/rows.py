"""Reads the content of a run, and checks its rows against each other and `run.json`. Reads no picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from robustness.errors import RunError
from robustness.runs.records import (
    FAILED,
    FLIPPED,
    MISCLASSIFIED,
    ROBUST,
    SETTLED,
    STATUSES,
    UNREADABLE,
    ImageRow,
    data_digest,
    keeps_pictures,
    png_name,
    status_before_attack,
)
from robustness.runs.schema import Manifest
from robustness.runs.store import Run
from robustness.threat import norms

FILE, DISTANCE, BUDGET, CLASS, CONFIDENT = "file", "distance", "budget", "class", "confidence"
ROW, RUN, MODEL = "row", "run", "model"


@dataclass(frozen=True)
class Inconsistency:
    """Something in a run that contradicts its rows, its files or the model.

    Parameters
    ----------
    what : str
        The kind: "file", "distance", "budget", "class", "confidence", "row", "run" or "model".
    sentence : str
        The fault in a sentence.
    image, name : str
        The key and the name of the image; "" if it is about the whole run.
    attack : str
        The label of the attack; "" if it is about an original.
    epsilon : float, optional
        The budget of the outcome.
    file : str
        The path of the picture within the run folder, if it is about one.
    """

    what: str
    sentence: str
    image: str = ""
    name: str = ""
    attack: str = ""
    epsilon: float | None = None
    file: str = ""


def fault(
    what: str,
    sentence: str,
    image: ImageRow,
    row: Mapping[str, Any] | None = None,
    file: str = "",
) -> Inconsistency:
    """Return an inconsistency of an image, or of one of its outcomes if `row` is given."""
    return Inconsistency(
        what=what,
        sentence=sentence,
        image=image.key,
        name=image.name,
        attack=str(row["attack"]) if row else "",
        epsilon=float(row["epsilon"]) if row else None,
        file=file,
    )


@dataclass(frozen=True)
class RunContents:
    """The content of a run: its manifest and rows, with flips and steps grouped by the key of their image."""

    manifest: Manifest
    images: dict[str, ImageRow]
    outcomes: list[dict[str, Any]]
    flips: dict[str, list[dict[str, Any]]]
    strips: dict[str, list[dict[str, Any]]]
    shape: tuple[int, ...]
    norm: str
    names: tuple[str, ...]
    target: int | None
    mask: str | None = None
    """The path of the mask's picture, which is not black where pixels may change."""
    random: bool = False
    """Whether the model has random outputs, so that every verdict is a vote."""
    uploads: Mapping[tuple[str, str, float], Mapping[str, Any]] = field(default_factory=dict)
    """The rows of uploaded files of a lossy format, by image, attack and epsilon."""
    views: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """The rows of what the model sees, by the key of their image."""

    @classmethod
    def of(cls, run: Run) -> RunContents:
        """Read a run. RunError if it is damaged, or its manifest lacks a key that verification needs."""
        manifest = run.manifest
        config, shape = manifest.config, manifest.model.input_shape
        needed = {
            "model.input_shape": shape is not None,
            "config.norm": config.norm is not None,
            "config.goal": config.goal is not None,
            "config.attacks": all(attack.label is not None for attack in config.attacks),
            "config.epsilons": "epsilons" in config.model_fields_set,
            "class_names": "class_names" in manifest.model_fields_set,
            "data": "data" in manifest.model_fields_set,
        }
        lacking = [key for key, there in needed.items() if not there]
        if lacking or shape is None or config.norm is None or config.goal is None:
            raise RunError(
                f"{run.path / 'run.json'} is damaged: {', '.join(lacking)} is missing or not usable; "
                "expected the content that the audit wrote. Restore it from a copy, or audit again."
            )
        if config.norm not in norms.names():
            raise RunError(
                f"{run.path / 'run.json'}: the norm {config.norm[:40]!r} is not known; expected one of "
                f"{', '.join(norms.names())}. Install the package that has it, or restore the file."
            )
        mask = None if config.mask is None else config.mask.sha256
        outcomes = _records(run.outcomes())
        flipped = [row for row in outcomes if row["status"] == FLIPPED]
        return cls(
            manifest=manifest,
            images={row.key: row for row in run.image_rows()},
            outcomes=outcomes,
            flips=_grouped(flipped),
            strips=_grouped(_records(run.strips())),
            shape=shape,
            norm=config.norm,
            names=manifest.class_names,
            target=config.goal.target,
            mask=None if mask is None else png_name(mask),
            random=config.draws != 1,
            uploads={
                (row["image"], row["attack"], row["epsilon"]): row
                for row in _records(run.uploads())
            },
            views=_grouped(_records(run.views())),
        )

    @property
    def picture_shape(self) -> tuple[int | None, int | None, int]:
        """The shape of the pictures; height and width are None where each has its own size."""
        deployment = self.manifest.config.deployment
        if deployment is not None and deployment.at_full_size:
            return (None, None, self.shape[-1])
        return (self.shape[0], self.shape[1], self.shape[2])

    @property
    def upload(self) -> str:
        """The format of uploaded files, as text."""
        deployment = self.manifest.config.deployment
        return "png" if deployment is None else deployment.upload

    def upload_of(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the row of the uploaded file of a flip; None if it has none."""
        return self.uploads.get((row["image"], row["attack"], row["epsilon"]))

    def pictured(self, key: str) -> list[dict[str, Any]]:
        """Return the flips of an image that have a picture."""
        return [row for row in self.flips.get(key, ()) if row["png"] is not None]

    def class_name(self, number: float | None) -> str:
        """Return the name of a class; "class N" if it has none, "no class" for None."""
        if number is None or not 0 <= number < len(self.names):
            return "no class" if number is None else f"class {int(number)}"
        return self.names[int(number)]


def check_rows(claims: RunContents) -> Iterator[Inconsistency]:
    """Check the rows against each other and against the manifest.

    Parameters
    ----------
    claims : RunContents
        The content of the run.

    Yields
    ------
    Inconsistency
        Missing, unexpected or contradicting rows, and a run that is not finished.
    """
    config, data = claims.manifest.config, claims.manifest.data
    finished = bool(claims.manifest.finished)
    if not finished:
        yield Inconsistency(
            RUN, "The run is not finished; resume it with `robustness audit --resume`."
        )
    if finished and len(claims.images) != data.selected:
        yield Inconsistency(
            RUN, f"The run has {len(claims.images)} images; {data.selected} were selected."
        )
    if (
        finished
        and data_digest((row.key, row.digest) for row in claims.images.values()) != data.sha256
    ):
        yield Inconsistency(
            RUN, "The images' keys and hashes do not have the hash in run.json: rows of the table of "
            "images were changed."
        )  # fmt: skip
    labels = [attack.title for attack in config.attacks]
    ladder = config.epsilons
    there = {(r["image"], r["attack"], r["epsilon"]) for r in claims.outcomes}
    wanted = {(k, a, e) for k in claims.images for a in labels for e in ladder}
    if finished:
        for key, attack, epsilon in sorted(wanted - there):
            said = "The outcome is missing."
            yield fault(ROW, said, claims.images[key], {"attack": attack, "epsilon": epsilon})
    for row in claims.outcomes:
        if (row["image"], row["attack"], row["epsilon"]) not in wanted:
            yield Inconsistency(
                ROW,
                f"The outcome of {row['image']} ({row['attack']}, epsilon {row['epsilon']:g}) does not "
                "belong to the run: no such image, attack or epsilon was requested.",
            )
        else:
            yield from _of_the_row(claims, claims.images[row["image"]], row)
    yield from _of_the_ladder(claims)
    yield from _of_the_cascade(claims)


def _of_the_row(
    claims: RunContents, image: ImageRow, row: Mapping[str, Any]
) -> Iterator[Inconsistency]:
    """Check one outcome against its image."""
    status, evidence = row["status"], claims.manifest.config.evidence
    if status not in STATUSES:
        yield fault(
            ROW, f"The status is {status!r}; expected one of {', '.join(STATUSES)}.", image, row
        )
        return
    before = status_before_attack(image)
    if before is not None and status != before:
        yield fault(ROW, f"The image is {before}; the row says {status}.", image, row)
    if before is None and status in (MISCLASSIFIED, UNREADABLE):
        said = f"The row says {status}; the image was read and is correctly classified."
        yield fault(ROW, said, image, row)
    if status == FLIPPED and row["png"] is None and keeps_pictures(evidence, image.position):
        said = "The row says flipped, but names no picture, though the run stores those of flips."
        yield fault(ROW, said, image, row)
    if status == FLIPPED and image.png is None and row["png"] is not None:
        yield fault(ROW, "The flip has a picture, but the original has none.", image, row)
    if status != FLIPPED and (row["png"] is not None or row["adversarial_class"] is not None):
        said = f"The row says {status}, but has the picture or the class of a flip."
        yield fault(ROW, said, image, row)
    if status == FAILED and not row["reason"]:
        yield fault(ROW, "The row says failed, but has no reason.", image, row)
    sure = row["confidence_before"]
    if sure != image.confidence:
        said = (
            f"The confidence before is {said_of(image.confidence)}; the row says {said_of(sure)}."
        )
        yield fault(ROW, said, image, row)


def _of_the_ladder(claims: RunContents) -> Iterator[Inconsistency]:
    """Check that an image that flips within a budget flips within every larger one."""
    lowest: dict[tuple[str, str], float] = {}
    for row in claims.outcomes:
        if row["status"] == FLIPPED:
            at = (row["image"], row["attack"])
            lowest[at] = min(lowest.get(at, math.inf), row["epsilon"])
    for row in claims.outcomes:
        first = lowest.get((row["image"], row["attack"]), math.inf)
        if row["status"] in (ROBUST, FAILED) and row["epsilon"] > first:
            said = (
                f"The row says {row['status']}, but the image flips at epsilon {first:g} already."
            )
            image = claims.images.get(row["image"])
            if image is not None:
                yield fault(ROW, said, image, row)


def _of_the_cascade(claims: RunContents) -> Iterator[Inconsistency]:
    """Check that each settled image is flipped by another attack within the same budget."""
    lowest: dict[str, float] = {}
    for row in claims.outcomes:
        if row["status"] == FLIPPED:
            lowest[row["image"]] = min(lowest.get(row["image"], math.inf), row["epsilon"])
    for row in claims.outcomes:
        image = claims.images.get(row["image"])
        unbacked = row["epsilon"] < lowest.get(row["image"], math.inf)
        if image is not None and row["status"] == SETTLED and unbacked:
            said = "The row says settled, but no attack flips the image within this epsilon."
            yield fault(ROW, said, image, row)


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows as dicts, with None for missing values."""
    return [
        {key: None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _grouped(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["image"], []).append(row)
    return groups


def said_of(value: Any) -> str:
    """Return a stored number as text for messages; "nothing" for None."""
    return "nothing" if value is None else f"{value:.10g}"
