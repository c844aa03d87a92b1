"""Each image of a run over all attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustness.reports import wording
from robustness.reports.summary import cases, metrics
from robustness.reports.summary.metrics import FLIPPED


@dataclass(frozen=True, slots=True)
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
    images: pd.DataFrame,
    outcomes: pd.DataFrame,
    names: tuple[str, ...],
    norm: str,
    worst: pd.DataFrame | None = None,
) -> tuple[ImageResult, ...]:
    """Return every image of the run, in order, over all attacks at the largest epsilon.

    `worst` is what `metrics.worst_case` returns for `outcomes`, if it was computed already.
    """
    worst = metrics.worst_case(outcomes) if worst is None else worst
    ordered = images.sort_values("position", kind="stable")
    # By the number of each image, since a run may have a million of them.
    of_row, keys = pd.factorize(ordered["key"])
    index, count = pd.Index(keys), len(keys)
    number = index.get_indexer(outcomes["image"])
    flipped = (outcomes["status"] == FLIPPED).to_numpy() & (number >= 0)
    at_worst = index.get_indexer(worst["image"])
    last = (worst["epsilon"] == worst["epsilon"].max()).to_numpy() & (at_worst >= 0)
    status = np.full(count, "not reached", object)
    status[at_worst[last]] = worst["status"].to_numpy(object)[last]
    smallest = np.full(count, np.inf)
    np.minimum.at(smallest, number[flipped], outcomes["epsilon"].to_numpy("float64")[flipped])
    lost = (worst["status"] == metrics.FAILED).to_numpy() & (at_worst >= 0)
    change, after, confidence_after = _worst_flips(outcomes, number, flipped, count, norm)
    columns = (
        status,
        np.where(np.isfinite(smallest), smallest, np.nan),
        _tuples(number[flipped], outcomes["attack"].to_numpy(object)[flipped], count),
        _asked(outcomes, number, count),
        _tuples(at_worst[lost], worst["epsilon"].to_numpy(object)[lost], count),
        *(change, after, confidence_after),
    )
    found: list[list[Any]] = [_plain(column[of_row]) for column in columns]
    found[6] = _classes(names, found[6])
    numbers = ("label", "clean_class", "confidence")
    labels, classes, confidences = (_plain(ordered[name].to_numpy("float64")) for name in numbers)
    stored = (
        *(ordered["key"].tolist(), ordered["name"].tolist()),
        *(_classes(names, labels), _classes(names, classes)),
        *(confidences, ordered["reason"].tolist()),
    )
    return tuple(
        ImageResult(
            key=str(key),
            name=str(name or key),
            label=label,
            clean_class=clean_class,
            confidence=confidence,
            status=str(state),
            smallest_epsilon=epsilon,
            attacks=attacks,
            asked=asked,
            reason=str(reason or ""),
            undecided=undecided,
            change=distance,
            adversarial_class=wrong,
            confidence_after=sure,
        )
        for (
            (key, name, label, clean_class, confidence, reason),
            (state, epsilon, attacks, asked, undecided, distance, wrong, sure),
        ) in zip(zip(*stored, strict=True), zip(*found, strict=True), strict=True)
    )


def _plain(column: np.ndarray) -> list[Any]:
    """The cells of a column, None for those that are missing."""
    if column.dtype == object:
        return column.tolist()
    return [None if cell != cell else cell for cell in column.tolist()]  # noqa: PLR0124


def _classes(names: tuple[str, ...], numbers: Sequence[float | None]) -> list[str | None]:
    """The names of classes; None for None."""
    known = {number: wording.class_name(names, number) for number in set(numbers) - {None}}
    return [known.get(number) for number in numbers]


def _tuples(numbers: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """The distinct values of each image, in their order, as (count,) tuples; equal tuples are one object."""
    found: list[tuple[Any, ...]] = [()] * count
    longer: dict[tuple[tuple[Any, ...], Any], tuple[Any, ...]] = {}
    same: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for number, value in zip(numbers.tolist(), values.tolist(), strict=True):
        before = found[number]
        after = longer.get((before, value))
        if after is None:
            after = before if value in before else (*before, value)
            after = longer[before, value] = same.setdefault(after, after)
        found[number] = after
    table = np.empty(count, object)
    table[:] = found
    return table


def _worst_flips(
    outcomes: pd.DataFrame, number: np.ndarray, flipped: np.ndarray, count: int, norm: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Change, class and confidence of each image's worst flip, the first of `cases.worst_first`; else NaN."""
    flips, at = outcomes[flipped], number[flipped]
    change = flips[cases.change_column(norm)].to_numpy("float64")
    sure = flips["confidence_after"].to_numpy("float64")
    attack = pd.factorize(flips["attack"], sort=True)[0]
    order = np.lexsort((attack, flips["epsilon"].to_numpy("float64"), -sure, change))
    images, first = np.unique(at[order], return_index=True)
    rows = order[first]
    columns = (change, flips["adversarial_class"].to_numpy("float64"), sure)
    ends = []
    for column in columns:
        end = np.full(count, np.nan)
        end[images] = column[rows]
        ends.append(end)
    return ends[0], ends[1], ends[2]


def _asked(outcomes: pd.DataFrame, number: np.ndarray, count: int) -> np.ndarray:
    """The attacks that ran on each image to the end, as in `ImageResult.asked`."""
    here, status = number >= 0, outcomes["status"]
    attack, labels = pd.factorize(outcomes["attack"])
    pair = number[here] * max(1, len(labels)) + attack[here]

    def any_of(*statuses: str) -> np.ndarray:
        some = np.zeros(count * len(labels), bool)
        some[pair[status.isin(statuses).to_numpy()[here]]] = True
        return some

    flips, spared = any_of(FLIPPED), any_of(metrics.SETTLED, metrics.FAILED)
    ran = any_of(FLIPPED, metrics.ROBUST) & (flips | ~spared)
    asked = pd.unique(pair[ran[pair]])
    names = np.asarray(labels, object)[asked % max(1, len(labels))]
    return _tuples(asked // max(1, len(labels)), names, count)
