"""Provides `plan`, which measures on a sample of images what an audit will cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from robustness.auditing.audit import examine
from robustness.auditing.cost_estimate import AttackCost, CostEstimate, ListCost
from robustness.auditing.image_rows import RowMaker
from robustness.auditing.probe import AttackProbe, Prober, Seconds, Stopwatch
from robustness.auditing.setup import AuditSetup, set_up
from robustness.configuration.audit_config import AuditConfig
from robustness.configuration.audit_file import config_of
from robustness.configuration.cluster_option import Cluster
from robustness.contract import ensembles
from robustness.contract.attack import Attack
from robustness.diagnostics import preflight
from robustness.engine.batch_size import bounded
from robustness.engine.jobs import Example
from robustness.engine.judge import FILE_THREADS
from robustness.errors import ImagesError, SettingError
from robustness.images import Entry, Picture, Source
from robustness.images.png import to_png
from robustness.models.classifier import Classifier
from robustness.runs.notebook import default_listener
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Progress
from robustness.runs.records import ImageRow, status_before_attack

PRESETS = ("quick", "standard", "thorough")
"""The ensembles whose cost is given beside that of the audit."""
SAMPLE, SECONDS, MOST_WORKERS = 48, 20.0, 100_000
"""The images of the sample, the seconds of one attack's search on them, and the most machines."""


@FILE_THREADS.in_use()
def plan(  # noqa: PLR0913 - the public call
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    config: AuditConfig | str | Path | Mapping[str, object] | None = None,
    *,
    labels: np.ndarray | None = None,
    only: Callable[[Entry], bool] | None = None,
    workers: int = 1,
    sample: int = SAMPLE,
    seconds: float = SECONDS,
    presets: Sequence[str] = PRESETS,
    progress: Listener | None = None,
    **options: object,
) -> CostEstimate:
    """Measure on a sample of images what an audit will cost. Nothing is stored.

    Parameters
    ----------
    model, images, config, labels, only, **options : as for `robustness.audit`.
    workers : int
        How many machines like this one share the images.
    sample : int
        How many images are looked at, evenly spread over all; those that attacks flip end as early as they
        will in the audit.
    seconds : float
        The longest search of one attack on the sample. Images that take longer count as never flipped.
    presets : sequence of str
        Ensembles whose cost is given beside that of the audit.
    progress : callable
        Receives a `robustness.runs.progress.Progress` whenever there is progress to show.

    Returns
    -------
    CostEstimate
        Passes, seconds, memory and disk.

    Raises
    ------
    SettingError
        An option is not usable.
    ModelError, ImagesError
        The model or the images cannot be used.
    """
    _expect_usable(workers, sample, seconds)
    listener = progress or default_listener()
    whole, loading, checks = Stopwatch(), Stopwatch(), Stopwatch()
    with whole:
        chosen = config_of(config, options)
        with loading:
            setup = set_up(model, images, labels, chosen, only=only)
        with checks:
            _, findings = examine(setup, listener)
        estimate = _estimate(
            setup, findings, sample=sample, seconds=seconds, presets=presets, listener=listener
        )
    return replace(
        estimate,
        workers=workers,
        loading=loading.seconds,
        checks=checks.seconds,
        probing=whole.seconds.wall,
        notes=_notes(chosen, workers),
    )


def _notes(config: AuditConfig, workers: int) -> tuple[str, ...]:
    if Cluster.of(config.cluster) is None:
        return ()
    counted = "one process of this machine" if workers == 1 else f"{workers:,} machines"
    return (
        f"The workers of the cluster {config.cluster} are not measured: the figures are those of {counted}. "
        "Give the number of machines like this one as --workers (workers= in Python).",
    )


def _expect_usable(workers: int, sample: int, seconds: float) -> None:
    if not 1 <= workers <= MOST_WORKERS:
        raise SettingError(f"{workers} workers are not usable; expected 1 to {MOST_WORKERS:,}.")
    if not 1 <= sample <= 100_000:
        raise SettingError(f"A sample of {sample} images is not usable; expected 1 to 100,000.")
    if not 0 < seconds <= 86_400:
        raise SettingError(
            f"{seconds} seconds are not usable; expected more than 0, at most 86,400."
        )


