"""What a run claims, and whether its rows agree with each other and with `run.json`. No picture is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    png_name,
)
from robustness.runs.store import Run
from robustness.threat import norms

FILE, DISTANCE, BUDGET, CLASS, CONFIDENT = "file", "distance", "budget", "class", "confidence"
ROW, RUN, MODEL = "row", "run", "model"


@dataclass(frozen=True)
class Inconsistency:
    """One thing that is not as the run says: `what` kind, where, and how, in a sentence."""

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
    """What a run says: its manifest and rows, and what follows from them for each picture."""

    manifest: dict[str, Any]
    images: dict[str, ImageRow]
    outcomes: list[dict[str, Any]]
    flips: dict[str, list[dict[str, Any]]]
    strips: dict[str, list[dict[str, Any]]]
    shape: tuple[int, ...]
    norm: str
    names: tuple[str, ...]
    target: int | None
    mask: str | None = None
    """The file of the picture that is bright where pixels may change."""
    random: bool = False
    """Whether the model answers at random, so that every verdict is a vote."""

    @classmethod
    def of(cls, run: Run) -> RunContents:
        """Read a run. RunError if its manifest lacks what is needed."""
        manifest = run.manifest
        try:
            shape = tuple(int(n) for n in manifest["model"]["input_shape"])
            norm, goal = str(manifest["config"]["norm"]), str(manifest["config"]["goal"])
            names = tuple(manifest["class_names"])
            _ = [one["label"] for one in manifest["config"]["attacks"]]
            _ = [*manifest["config"]["epsilons"]], {**manifest["data"]}
            if norm not in norms.names():
                raise ValueError(f"the norm {norm[:40]!r} is none of {', '.join(norms.names())}")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{run.path / 'run.json'} is damaged ({error!r}); expected what the audit wrote."
            ) from None
        target = goal.removeprefix("targeted at ")
        mask = (manifest["config"].get("mask") or {}).get("sha256")
        outcomes = _records(run.outcomes())
        flipped = [row for row in outcomes if row["status"] == FLIPPED]
        return cls(
            manifest=manifest,
            images={row.key: row for row in run.image_rows()},
            outcomes=outcomes,
            flips=_grouped(flipped),
            strips=_grouped(_records(run.strips())),
            shape=shape,
            norm=norm,
            names=names,
            target=names.index(target) if target != goal and target in names else None,
            mask=None if mask is None else png_name(str(mask)),
            random=(manifest["config"].get("draws") or 1) != 1,
        )

    def pictured(self, key: str) -> list[dict[str, Any]]:
        """The flips of an image that kept their picture."""
        return [row for row in self.flips.get(key, ()) if row["png"] is not None]

    def class_name(self, number: float | None) -> str:
        """The name of a class, or what stands for one that has none."""
        if number is None or not 0 <= number < len(self.names):
            return "no class" if number is None else f"class {int(number)}"
        return self.names[int(number)]


def check_rows(claims: RunContents) -> Iterator[Inconsistency]:
    """Rows against each other and against the manifest."""
    config, data = claims.manifest["config"], claims.manifest["data"]
    finished = bool(claims.manifest.get("finished"))
    if not finished:
        yield Inconsistency(RUN, "The run is not finished; go on with `robustness audit --resume`.")
    if finished and len(claims.images) != data.get("selected"):
        yield Inconsistency(
            RUN, f"{len(claims.images)} images are there, {data.get('selected')} were selected."
        )
    if finished and _data_digest(claims.images.values()) != data.get("sha256"):
        yield Inconsistency(
            RUN, "The images' keys and hashes are not those that run.json has a hash of: rows of "
            "the table of images were changed."
        )  # fmt: skip
    labels = [str(a["label"]) for a in config["attacks"]]
    ladder = [float(e) for e in config["epsilons"]]
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
                f"An outcome of {row['image']} ({row['attack']}, epsilon {row['epsilon']:g}) was "
                "never asked for.",
            )
        else:
            yield from _of_the_row(claims, claims.images[row["image"]], row)
    yield from _of_the_ladder(claims)
    yield from _of_the_cascade(claims)


def _of_the_row(
    claims: RunContents, image: ImageRow, row: Mapping[str, Any]
) -> Iterator[Inconsistency]:
    """One outcome against its image."""
    status = row["status"]
    if status not in STATUSES:
        yield fault(ROW, f"The status is {status!r}, which there is not.", image, row)
        return
    before = _status_before(image)
    if before is not None and status != before:
        yield fault(ROW, f"The image is {before}; the row says {status}.", image, row)
    if before is None and status in (MISCLASSIFIED, UNREADABLE):
        said = f"The row says {status}; the image was read and is classified as labelled."
        yield fault(ROW, said, image, row)
    if status == FLIPPED and row["png"] is None and _kept(claims, image):
        said = "The row says flipped, but names no picture, and the run keeps those of flips."
        yield fault(ROW, said, image, row)
    if status == FLIPPED and image.png is None and row["png"] is not None:
        yield fault(ROW, "The flip has a picture, but the original has none.", image, row)
    if status != FLIPPED and (row["png"] is not None or row["adversarial_class"] is not None):
        said = f"The row says {status}, but holds the picture or the class of a flip."
        yield fault(ROW, said, image, row)
    if status == FAILED and not row["reason"]:
        yield fault(ROW, "The row says failed, but not why.", image, row)
    sure = row["confidence_before"]
    if sure != image.confidence:
        said = (
            f"The confidence before is {said_of(image.confidence)}; the row says {said_of(sure)}."
        )
        yield fault(ROW, said, image, row)


def _status_before(image: ImageRow) -> str | None:
    """The status of an image that no attack is tried on; None for one that is attacked."""
    if image.clean_class is None:
        return UNREADABLE
    if image.label not in (None, image.clean_class):
        return MISCLASSIFIED
    return FAILED if image.reason else None


def _of_the_ladder(claims: RunContents) -> Iterator[Inconsistency]:
    """A flip within a budget is within every larger one."""
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
    """What an attack was spared, another has flipped within the same budget."""
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


def _kept(claims: RunContents, image: ImageRow) -> bool:
    """Whether the run keeps the pictures of an image."""
    evidence = str(claims.manifest["config"].get("evidence") or "flips")
    return image.position < int(evidence) if evidence.isdigit() else evidence in ("flips", "all")


def _data_digest(images: Iterable[ImageRow]) -> str:
    sha = hashlib.sha256()
    for row in images:
        sha.update(f"{row.key}\x1f{row.digest}\x1e".encode())
    return sha.hexdigest()


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows as dicts, what is missing as None."""
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
    return "nothing" if value is None else f"{value:.10g}"
