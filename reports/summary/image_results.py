"""Each image of a run over all attacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.reports import wording
from robustness.reports.summary import cases, metrics, tables
from robustness.reports.summary.metrics import FLIPPED


@dataclass(frozen=True)
class ImageResult:
    """One image over all attacks. `attacks` flipped it; `smallest_epsilon` is None if none did.

    `asked` are the attacks that flipped it or ran on it at every epsilon: in a cascade not those after the
    first that flips it, and not those that failed on it. `undecided` are the epsilons at which every attack
    failed on it. Its worst flip has the smallest `change` (in the norm of the run), of equal ones the
    highest `confidence_after`, and the class `adversarial_class`; all None if no attack flipped it.
    """

    key: str
    name: str
    label: str | None
    clean_class: str | None
    confidence: float | None
    status: str
    smallest_epsilon: float | None
    attacks: tuple[str, ...]
    asked: tuple[str, ...]
    reason: str = ""
    undecided: tuple[float, ...] = ()
    change: float | None = None
    adversarial_class: str | None = None
    confidence_after: float | None = None


def image_results(
    images: pd.DataFrame, outcomes: pd.DataFrame, names: tuple[str, ...], norm: str
) -> tuple[ImageResult, ...]:
    """Return every image of the run, in order, over all attacks at the largest epsilon."""
    worst = metrics.worst_case(outcomes)
    last = worst[worst["epsilon"] == worst["epsilon"].max()]
    status = dict(zip(last["image"], last["status"], strict=True))
    smallest = metrics.smallest_epsilons(outcomes).to_dict()
    flips = outcomes[outcomes["status"] == FLIPPED]
    attacks_of: dict[str, dict[str, None]] = {}
    for image, attack in zip(flips["image"], flips["attack"], strict=True):
        attacks_of.setdefault(image, {})[attack] = None
    flips = cases.worst_first(images, flips, norm).drop_duplicates("image")
    column = cases.change_column(norm)
    ends = zip(
        flips["image"],
        flips[column],
        flips["adversarial_class"],
        flips["confidence_after"],
        strict=True,
    )
    worst_flips = {image: end for image, *end in ends}
    asked = _asked(outcomes)
    lost = worst[worst["status"] == metrics.FAILED]
    undecided = lost.groupby("image")["epsilon"].agg(list).to_dict()
    ordered = images.sort_values("position", kind="stable")
    columns = ("key", "name", "label", "clean_class", "confidence", "reason")
    return tuple(
        ImageResult(
            key=str(key),
            name=str(name or key),
            label=_class(names, label),
            clean_class=_class(names, clean_class),
            confidence=tables.known(confidence),
            status=str(status.get(key, "not reached")),
            smallest_epsilon=_finite(smallest.get(key, math.inf)),
            attacks=tuple(attacks_of.get(key, ())),
            asked=tuple(asked.get(key, ())),
            reason=str(reason or ""),
            undecided=tuple(undecided.get(key, ())),
            **_worst_flip(worst_flips.get(key), names),
        )
        for key, name, label, clean_class, confidence, reason in zip(
            *(ordered[column] for column in columns), strict=True
        )
    )


def _worst_flip(end: Sequence[Any] | None, names: tuple[str, ...]) -> dict[str, Any]:
    """The change, the class and the confidence of an image's worst flip."""
    if end is None:
        return {}
    change, after, confidence = end
    return {
        "change": tables.known(change),
        "adversarial_class": _class(names, after),
        "confidence_after": tables.known(confidence),
    }


def _asked(outcomes: pd.DataFrame) -> dict[str, list[str]]:
    """The attacks that ran on each image to the end, as in `ImageResult.asked`."""
    tried = outcomes["status"].isin((FLIPPED, metrics.ROBUST))
    flips = outcomes["status"] == FLIPPED
    spared = outcomes["status"].isin((metrics.SETTLED, metrics.FAILED))
    pairs = [outcomes["image"], outcomes["attack"]]
    runs = pd.DataFrame({"tried": tried, "flips": flips, "spared": spared}).groupby(
        pairs, sort=False
    )
    per_pair = runs.any()
    attacks_of: dict[str, list[str]] = {}
    for image, attack in per_pair.index[
        per_pair["tried"] & (per_pair["flips"] | ~per_pair["spared"])
    ]:
        attacks_of.setdefault(image, []).append(attack)
    return attacks_of


def _class(names: tuple[str, ...], number: float) -> str | None:
    return None if number is None or math.isnan(number) else wording.class_name(names, number)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
