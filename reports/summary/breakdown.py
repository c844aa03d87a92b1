"""The run taken apart: by attack, by image, by class as labelled, and by step."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from robustness.reports import wording
from robustness.reports.intervals import Share
from robustness.reports.summary import metrics, tables, taxonomy
from robustness.reports.summary.budgets import Budget
from robustness.reports.summary.metrics import FLIPPED
from robustness.runs import thresholds
from robustness.runs.schema import AttackEntry, Manifest, Median, Settings

MOST_POINTS = 60


@dataclass(frozen=True)
class AttackRow:
    """One attack: what it was told, what it cost, what it did at the largest epsilon.

    `alone` images flip under no other attack of the run, all of which were asked; None where a cascade
    spared others what this one flips, so that nobody knows. `forward` and `backward` are passes of single
    images. `baseline` says that it is no attacker but chance: noise, blur and the like.
    """

    label: str
    name: str
    knowledge: str
    paper: str
    parameters: Mapping[str, Any]
    baseline: bool
    flip_rate: Share
    alone: int | None
    forward: int
    backward: int
    linf: float | None
    l2: float | None


@dataclass(frozen=True)
class GroupRate:
    """All attacks of one kind together, image by image: the weakness of `taxonomy` they show.

    The rate is of the images they were shown; `spared` were not: earlier attacks of a cascade flip them.
    """

    kind: str
    attacks: tuple[str, ...]
    epsilon: float
    flip_rate: Share
    spared: int


@dataclass(frozen=True)
class Course:
    """How an attack came on at the largest epsilon: (steps or passes, share flipped by then).

    Every image counts from its smallest epsilon on. `by_half` is the share of all flips there were
    after half of the way; `every_step` that each row took all its steps, so that the course says
    nothing.
    """

    attack: str
    unit: str
    total: int
    points: tuple[tuple[float, float], ...]
    by_half: float | None
    every_step: bool


@dataclass(frozen=True)
class ImageResult:
    """One image over all attacks. `smallest_epsilon` None where nothing flipped it; `attacks` did.

    `asked` are the attacks that flipped it or were tried on it at every epsilon: in a cascade those before
    the first that flips it, and not those that it was spared.
    """

    key: str
    name: str
    label: str | None
    predicted: str | None
    confidence: float | None
    status: str
    smallest_epsilon: float | None
    attacks: tuple[str, ...]
    asked: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """One check of the audit on itself; `status` is ok, warn, fail or skipped."""

    id: str
    title: str
    status: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FittedMedian:
    """A median by a logistic curve that stood a test of its fit, and its 95 % interval, in counts."""

    median: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class MedianEpsilon:
    """The median smallest epsilon of an attack, of all attacks together (`attack` None), in counts.

    Half of `images` flip above `bracket_low` and at most within `bracket_high` (None: beyond the largest
    epsilon); `low` to `high` (None: no upper end) is the 95 % interval. `median` is a point in the bracket,
    None where that begins at 0 or has no upper end. All are None where no image tells; `note` says why, or
    what is to be known besides. `fit` is the same by a curve, where one fits.
    """

    attack: str | None
    median: float | None
    low: float | None
    high: float | None
    bracket_low: float | None
    bracket_high: float | None
    images: int
    note: str = ""
    fit: FittedMedian | None = None


# --- attacks -----------------------------------------------------------------------------------


def attack_rows(
    config: Settings, outcomes: pd.DataFrame, attacks: Iterable[str]
) -> tuple[AttackRow, ...]:
    """A row for each of `attacks` (labels), in order.

    In a cascade the flip rate is of the images an attack saw at the largest epsilon, as in
    `Summary.rates`; who flips an image alone is asked of all its flips, smaller epsilons included.
    """
    entries = {entry.title: entry for entry in config.attacks}
    last, saw = _at_last(outcomes), _at_last(outcomes, spared=False)
    flipped = last[last["status"] == FLIPPED]
    by = flipped.groupby("image")["attack"].nunique()
    alone = flipped[flipped["image"].map(by) == 1]
    unasked = set(outcomes[outcomes["status"] == metrics.SETTLED]["image"])
    found = []
    for label in attacks:
        entry, mine = entries.get(label, AttackEntry()), outcomes[outcomes["attack"] == label]
        flips = flipped[flipped["attack"] == label]
        name = entry.name or label.partition("(")[0]
        found.append(
            AttackRow(
                label=label,
                name=name,
                knowledge=entry.knowledge or "",
                paper=entry.paper or "",
                parameters=entry.parameters,
                baseline=taxonomy.is_baseline(name, entry.knowledge or ""),
                flip_rate=metrics.tally(saw[saw["attack"] == label]["status"]).flip_rate,
                alone=_alone(alone[alone["attack"] == label], unasked),
                forward=int(mine["forward"].sum()),
                backward=int(mine["backward"].sum()),
                linf=metrics.median(flips["linf"]),
                l2=metrics.median(flips["l2"]),
            )
        )
    return tuple(found)


def _alone(flips: pd.DataFrame, unasked: Collection[str]) -> int | None:
    """How many images flip under one attack only; None if of some of them (`unasked`) others were spared."""
    return None if flips["image"].isin(list(unasked)).any() else len(flips)


def group_rates(
    outcomes: pd.DataFrame, rows: Iterable[AttackRow], *, surrogate: bool = False
) -> tuple[GroupRate, ...]:
    """The flip rates of the attacks of each kind together, by epsilon.

    `surrogate` says that they looked at another model, and the audited one only judged.
    """
    kinds: dict[str, list[str]] = {}
    for row in rows:
        kind = taxonomy.kind(row.name, row.knowledge, surrogate=surrogate)
        kinds.setdefault(kind, []).append(row.label)
    found = []
    for kind, labels in kinds.items():
        worst = metrics.worst_case(outcomes[outcomes["attack"].isin(labels)])
        for epsilon, status in worst.groupby("epsilon")["status"]:
            tally, at = metrics.tally(status), float(str(epsilon))
            found.append(GroupRate(kind, tuple(labels), at, tally.flip_rate, tally.settled))
    return tuple(found)


def _at_last(outcomes: pd.DataFrame, *, spared: bool = True) -> pd.DataFrame:
    """The outcomes at the largest epsilon, flips within smaller ones carried on as `carried` does."""
    frame = metrics.carried(outcomes, spared=spared)
    return frame[frame["epsilon"] == frame["epsilon"].max()]


def courses(outcomes: pd.DataFrame, attacks: Iterable[str]) -> tuple[Course, ...]:
    """The course of each attack that flipped something; white-box by steps, else by passes."""
    return tuple(c for label in attacks if (c := _course(outcomes, label)) is not None)


def _course(outcomes: pd.DataFrame, label: str) -> Course | None:
    mine = outcomes[outcomes["attack"] == label]
    total = metrics.tally(_at_last(mine)["status"]).flip_rate.total
    flips = mine[mine["status"] == FLIPPED].sort_values("epsilon", kind="stable")
    flips = flips.drop_duplicates("image")
    if flips.empty:
        return None
    passes = flips["forward"] + flips["backward"]
    by_steps = bool(flips["backward"].sum() > 0 and flips["step"].notna().all())
    when = (flips["step"] if by_steps else passes).to_numpy(dtype="float64")
    when = np.sort(when[np.isfinite(when)])
    if not len(when) or not total:
        return None
    places = np.unique(when)
    shares = np.searchsorted(when, places, side="right") / total
    half = float(np.searchsorted(when, when[-1] / 2, side="right")) / len(when)
    points = [(float(x), float(y)) for x, y in zip(places, shares, strict=True)]
    if len(points) > MOST_POINTS:
        keep = np.unique(np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int))
        points = [points[i] for i in keep]
    return Course(
        attack=label,
        unit="steps" if by_steps else "passes",
        total=total,
        points=tuple(points),
        by_half=half,
        every_step=len(places) == 1 and points[0][0] > 1 and len(when) > 1,
    )


# --- images ------------------------------------------------------------------------------------


def image_results(
    images: pd.DataFrame, outcomes: pd.DataFrame, names: tuple[str, ...]
) -> tuple[ImageResult, ...]:
    """Every image of the run, in its order, over all attacks at the largest epsilon."""
    worst = metrics.worst_case(outcomes)
    last = worst[worst["epsilon"] == worst["epsilon"].max()]
    status = dict(zip(last["image"], last["status"], strict=True))
    smallest = metrics.smallest_epsilons(outcomes).to_dict()
    flips = outcomes[outcomes["status"] == FLIPPED]
    by: dict[str, dict[str, None]] = {}
    for image, attack in zip(flips["image"], flips["attack"], strict=True):
        by.setdefault(image, {})[attack] = None
    asked = _asked(outcomes)
    return tuple(
        ImageResult(
            key=str(row["key"]),
            name=str(row["name"] or row["key"]),
            label=_class(names, row["label"]),
            predicted=_class(names, row["clean_class"]),
            confidence=tables.known(row["confidence"]),
            status=str(status.get(row["key"], "not reached")),
            smallest_epsilon=_finite(smallest.get(row["key"], math.inf)),
            attacks=tuple(by.get(row["key"], ())),
            asked=tuple(asked.get(row["key"], ())),
            reason=str(row["reason"] or ""),
        )
        for row in images.sort_values("position", kind="stable").to_dict("records")
    )


def _asked(outcomes: pd.DataFrame) -> dict[str, list[str]]:
    """By image the attacks that were tried on it to the end, as `ImageResult.asked` has them."""
    tried = outcomes["status"].isin((FLIPPED, metrics.ROBUST, metrics.FAILED))
    flips, spared = outcomes["status"] == FLIPPED, outcomes["status"] == metrics.SETTLED
    pairs = [outcomes["image"], outcomes["attack"]]
    told = pd.DataFrame({"tried": tried, "flips": flips, "spared": spared}).groupby(
        pairs, sort=False
    )
    any_ = told.any()
    found: dict[str, list[str]] = {}
    for image, attack in any_.index[any_["tried"] & (any_["flips"] | ~any_["spared"])]:
        found.setdefault(image, []).append(attack)
    return found


def _class(names: tuple[str, ...], number: float) -> str | None:
    return None if number is None or math.isnan(number) else wording.class_name(names, number)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def confusion(images: pd.DataFrame) -> pd.DataFrame:
    """How many labelled, readable images of which label get which answer: label, clean_class, count."""
    known = images[images["label"].notna() & images["clean_class"].notna()]
    pairs = [known["label"].astype("int64"), known["clean_class"].astype("int64")]
    return known.groupby(pairs).size().reset_index(name="count")


# --- what the manifest adds --------------------------------------------------------------------

_STATUSES = ("fail", "warn", "ok", "skipped")


def diagnoses(manifest: Manifest) -> tuple[Diagnosis, ...]:
    """The diagnostics of the run, the gravest first."""
    known = [
        Diagnosis(
            id=entry.id,
            title=entry.title,
            status=entry.status if entry.status in _STATUSES else "warn",
            sentence=entry.sentence,
            evidence=entry.evidence,
        )
        for entry in manifest.diagnostics
    ]
    return tuple(sorted(known, key=lambda d: (_STATUSES.index(d.status), d.id)))


OK, WARNINGS, UNRELIABLE, UNCHECKED = "ok", "warnings", "unreliable", "not checked"


def reliability(manifest: Manifest, found: Iterable[Diagnosis]) -> str:
    """How far the numbers can be relied on, by the checks before and after the attack."""
    before = [check.severity for check in manifest.preflight]
    said = [d.status for d in found]
    if "fail" in said or "error" in before:
        return UNRELIABLE
    if "warn" in said or "warning" in before:
        return WARNINGS
    return OK if said or before else UNCHECKED


def median_epsilons(
    manifest: Manifest,
    outcomes: pd.DataFrame,
    attacks: Sequence[str],
    limits: Iterable[Budget] = (),
) -> tuple[tuple[MedianEpsilon, ...], MedianEpsilon]:
    """The median smallest epsilon of each attack, and of all together, from the rows.

    Of what the run kept only fitted curves are taken: rows tell the rest, of older runs as well.
    """
    by, every = thresholds.medians(outcomes, manifest.config, attacks, thresholds.unused(limits))
    kept = manifest.median_epsilon
    medians = tuple(
        MedianEpsilon(attack=attack, fit=_fit(kept.get(attack)), **median)
        for attack, median in by.items()
    )
    return medians, MedianEpsilon(attack=None, **every)


def _fit(entry: Median | None) -> FittedMedian | None:
    fit = entry.fit if entry else None
    numbers = (fit.median, fit.low, fit.high, fit.p_value) if fit else (None,)
    known = [float(number) for number in numbers if number is not None]
    return FittedMedian(*known) if len(known) == 4 else None
