"""The results of a run as data: all kinds of report and the terminal show these numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.summary import breakdown, budgets, metrics
from robustness.reports.summary.breakdown import (
    AttackRow,
    Course,
    Diagnosis,
    GroupRate,
    MedianEpsilon,
)
from robustness.reports.summary.budgets import Budget
from robustness.reports.summary.cases import CaseRow, best_cases
from robustness.reports.summary.caveats import caveats
from robustness.reports.summary.cost import Cost, cost_of
from robustness.reports.summary.deployed import Deployed, deployed
from robustness.reports.summary.distances import Range, distances_of, picture_shape
from robustness.reports.summary.image_results import ImageResult, image_results
from robustness.reports.summary.metrics import FLIPPED, SmallestEpsilon, Tally
from robustness.reports.summary.tables import ReadableRun, complete
from robustness.reports.summary.unjudged import Skipped, failed_attacks, unread
from robustness.runs.schema import Manifest, Settings
from robustness.threat.norms import described

Labelled = frozenset[str]
"""The keys of the images that have a label."""
WORST = None
"""In place of the name of an attack: all attacks together (worst case per image)."""


@dataclass(frozen=True)
class Rate:
    """The results of one attack, or of all together (`attack` None), within one epsilon.

    `robust_accuracy` is None without labels, and if `unreached`: the whole epsilon could not be used (see
    `Budget`). Medians over the flips: of their confidence, of the distances of their saved pictures in
    counts, and of their steps. `float_flips` images flipped in float, but not as 8-bit pictures.
    """

    attack: str | None
    epsilon: float
    tally: Tally
    robust_accuracy: Share | None
    confidence_after: float | None = None
    l0: float | None = None
    l2: float | None = None
    steps: float | None = None
    float_flips: int = 0
    unreached: bool = False


@dataclass(frozen=True)
class ClassRate:
    """The results of all attacks together on the images of one class, within one epsilon."""

    name: str
    epsilon: float
    tally: Tally
    robust_accuracy: Share | None
    unreached: bool = False


@dataclass(frozen=True)
class ImageCounts:
    """How many images there are, and the clean accuracy of the model on them."""

    selected: int
    readable: int
    labelled: int
    misclassified: int
    clean_accuracy: Share | None


@dataclass(frozen=True)
class Pair:
    """`count` images of class `before` flip to class `after`."""

    before: str
    after: str
    count: int


@dataclass(frozen=True)
class Summary:
    """Everything that a report says, apart from pixels. `to_dict` is JSON-able.

    `labelled` says whether every readable image has a label. For an image without one, the predicted
    class stands for it, no image is called correct, and robust accuracies are of the labelled images.
    `picture_shape` is that of the largest attacked picture (height, width, channels).
    """

    headline: str
    sentence: str
    epsilon: float | None
    budgets: tuple[Budget, ...]
    finished: bool
    warnings: tuple[str, ...]
    overall: Tally
    images: ImageCounts
    labelled: bool
    attacks: tuple[str, ...]
    attack_names: tuple[str, ...]
    rates: tuple[Rate, ...]
    worst: tuple[Rate, ...]
    classes: tuple[ClassRate, ...]
    smallest_epsilon: SmallestEpsilon
    median_epsilons: tuple[MedianEpsilon, ...]
    attacked: tuple[AttackRow, ...]
    groups: tuple[GroupRate, ...]
    courses: tuple[Course, ...]
    confusion: tuple[Pair, ...]
    confidence_right: tuple[int, ...]
    confidence_wrong: tuple[int, ...]
    pairs: tuple[Pair, ...]
    distances: tuple[Range, ...]
    confidence_before: tuple[int, ...]
    confidence_after: tuple[int, ...]
    cases: tuple[CaseRow, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Skipped, ...]
    converted: int
    picture_shape: tuple[int, ...] | None
    diagnostics: tuple[Diagnosis, ...]
    reliability: str
    results: tuple[ImageResult, ...]
    cost: Cost
    deployed: Deployed | None
    manifest: Manifest

    @property
    def config(self) -> Settings:
        """The settings of the run."""
        return self.manifest.config

    @property
    def model_name(self) -> str:
        """The name of the audited model."""
        return self.manifest.model.name or "a model"

    @property
    def has_spared(self) -> bool:
        """Whether an attack of a cascade did not run on images that earlier attacks had flipped."""
        return any(rate.tally.settled for rate in self.rates)

    @property
    def aim(self) -> str:
        """The goal in words, with the surrogate from which flips must transfer: `transfer from NAME`."""
        return _aim(self.manifest)

    @property
    def picture_size(self) -> str:
        """At which size pictures were attacked, in words."""
        if self.deployed is not None and self.deployed.at_full_size:
            return "at their own size, before the pipeline"
        return "at the input size of the model"

    @property
    def uploaded(self) -> str:
        """The format of the files that were judged, in words: `PNG`, `JPEG, quality 90, 4:2:0`."""
        return "PNG" if self.deployed is None else self.deployed.upload

    @property
    def norm(self) -> str:
        """The name of the norm."""
        return self.config.norm or "unknown norm"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the model's outputs."""
        return self.manifest.class_names

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists and numbers, with None for numbers that are not finite."""
        rest = asdict(replace(self, manifest=Manifest()))
        return finite(rest | {"manifest": self.manifest.to_json()})


def summarise(run: ReadableRun) -> Summary:
    """Return everything that a report says about a run, from its tables and `run.json`.

    Parameters
    ----------
    run
        An opened run, such as `robustness.runs.store.Run`; no picture is read. RunError if damaged.
    """
    manifest = run.manifest
    images = complete(run.images(), "images")
    config, names = manifest.config, manifest.class_names
    norm = config.norm or "unknown norm"
    outcomes = complete(run.outcomes(), "outcomes", norm)
    labelled = frozenset(images["key"][images["label"].notna()])
    readable = images["clean_class"].notna()
    every = bool(labelled) and bool(images["label"].notna()[readable].all())
    epsilons = sorted(float(e) for e in outcomes["epsilon"].dropna().unique())
    attacks = _attacks(config, outcomes)
    attacked = breakdown.attack_rows(config, outcomes, attacks)
    diagnostics = breakdown.diagnoses(manifest)
    worst_status = metrics.worst_case(outcomes)
    last = worst_status[worst_status["epsilon"] == epsilons[-1]] if epsilons else worst_status
    overall = metrics.tally(last["status"], last["broke"])
    broken_down = (overall.failed, overall.partly_failed)
    firsts = metrics.first_flips(outcomes).merge(
        images[["key", "label", "clean_class"]], left_on="image", right_on="key"
    )
    epsilon = epsilons[-1] if epsilons else None
    goal, short = _aim(manifest), _short_names(config, attacks)
    limits = budgets.budgets(manifest, norm, epsilons)
    medians, together = breakdown.median_epsilons(manifest, outcomes, attacks, limits)
    note = wording.unreached(budgets.reason(limits, epsilon))
    used = outcomes[outcomes["epsilon"].isin([one.epsilon for one in limits if one.reached])]
    return Summary(
        headline=wording.headline(overall.flip_rate, norm, epsilon, every, broken=broken_down)
        + note,
        sentence=wording.sentence(
            overall.flip_rate, norm, epsilon, short, goal, every, broken=broken_down
        )
        + note,
        epsilon=epsilon,
        budgets=limits,
        finished=bool(manifest.finished),
        warnings=caveats(
            manifest, images, overall, len(outcomes), len(images) * len(attacks) * len(epsilons)
        ),
        overall=overall,
        images=_image_counts(images),
        labelled=every,
        attacks=attacks,
        attack_names=short,
        rates=budgets.withheld(_rates(outcomes, attacks, labelled), limits),
        worst=budgets.withheld(_worst(worst_status, labelled), limits),
        classes=budgets.withheld(_classes(worst_status, images, names, labelled), limits),
        smallest_epsilon=metrics.smallest_epsilon(used, asdict(together)),
        median_epsilons=medians,
        attacked=attacked,
        groups=breakdown.group_rates(outcomes, attacked, surrogate=manifest.surrogate is not None),
        courses=breakdown.courses(config, outcomes, attacks),
        confusion=_named(breakdown.confusion(images), names),
        confidence_right=_confidence(images, right=True),
        confidence_wrong=_confidence(images, right=False),
        pairs=_named(metrics.flips_between(firsts), names),
        distances=distances_of(firsts, manifest.model, described(norm), run.sizes()),
        confidence_before=tuple(metrics.share_histogram(firsts["confidence_before"])),
        confidence_after=tuple(metrics.share_histogram(firsts["confidence_after"])),
        cases=best_cases(images, outcomes, complete(run.strips(), "strips")),
        skipped=unread(images),
        failed=failed_attacks(outcomes, images),
        converted=int(images["note"].fillna("").astype(str).ne("").sum()),
        picture_shape=picture_shape(manifest.model, run.sizes()),
        diagnostics=diagnostics,
        reliability=breakdown.reliability(manifest, diagnostics),
        results=image_results(images, outcomes, names, norm, worst_status),
        cost=cost_of(manifest, outcomes),
        deployed=deployed(manifest),
        manifest=manifest,
    )


def transfer(manifest: Manifest) -> str:
    """Return `transfer from NAME` where attacks ran on a surrogate and the model only judged; else ""."""
    other = manifest.surrogate
    return (
        "" if other is None else f"transfer from {wording.shorten(other.name or 'another model')}"
    )


def _aim(manifest: Manifest) -> str:
    goal, away = manifest.config.aim, transfer(manifest)
    if goal == "untargeted":
        return away or goal
    return f"{away}, {goal}" if away else goal


def _attacks(config: Settings, outcomes: pd.DataFrame) -> tuple[str, ...]:
    """Labels in the order of the configuration, then any that only the table has."""
    known = [entry.title for entry in config.attacks]
    stored = [str(name) for name in outcomes["attack"].dropna().unique()]
    return tuple(dict.fromkeys([*(k for k in known if k in stored), *stored]))


def _short_names(config: Settings, attacks: tuple[str, ...]) -> tuple[str, ...]:
    """Names without parameters, if these are different for all attacks."""
    names = {entry.label: str(entry.name) for entry in config.attacks}
    short = [names.get(label, label) for label in attacks]
    return tuple(short) if len(set(short)) == len(short) else attacks


def _rates(
    outcomes: pd.DataFrame, attacks: tuple[str, ...], labelled: Labelled
) -> tuple[Rate, ...]:
    frame = metrics.carried(outcomes, spared=False)
    rates = []
    for attack in attacks:
        mine = frame[frame["attack"] == attack]
        for epsilon in sorted(set(mine["epsilon"])):
            rates.append(_rate(attack, epsilon, mine[mine["epsilon"] == epsilon], labelled))
    return tuple(rates)


def _rate(attack: str, epsilon: float, rows: pd.DataFrame, labelled: Labelled) -> Rate:
    flips = rows[rows["status"] == FLIPPED]
    return Rate(
        attack=attack,
        epsilon=epsilon,
        tally=metrics.tally(rows["status"]),
        robust_accuracy=_accuracy(rows, labelled),
        confidence_after=metrics.median(flips["confidence_after"]),
        l0=metrics.median(flips["l0"]),
        l2=metrics.median(flips["l2"]),
        steps=metrics.median(flips["step"]),
        float_flips=int(((rows["float_flip"] == 1) & (rows["status"] != FLIPPED)).sum()),
    )


def _accuracy(rows: pd.DataFrame, labelled: Labelled) -> Share | None:
    """The robust accuracy of the labelled images; None without any."""
    if not labelled:
        return None
    known = rows["image"].map(labelled.__contains__).astype(bool)
    return metrics.robust_accuracy(rows["status"][known])


def _worst(status: pd.DataFrame, labelled: Labelled) -> tuple[Rate, ...]:
    rates = []
    for epsilon in sorted(set(status["epsilon"])):
        rows = status[status["epsilon"] == epsilon]
        accuracy = _accuracy(rows, labelled)
        tally = metrics.tally(rows["status"], rows["broke"])
        rates.append(Rate(WORST, epsilon, tally, accuracy))
    return tuple(rates)


def _classes(
    status: pd.DataFrame, images: pd.DataFrame, names: tuple[str, ...], labelled: Labelled
) -> tuple[ClassRate, ...]:
    """By true class; without labels by predicted class, and then without accuracy."""
    truth = images.set_index("key")["label" if labelled else "clean_class"].dropna()
    return tuple(
        ClassRate(
            wording.class_name(names, number),
            epsilon,
            tally,
            metrics.robust_share(tally) if labelled else None,
        )
        for (number, epsilon), tally in metrics.tallies(status, status["image"].map(truth)).items()
    )


def _image_counts(images: pd.DataFrame) -> ImageCounts:
    readable = images["clean_class"].notna()
    labelled = readable & images["label"].notna()
    wrong = labelled & (images["label"] != images["clean_class"])
    return ImageCounts(
        selected=len(images),
        readable=int(readable.sum()),
        labelled=int(labelled.sum()),
        misclassified=int(wrong.sum()),
        clean_accuracy=metrics.clean_accuracy(images),
    )


def _confidence(images: pd.DataFrame, *, right: bool) -> tuple[int, ...]:
    known = images[images["label"].notna() & images["clean_class"].notna()]
    mine = known[(known["label"] == known["clean_class"]) == right]
    return tuple(metrics.share_histogram(mine["confidence"]))


def _named(counted: pd.DataFrame, names: tuple[str, ...]) -> tuple[Pair, ...]:
    """A count for each (from class, to class), with names for numbers."""
    return tuple(
        Pair(wording.class_name(names, before), wording.class_name(names, after), int(count))
        for before, after, count in counted.itertuples(index=False)
    )


def finite(value: Any) -> Any:
    """JSON-able values with what is not a finite number as None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
