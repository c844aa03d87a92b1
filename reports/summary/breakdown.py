"""The results of a run by attack, by image, by kind of attack, and by step."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from robustness.numerics.intervals import Share
from robustness.reports.summary import metrics, taxonomy
from robustness.reports.summary.budgets import Budget
from robustness.reports.summary.metrics import FLIPPED
from robustness.runs import smallest_epsilon as thresholds
from robustness.runs.schema import AttackEntry, Manifest, Median, Settings

MOST_POINTS = 60


@dataclass(frozen=True)
class AttackRow:
    """One attack: its settings, its cost, and its results at the largest epsilon.

    `alone` images flip under no other attack of the run; None if other attacks of a cascade did not run on
    them, so that this is not known. `forward` and `backward` are passes of single images. `baseline` says
    that it is a random change such as noise, not an attacker.
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
    """All attacks of one kind together (worst case per image): the weakness of `taxonomy` they show.

    The rate is of the images they ran on; they did not run on `spared` images, which earlier attacks of a
    cascade had flipped. All of them failed on `failed` more images, and some of them on `partly_failed` of
    those that did not flip.
    """

    kind: str
    attacks: tuple[str, ...]
    epsilon: float
    flip_rate: Share
    spared: int
    failed: int = 0
    partly_failed: int = 0


@dataclass(frozen=True)
class Course:
    """The progress of an attack: (steps or passes, share of the images it ran on that flipped by then).

    Every image counts at its smallest epsilon. `by_half` is the share of all flips after half of
    the steps or passes. `every_step` says that all flips came at the same one, later than the first.
    """

    attack: str
    unit: str
    total: int
    points: tuple[tuple[float, float], ...]
    by_half: float | None
    every_step: bool