def _estimate(
    setup: AuditSetup,
    findings: Sequence[preflight.Finding],
    *,
    sample: int,
    seconds: float,
    presets: Sequence[str],
    listener: Listener,
) -> CostEstimate:
    planned = setup.planned(findings, resumed=False)
    entries = _spread(setup.part, sample)
    pictures, rows, clean = _clean(setup, planned, entries)
    examples = _examples(pictures, rows)
    if not examples:
        raise ImagesError(
            f"None of the {len(entries)} images of the sample is correctly classified, so no attack can be "
            "measured. Give a larger sample, or check the labels."
        )
    total = len(setup.part)
    prober = Prober(
        setup.classifier,
        setup.attacked,
        planned.threat,
        bounded(planned.slots, setup.attacked),
        round(total * len(examples) / len(entries)),
        planned.seed,
        planned.draws,
        planned.all_steps,
        seconds,
    )
    lists = [("audit", planned.attacks, planned.cascade, ""), *_presets(setup, findings, presets)]
    measured = _Measured(planned, prober, examples, total, len(entries))
    costs = []
    for place, (name, attacks, cascade, reason) in enumerate(lists):
        listener(Progress("probe", place, len(lists), part=name))
        costs.append(
            ListCost(name, reason=reason)
            if reason
            else measured.cost(name, attacks, cascade=cascade)
        )
    listener(Progress("probe", len(lists), len(lists)))
    kept = sum(map(planned.keeps, range(setup.first, setup.first + total)))
    files = [len(to_png(example.cropped(example.pixels))) for example in examples]
    return CostEstimate(
        images=total,
        sample=len(entries),
        wrong=len(entries) - len(examples),
        workers=1,
        loading=Seconds(),
        checks=Seconds(),
        clean=clean * total,
        originals=kept * sum(files) / len(entries),
        epsilons=len(planned.threat.epsilons),
        audit=costs[0],
        presets=tuple(costs[1:]),
        probing=0.0,
    )


def _spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """`count` entries, evenly spread."""
    places = np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int)
    return [entries[place] for place in dict.fromkeys(places.tolist())]


def _clean(
    setup: AuditSetup, planned: Plan, entries: Sequence[Entry]
) -> tuple[list[Picture], list[ImageRow], Seconds]:
    """Read and predict images; return pictures, rows, and the seconds of one image."""
    maker, reading = RowMaker(planned, setup.classifier, lambda data, suffix: ""), Stopwatch()
    with reading:
        pictures = list(setup.cache.stream(iter(entries), setup.classifier.picture_shape))
    rows = maker.clean(list(enumerate(pictures)), {})  # compiles
    predicting = Stopwatch()
    with predicting:
        maker.clean(list(enumerate(pictures)), {})
    images = [row for row in rows if isinstance(row, ImageRow)]
    return pictures, images, (reading.seconds + predicting.seconds) * (1 / len(entries))


def _examples(pictures: Sequence[Picture], rows: Sequence[ImageRow]) -> list[Example]:
    return [
        Example(row.key, picture.pixels, row.clean_class)
        for picture, row in zip(pictures, rows, strict=True)
        if picture.pixels is not None
        and row.clean_class is not None
        and status_before_attack(row) is None
    ]


def _presets(
    setup: AuditSetup, findings: Sequence[preflight.Finding], names: Sequence[str]
) -> list[tuple[str, tuple[Attack, ...], bool, str]]:
    """The attacks of each preset for this model and norm, or why it cannot be run."""
    threat = setup.plan.threat
    found: list[tuple[str, tuple[Attack, ...], bool, str]] = []
    for name in names:
        try:
            resolved = ensembles.resolve(
                [name],
                threat.norm,
                threat.goal,
                setup.classifier.class_names,
                gradients=preflight.has_gradients(findings),
            )
        except SettingError as error:
            found.append((name, (), False, str(error)))
        else:
            found.append((name, resolved.attacks, resolved.cascade, ""))
    return found


@dataclass
class _Measured:
    """The attacks that are measured on a sample, each once for the same images.

    Attributes
    ----------
    planned : the settings of the audit.
    prober : measures.
    examples : the sample's images that are attacked.
    total, sample : the images of the audit, and those that were looked at.
    """

    planned: Plan
    prober: Prober
    examples: Sequence[Example]
    total: int
    sample: int
    _known: dict[Any, AttackProbe] = field(default_factory=dict)

    def cost(self, name: str, attacks: Sequence[Attack], *, cascade: bool) -> ListCost:
        """Measure attacks one after another, each on the images that a cascade leaves to it."""
        left, costs, pictures = list(self.examples), [], 0
        doubtful: set[str] = set()
        for attack in attacks:
            probe = self._probe(attack, left)
            costs.append(AttackCost.of(probe, self.total, self.sample, doubtful))
            pictures += sum(one.picture for one in probe.images.values())
            if cascade and probe.images:
                doubtful |= {key for key, one in probe.images.items() if not one.finished}
                standing = {key: one.epsilons for key, one in probe.images.items()}
                left = [
                    replace(one, epsilon_count=standing[one.key])
                    for one in left
                    if standing[one.key]
                ]
        kept = sum(map(self.planned.keeps, range(self.total))) / self.sample
        return ListCost(name, tuple(costs), cascade, pictures * kept)

    def _probe(self, attack: Attack, left: Sequence[Example]) -> AttackProbe:
        asked = (attack, tuple((one.key, one.epsilon_count) for one in left))
        if asked not in self._known:
            self._known[asked] = self.prober.probe(attack, left, self.examples)
        return self._known[asked]
