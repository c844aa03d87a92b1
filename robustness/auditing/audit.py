"""`audit`: which of these images flip within the budget. Resolves what it is given, then runs it."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from robustness.auditing.auditor import Auditor
from robustness.auditing.inputs import (
    expect_source_classes,
    resolve_images,
    resolve_model,
    resolve_surrogate,
)
from robustness.configuration import defaults
from robustness.configuration.epsilons import parse_epsilons
from robustness.contract import ensembles
from robustness.contract.attack import Attack
from robustness.contract.ensembles import Ensemble
from robustness.diagnostics import preflight
from robustness.diagnostics.diagnose import diagnose
from robustness.engine import batch_size as capacity
from robustness.engine import votes
from robustness.errors import ImagesError, StorageError
from robustness.files import disk_errors
from robustness.images import Entry, Source, select
from robustness.images.cache import PictureCache
from robustness.models.classifier import Classifier
from robustness.runs.manifest import describe, expect_same, now
from robustness.runs.model_differences import differences
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener
from robustness.runs.repair import Mended, mend
from robustness.runs.result import AuditResult
from robustness.runs.run_json import recorded
from robustness.runs.schema import (
    Check,
    DiagnosisEntry,
    GateEntry,
    Manifest,
    ModelEntry,
    Origin,
    Repair,
    Settings,
)
from robustness.runs.store import Run
from robustness.threat import norms
from robustness.threat.goals import parse as parse_goal
from robustness.threat.mask import Mask
from robustness.threat.threat import Threat


@contextlib.contextmanager
def _frozen_gc() -> Iterator[None]:
    """Whatever is in memory now is not searched for garbage meanwhile.

    TensorFlow and a model are so many objects that going through them takes as long as thirty gradients.
    """
    # Where some are set apart already, somebody else decides.
    ours = not gc.get_freeze_count()
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@_frozen_gc()
def audit(
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    *,
    attacks: Iterable[str | Attack | Ensemble] = (defaults.ATTACK,),
    epsilons: str | Iterable[float | str] = (defaults.EPSILON,),
    labels: np.ndarray | None = None,
    label_column: str | None = None,
    norm: str = "linf",
    target: str | int | None = None,
    mask: np.ndarray | str | Path | None = None,
    surrogate: Classifier | keras.Model | str | Path | None = None,
    precision: str = "float32",
    class_names: Sequence[str] | None = None,
    scaling: str | None = None,
    trust: bool = False,
    limit: int | None = None,
    per_class: int | None = None,
    only: Callable[[Entry], bool] | None = None,
    seed: int = 0,
    all_steps: bool = False,
    cascade: bool | None = None,
    evidence: str = "flips",
    batch_size: int | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    command: str = "",
    origin: Origin | None = None,
    thorough: bool = False,
    declared_accuracy: float | None = None,
    gate: dict[str, Any] | None = None,
    progress: Listener | None = None,
) -> AuditResult:
    """Attack every correctly classified image, verify each flip from its saved file, keep it all.

    Parameters
    ----------
    model: a Classifier, a built Keras model, or the path of a `.keras` or `.h5` file.
    images: a folder, archive, CSV or `.npz` (see `robustness.images.open_source`), a Source, or an
        array (n, height, width, channels) in counts.
    labels: the classes of an array's images: numbers, names or one-hot rows, see
        `robustness.images.truth.by_array`; those of a file are in it.
    label_column: which column of a CSV or array of a `.npz` holds the labels, "none" for none; None to
        know it by its name.
    attacks: names of attacks and ensembles (`robustness attacks` lists them), or such objects. The
        default is an ensemble that is fitted to the norm, the classes, and whether the model has gradients.
    epsilons: budgets in counts, or "4/255"; each attack climbs them in order. None may be larger than
        any change of a picture.
    norm: "linf", "l2", "l1" or "l0"; or "free", where epsilon is what the attack counts (degrees of
        `spatial`, severity of `corruptions`).
    target: the class to reach, by name or number; None for any other class.
    mask: which pixels may change, an array (height, width) or a picture's file, bright where they may
        (`robustness.threat.mask.Mask.of`); None for all.
    surrogate: the model that the attacks look at, where `model` is only asked for its verdict: transfer.
        None for the model itself.
    precision: that of the numbers with which the attacks look at a model: "float32", or "bfloat16", with
        which a gradient takes a quarter less time on a processor made for it (AVX512-BF16). Verdicts are
        always float32's.
    class_names, scaling, trust: as for Classifier; scaling None is decided by accuracy.
    limit, per_class, only, seed: which images, see `robustness.images.select`; the seed is also
        that of the attacks.
    all_steps: take every step, and report the flip of the last point rather than the first flip.
    cascade: each attack sees only what still stands after those before it; None: if an ensemble is
        among them.
    evidence: "flips" keeps the pictures that flipped and the originals of all that were attacked,
        "all" those of images wrong before too, "none" none, a number those of the first so many images.
    batch_size: rows that advance together; from the memory there is if not given.
    run: the run folder; a temporary one if not given. With `resume`, go on with the run in it.
    command, origin: how this was called, for the report.
    thorough: ask the dear diagnostics too, which run attacks again.
    declared_accuracy: what the model is said to reach on such images, 0..1.
    gate: what the run is held against (`robustness.reports.gate.rules.Gate.to_dict`), for the report.
    progress: hears how far it is.

    Returns
    -------
    The run, as an AuditResult. Kill it at any moment: `resume=True` goes on, to the same outcomes.

    Raises
    ------
    SettingError, ModelError, ImagesError, RunError: each says what came and what was expected.
    """
    asked = [ensembles.parse(a) for a in attacks]
    ladder, chosen_norm = parse_epsilons(epsilons), norms.parse(norm)
    known = class_names or (model.class_names if isinstance(model, Classifier) else None)
    source = resolve_images(images, labels, known, label_column)
    entries = select(source.entries(), limit=limit, per_class=per_class, seed=seed, only=only)
    shelf = PictureCache(source)
    names = class_names or source.class_names
    classifier = resolve_model(
        model, shelf, entries, class_names=names, scaling=scaling, trust=trust
    )
    expect_source_classes(source, entries, classifier.class_names)
    eyes = resolve_surrogate(surrogate, classifier, shelf, entries, trust=trust)
    looking = (eyes or classifier).in_precision(precision)
    goal = parse_goal(target, classifier.class_names)
    entries = [e for e in entries if e.label is None or goal.concerns(e.label)]
    _expect_any(entries, source)
    folder = Path(run) if run is not None else _temporary()
    before = _settings_before(folder) if resume else Settings()
    if batch_size is None:
        batch_size = before.slots
    slots = capacity.batch_size_for(classifier) if batch_size is None else batch_size
    region = None if mask is None else Mask.of(mask, classifier.input_shape)
    threat = Threat(ladder, chosen_norm, goal, region)
    threat.expect_possible(classifier.input_shape)

    resolved = partial(
        ensembles.resolve, asked, chosen_norm, goal, classifier.class_names, cascade=cascade
    )
    run_as = resolved(gradients=True)
    plan = Plan(
        run_as.attacks,
        threat,
        seed,
        slots,
        all_steps,
        str(evidence),
        cascade=run_as.cascade,
        replaced=run_as.replaced,
        channels=classifier.input_shape[-1],
        surrogate=eyes.digest if eyes else None,
        precision=looking.precision,
        draws=before.draws,
    )
    answers, findings = (
        ({}, _findings_before(folder)) if resume else _examined(classifier, shelf, entries)
    )
    if eyes is None and not preflight.has_gradients(findings):
        plan = plan.running(resolved(gradients=False))
    if not resume and preflight.is_random(findings):
        plan = replace(plan, draws=votes.DRAWS)
    manifest = describe(plan, classifier, source, entries)
    manifest = manifest.with_changes(
        budgets=tuple(plan.budgets(classifier.input_shape)),
        command=command,
        origin=origin or Origin(),
        surrogate=ModelEntry.model_validate(eyes.card()) if eyes else None,
        notes=tuple(_fitted_elsewhere(plan, manifest.model)),
    )
    if resume:
        store = Run.resume(folder)
        expect_same(store.manifest, manifest)
    else:
        manifest = manifest.with_changes(
            preflight=tuple(Check(**asdict(finding)) for finding in findings),
            data=manifest.data.with_changes(declared_accuracy=declared_accuracy),
            gate=GateEntry.model_validate(gate or {}),
        )
        store = Run.create(folder, manifest)
    with store:
        mended = mend(store, plan, shelf, entries, classifier.input_shape) if resume else Mended()
        if region is not None:
            store.save_png(region.png(plan.channels))
        heard = progress or (lambda _: None)
        Auditor(plan, classifier, shelf, entries, store, heard, looking).run(answers)
        store.write_manifest(
            _ended(
                store.manifest,
                mended,
                diagnose(
                    classifier,
                    plan,
                    shelf,
                    entries,
                    store,
                    thorough=thorough,
                    progress=heard,
                    surrogate=eyes,
                ),
            )
        )
    return AuditResult(folder, mended.sentence if mended else "")


def _examined(
    classifier: Classifier, shelf: PictureCache, entries: list[Entry]
) -> tuple[dict[str, np.ndarray], list[preflight.Finding]]:
    """What the classifier says of a sample of images, by key, and what the checks before the attack found."""
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as hand:
        # Hashing weights takes as long as tracing, and holds no lock of Python's.
        hand.submit(lambda: classifier.digest)
        keys, pixels, truth = shelf.sample(entries, classifier.input_shape)
        seen = classifier.probabilities(pixels)
        findings = preflight.run(classifier, pixels, truth, seen) if keys else []
    return dict(zip(keys, seen, strict=True)), findings


def _ended(manifest: Manifest, mended: Mended, diagnostics: list[DiagnosisEntry]) -> Manifest:
    """The manifest of a run that is over: with its diagnostics, and what was made again."""
    ended = manifest.with_changes(diagnostics=tuple(diagnostics))
    if not mended:
        return ended
    return ended.with_changes(mended=(*ended.mended, Repair(at=now(), **asdict(mended))))


def _expect_any(entries: list[Entry], source: Source) -> None:
    if not entries:
        raise ImagesError(
            f"{source.description}: no image is left to attack. Expected at least one whose class "
            "is not the target; check the target, `limit` and the selection."
        )


def _temporary() -> Path:
    """A place for a run that nobody named one for; StorageError where there is no room."""
    try:
        return Path(tempfile.mkdtemp(prefix="robustness-")) / "run"
    except OSError as error:
        raise StorageError(disk_errors.sentence(error)) from error


def _fitted_elsewhere(plan: Plan, model: ModelEntry) -> list[str]:
    """A sentence for each attack whose change was fitted on another model than the one audited."""
    fitted = {a.label: getattr(a, "fitted_on", None) for a in plan.attacks}
    other = {
        label: differences(recorded(ModelEntry, on, f"What {label} was fitted on"), model)
        for label, on in fitted.items()
        if on
    }
    return [
        f"{label} was fitted on another model: {'; '.join(what)}"
        for label, what in other.items()
        if what
    ]


def _settings_before(folder: Path) -> Settings:
    """The settings a run was started with: bits depend on the batch size, verdicts on the draws."""
    with Run.open(folder) as run:
        return run.manifest.config


def _findings_before(folder: Path) -> list[preflight.Finding]:
    """What the checks before the attack found when a run was started: which attacks run depends on it."""
    with Run.open(folder) as run:
        checks = run.manifest.preflight
    return [
        preflight.Finding(check.id, cast("preflight.Severity", check.severity), check.sentence)
        for check in checks
    ]