@dataclass(frozen=True)
class Diagnosis:
    """One diagnostic of the audit; `status` is ok, warn, fail or skipped."""

    id: str
    title: str
    status: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FittedMedian:
    """A median by a logistic curve that passed a test of its fit, and its 95 % interval, in counts."""

    median: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class MedianEpsilon:
    """The median smallest epsilon of an attack, or of all together (`attack` None), in counts.

    Half of `images` flip above `bracket_low` and at most within `bracket_high` (None: beyond the largest
    epsilon). `low` to `high` (None: no upper end) is the 95 % interval. `median` is a point in the bracket,
    None if that begins at 0 or has no upper end. All are None if no image contributes; `note` says why, or
    gives a remark. `fit` is the median by a logistic curve, if one fits.
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
    """Return a row for each of `attacks` (labels), in order.

    In a cascade the flip rate is of the images that an attack ran on at the largest epsilon, as in
    `Summary.rates`; which attack flips an image alone follows from its flips at all epsilons.
    """
    entries = {entry.title: entry for entry in config.attacks}
    last, run_on = _at_last(outcomes), _at_last(outcomes, spared=False)
    flipped = last[last["status"] == FLIPPED]
    flipped_by = flipped.groupby("image")["attack"].nunique()
    alone = flipped[flipped["image"].map(flipped_by) == 1]
    spared = set(outcomes[outcomes["status"] == metrics.SETTLED]["image"])
    rows = []
    for label in attacks:
        entry, mine = entries.get(label, AttackEntry()), outcomes[outcomes["attack"] == label]
        flips = flipped[flipped["attack"] == label]
        name = entry.name or label.partition("(")[0]
        rows.append(
            AttackRow(
                label=label,
                name=name,
                knowledge=entry.knowledge or "",
                paper=entry.paper or "",
                parameters=entry.parameters,
                baseline=taxonomy.is_baseline(name, entry.knowledge or ""),
                flip_rate=metrics.tally(run_on[run_on["attack"] == label]["status"]).flip_rate,
                alone=_alone(alone[alone["attack"] == label], spared),
                forward=int(mine["forward"].sum()),
                backward=int(mine["backward"].sum()),
                linf=metrics.median(flips["linf"]),
                l2=metrics.median(flips["l2"]),
            )
        )
    return tuple(rows)


def _alone(flips: pd.DataFrame, spared: Collection[str]) -> int | None:
    """How many images flip under one attack only; None if other attacks did not run on some (`spared`)."""
    return None if flips["image"].isin(list(spared)).any() else len(flips)


def group_rates(
    outcomes: pd.DataFrame, rows: Iterable[AttackRow], *, surrogate: bool = False
) -> tuple[GroupRate, ...]:
    """Return the flip rates of the attacks of each kind together, by epsilon.

    `surrogate` says that they ran on another model, and the audited one only judged.
    """
    kinds: dict[str, list[str]] = {}
    for row in rows:
        kind = taxonomy.kind(row.name, row.knowledge, surrogate=surrogate)
        kinds.setdefault(kind, []).append(row.label)
    groups = []
    for kind, labels in kinds.items():
        worst = metrics.worst_case(outcomes[outcomes["attack"].isin(labels)])
        for epsilon, rows_at in worst.groupby("epsilon"):
            tally, at = metrics.tally(rows_at["status"], rows_at["broke"]), float(str(epsilon))
            counts = (tally.settled, tally.failed, tally.partly_failed)
            groups.append(GroupRate(kind, tuple(labels), at, tally.flip_rate, *counts))
    return tuple(groups)


def _at_last(outcomes: pd.DataFrame, *, spared: bool = True) -> pd.DataFrame:
    """The outcomes at the largest epsilon, with flips at smaller ones included as `carried` does."""
    frame = metrics.carried(outcomes, spared=spared)
    return frame[frame["epsilon"] == frame["epsilon"].max()]


def courses(config: Settings, outcomes: pd.DataFrame, attacks: Iterable[str]) -> tuple[Course, ...]:
    """Return the course of each attack that flipped an image; white-box by steps, else by passes.

    An attack that seeks the closest point has none: it goes on after its first flip, and only the closest
    one is recorded.
    """
    closest = {entry.title for entry in config.attacks if entry.seeks == "closest"}
    found = (_course(outcomes, label) for label in attacks if label not in closest)
    return tuple(course for course in found if course is not None)


def _course(outcomes: pd.DataFrame, label: str) -> Course | None:
    mine = outcomes[outcomes["attack"] == label]
    frame = metrics.carried(mine, spared=False)
    ran = frame[frame["status"] != metrics.SETTLED].drop_duplicates("image", keep="last")
    total = metrics.tally(ran["status"]).flip_rate.total
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


def confusion(images: pd.DataFrame) -> pd.DataFrame:
    """Return how many images of each label have each predicted class: label, clean_class, count."""
    known = images[images["label"].notna() & images["clean_class"].notna()]
    pairs = [known["label"].astype("int64"), known["clean_class"].astype("int64")]
    return known.groupby(pairs).size().reset_index(name="count")


# --- what the manifest adds --------------------------------------------------------------------

_STATUSES = ("fail", "warn", "ok", "skipped")


def diagnoses(manifest: Manifest) -> tuple[Diagnosis, ...]:
    """Return the diagnostics that the run stored, the most severe first."""
    diagnostics = [
        Diagnosis(
            id=entry.id,
            title=entry.title,
            status=entry.status if entry.status in _STATUSES else "warn",
            sentence=entry.sentence,
            evidence=entry.evidence,
        )
        for entry in manifest.diagnostics
    ]
    return tuple(sorted(diagnostics, key=lambda d: (_STATUSES.index(d.status), d.id)))


OK, WARNINGS, UNRELIABLE, UNCHECKED = "ok", "warnings", "unreliable", "not checked"


def reliability(manifest: Manifest, diagnostics: Iterable[Diagnosis]) -> str:
    """Return how reliable the numbers are, by the checks before the attack and the diagnostics after it."""
    before = [check.severity for check in manifest.preflight]
    after = [d.status for d in diagnostics]
    if "fail" in after or "error" in before:
        return UNRELIABLE
    if "warn" in after or "warning" in before:
        return WARNINGS
    return OK if after or before else UNCHECKED


def median_epsilons(
    manifest: Manifest,
    outcomes: pd.DataFrame,
    attacks: Sequence[str],
    limits: Iterable[Budget] = (),
) -> tuple[tuple[MedianEpsilon, ...], MedianEpsilon]:
    """Return the median smallest epsilon of each attack, and of all together.

    They are computed from the outcomes, so that they are the same for older runs; only fitted curves
    are read from the manifest.
    """
    stored = manifest.median_epsilon
    by_attack, together = thresholds.medians(
        outcomes, manifest.config, attacks, thresholds.unused(limits)
    )
    medians = tuple(
        MedianEpsilon(attack=attack, fit=_fit(stored.get(attack)), **median)
        for attack, median in by_attack.items()
    )
    return medians, MedianEpsilon(attack=None, **together)


def _fit(entry: Median | None) -> FittedMedian | None:
    fit = entry.fit if entry else None
    numbers = (fit.median, fit.low, fit.high, fit.p_value) if fit else (None,)
    known = [float(number) for number in numbers if number is not None]
    return FittedMedian(*known) if len(known) == 4 else None
