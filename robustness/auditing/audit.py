"""Provides `audit`, which resolves options and inputs into a plan, runs it, and records the result."""

from __future__ import annotations

import contextlib
import gc
import inspect
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import cast

import keras
import numpy as np

from robustness import plugins
from robustness.auditing.auditor import Auditor
from robustness.auditing.deployed_model import (
    DeployedModels,
    StatedPipeline,
    compared_pipelines,
    deployed_models,
    stated_pipeline,
)
from robustness.auditing.inputs import (
    ResolvedInputs,
    make_attacks,
    resolve,
    resolve_images,
    resolve_surrogate,
)
from robustness.auditing.named_model import load_named
from robustness.auditing.option_checks import expect_usable
from robustness.auditing.run_records import (
    class_entries,
    decided_before,
    findings_before,
    finished_manifest,
    fitted_elsewhere,
    folders_left_out,
    imported_layers,
    interrupted_times,
    requested_rows,
    settings_before,
    smaller_batch,
)
from robustness.auditing.survival import with_survival
from robustness.auditing.wrapped_model import (
    gives_sets,
    labelled_parts,
    with_label,
)
from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.audit_file import config_of
from robustness.contract import ensembles
from robustness.diagnostics import preflight
from robustness.diagnostics.diagnose import diagnose
from robustness.engine import batch_size, votes
from robustness.engine.judge import FILE_THREADS
from robustness.errors import ImagesError, StorageError
from robustness.files import disk_errors
from robustness.images import Entry, Source, select
from robustness.images.cache import PictureCache
from robustness.models.adapter import InputAdapter
from robustness.models.classifier import Classifier
from robustness.models.scalings import Scaling
from robustness.runs import stage_times
from robustness.runs.manifest import describe, expect_same
from robustness.runs.notebook import default_listener
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Progress
from robustness.runs.repair import Mended, mend
from robustness.runs.result import AuditResult
from robustness.runs.schema import (
    Check,
    GateEntry,
    Manifest,
    ModelEntry,
    Origin,
    Settings,
)
from robustness.runs.stage_times import StageTimes
from robustness.runs.store import Run
from robustness.text import plural
from robustness.threat import norms
from robustness.threat.goals import Goal
from robustness.threat.goals import parse as parse_goal
from robustness.threat.mask import Mask
from robustness.threat.threat import Threat


@contextlib.contextmanager
def frozen_gc() -> Iterator[None]:
    """Exclude the objects that exist now from garbage collection within the block (`gc.freeze`).

    TensorFlow and a model have so many objects that one collection takes as long as thirty gradients.
    If objects are frozen already, the block changes nothing; otherwise they are unfrozen at its end.
    """
    freeze = not gc.get_freeze_count()
    if freeze:
        gc.freeze()
    try:
        yield
    finally:
        if freeze:
            gc.unfreeze()


def _document(function: Callable[..., AuditResult]) -> None:
    """Give `audit` the fields of AuditConfig as keywords of its signature and docstring."""
    fields = [f for f in audit_options().values() if f.name not in ("model", "images")]
    *own, _ = inspect.signature(function).parameters.values()
    keywords = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.field.annotation
        )
        for f in fields
    ]
    gate = inspect.Parameter("gate", inspect.Parameter.KEYWORD_ONLY, default=None)
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*own, *keywords, gate], return_annotation="AuditResult"
    )
    lines = [f"    {f.name} : {f.option.help} Default: {f.default!r}." for f in fields]
    lines.append("    gate : a dict from `Gate.to_dict`, for the report.")
    function.__doc__ = (function.__doc__ or "").replace("{options}", "\n".join(lines))


@frozen_gc()
@FILE_THREADS.in_use()
def audit(  # noqa: PLR0913 - the public call; its options are the fields of AuditConfig
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    config: AuditConfig | str | Path | Mapping[str, object] | None = None,
    *,
    labels: np.ndarray | None = None,
    only: Callable[[Entry], bool] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    command: str = "",
    origin: Origin | None = None,
    progress: Listener | None = None,
    stages: StageTimes | None = None,
    expect: Callable[[Manifest, Sequence[Entry]], None] | None = None,
    **options: object,
) -> AuditResult:
    """Attack every correctly classified image, verify each flip from its saved file, and record the run.

    Parameters
    ----------
    model : a Classifier, a built Keras model, the path of a `.keras`, `.h5` or `.hdf5` file, a name
        (`robustness models`), or `kaggle:OWNER/NOTEBOOK`.
    images : a folder, archive, CSV or `.npz` (see `robustness.images.open_source`), a name such as `pets:8`,
        a Source, or an array (n, height, width, channels) in counts, 0..255.
    config : the options: an AuditConfig, the path of an audit.toml, or a dict; None for the defaults. The
        arguments `model` and `images` are used in place of the model and images that it names.
    labels : the classes of an array's images: numbers, names or one-hot rows (see
        `robustness.images.label_arrays.by_array`). Other sources contain their labels.
    only : a filter: only the entries for which it returns True are audited and counted.
    out : the run folder; a temporary one if not given.
    resume : continue the run in `out`. A resumed audit has the same outcomes as one that was not interrupted.
    command, origin : how the audit was started, for the report.
    progress : called with a `robustness.runs.progress.Progress` whenever there is progress to show. By
        default a notebook shows a progress bar, and other programs nothing.
    stages : a clock that runs already, for `run.json`: the time before the call is that of its first stage.
    expect : called with the manifest and the images before the first attack; what it raises ends the audit.
    **options : single options, which override those of `config`:

    {options}

    Returns
    -------
    AuditResult
        The finished run.

    Raises
    ------
    SettingError
        An option is unknown or not usable.
    ModelError, ImagesError
        The model or the images cannot be used.
    RunError
        The run folder cannot be used, or the run is damaged.
    """
    disk_errors.expect_named(out, "The path of the run")
    stages = (stages or StageTimes()).start(stage_times.LOADING)
    listener = progress or default_listener()
    config = _checked(config, options)
    attacks, norm = make_attacks(config), norms.parse(config.norm)
    expect_usable(config, model, attacks, norm)
    pipeline, config = stated_pipeline(config, model)
    folder = Path(out) if out is not None else _temporary_folder()
    inputs = _inputs(
        model,
        images,
        labels,
        config,
        only=only,
        before=decided_before(folder) if resume else (None, None),
        command=command,
        pipeline=pipeline,
    )
    classifier, cache, source = inputs.classifier, inputs.cache, inputs.source
    entries, table = inputs.entries, inputs.table
    if table is not None and table.doubtful and not resume:
        listener(Progress("classes", len(table.rows), len(table.rows), text=table.text()))
    surrogate = resolve_surrogate(
        config.surrogate,
        classifier,
        cache,
        entries,
        trust=config.trust_model,
        imports=config.imports,
    )
    models = deployed_models(pipeline, classifier, surrogate, cache, entries)
    classifier, pipeline = models.judge, models.pipeline
    attacked = (models.attacked or classifier).in_precision(config.precision)
    goal = parse_goal(config.target, classifier.class_names)
    entries, spared = _concerned(entries, goal, source)
    before = settings_before(folder) if resume else Settings()
    requested = requested_rows(config, before, classifier)
    # A resumed run keeps the recorded batch size; the auditor limits it to the memory.
    slots = requested if resume else batch_size.bounded(requested, surrogate or classifier)
    threat = _threat(config, norm, goal, models.largest)

    resolved = partial(
        ensembles.resolve, attacks, norm, goal, classifier.class_names, cascade=config.cascade
    )
    with_gradients = resolved(gradients=True)
    plan = Plan(
        with_gradients.attacks,
        threat,
        config.seed,
        slots,
        config.all_steps,
        config.evidence,
        cascade=with_gradients.cascade,
        replaced=with_gradients.replaced,
        channels=classifier.input_shape[-1],
        surrogate=surrogate.digest if surrogate else None,
        precision=attacked.precision,
        draws=before.draws,
        deployment=None if pipeline is None else pipeline.entry(),
    )
    stages.start(stage_times.CHECKS)
    answers, findings = (
        ({}, findings_before(folder)) if resume else _examine(models, cache, entries, listener)
    )
    if surrogate is None and not preflight.has_gradients(findings):
        plan = plan.running(resolved(gradients=False))
    if not resume and preflight.is_random(findings):
        plan = replace(plan, draws=votes.DRAWS)
    manifest = describe(plan, classifier, source, entries)
    manifest = manifest.with_changes(
        budgets=tuple(plan.budgets(classifier.input_shape)),
        command=command,
        origin=origin or Origin(),
        surrogate=ModelEntry.model_validate(surrogate.card()) if surrogate else None,
        notes=(
            *imported_layers(config),
            *classifier.notes,
            *folders_left_out(table),
            *spared,
            *fitted_elsewhere(plan, manifest.model),
            *smaller_batch(requested, slots),
            *_through(pipeline),
        ),
        model=manifest.model.with_changes(class_names_from=inputs.reason or None),
        data=manifest.data.with_changes(classes=class_entries(table)),
    )
    if expect is not None:
        expect(manifest, entries)
    with _store(folder, manifest, config, findings, resume=resume) as store:
        mended = mend(store, plan, cache, entries, classifier.picture_shape) if resume else Mended()
        if threat.mask is not None:
            store.save_png(threat.mask.png(plan.channels))
        with interrupted_times(store, stages):
            Auditor(plan, classifier, cache, entries, store, listener, attacked, stages=stages).run(
                answers
            )
        stages.start(stage_times.DIAGNOSTICS)
        diagnostics = diagnose(
            classifier,
            plan,
            cache,
            entries,
            store,
            thorough=config.thorough,
            progress=listener,
            surrogate=models.attacked,
        )
        survived = with_survival(store.manifest, classifier, models.images, plan, store, listener)
        store.write_manifest(finished_manifest(survived, mended, diagnostics, stages))
    return AuditResult(folder, mended.sentence if mended else "")


_document(audit)


def _inputs(
    model: Classifier | keras.Model | str | Path,
    images: Source | str | Path | np.ndarray,
    labels: np.ndarray | None,
    config: AuditConfig,
    *,
    only: Callable[[Entry], bool] | None,
    before: tuple[tuple[str, ...] | None, Scaling | None],
    command: str,
    pipeline: StatedPipeline | None,
) -> ResolvedInputs:
    """Load what `model` and `images` name, and decide class names, scaling and head.

    `before` are the class names and the scaling of a resumed run, which are not decided a second time.
    """
    names, scaling = before
    own = model.class_names if isinstance(model, Classifier) and model.named else None
    source = resolve_images(images, labels, config.classes or own, config.label_column)
    if pipeline is not None:
        source = pipeline.read_by(source)
    named, config = load_named(model, config)
    if named is not model and isinstance(named, Classifier):
        own = named.class_names if named.named else None
    several = gives_sets(config.head, named)
    return resolve(
        named,
        source,
        lambda one: select(
            one.entries(),
            limit=config.limit,
            per_class=config.per_class,
            seed=config.seed,
            only=_selection(config, only),
        ),
        several=several,
        class_names=config.classes or (names if own is None and not several else None),
        scaling=scaling if config.scaling is None else config.scaling,
        head=config.head,
        adapter=InputAdapter.of(config.given()),
        trust=config.trust_model,
        architecture=config.architecture,
        imports=config.imports,
        command=command,
        prepare=None if pipeline is None else pipeline.preparation,
    )


def _checked(
    config: AuditConfig | str | Path | Mapping[str, object] | None,
    options: dict[str, object],
) -> AuditConfig:
    """Return the options of an audit from Python; SettingError for one that is not usable there."""
    names = options.get("classes")
    if isinstance(names, Iterable) and not isinstance(names, str):
        options = options | {"classes": [str(name) for name in names]}
    return config_of(config, options)


def _threat(config: AuditConfig, norm: norms.Norm, goal: Goal, shape: tuple[int, ...]) -> Threat:
    """Return the threat of the options; SettingError if images of `shape` cannot be changed so."""
    mask = None
    if config.mask is not None:
        mask = Mask.of(cast("np.ndarray | str | Path", config.mask), shape)
    threat = Threat(config.epsilons, norm, goal, mask)
    threat.expect_possible(shape)
    return threat


def _through(pipeline: StatedPipeline | None) -> list[str]:
    """A sentence where attacks look through a named convention in place of the user's function."""
    sentence = "" if pipeline is None else pipeline.sentence
    return [sentence.rstrip(".")] if sentence else []


def _store(
    folder: Path,
    manifest: Manifest,
    config: AuditConfig,
    findings: Sequence[preflight.Finding],
    *,
    resume: bool,
) -> Run:
    """Open the run to be resumed, which must have this manifest; or create it."""
    if resume:
        store = Run.resume(folder)
        expect_same(store.manifest, manifest)
        return store
    return Run.create(
        folder,
        manifest.with_changes(
            preflight=tuple(Check(**asdict(finding)) for finding in findings),
            data=manifest.data.with_changes(declared_accuracy=config.accuracy),
            gate=GateEntry.model_validate(config.gate or {}),
        ),
    )


def _selection(
    config: AuditConfig, only: Callable[[Entry], bool] | None
) -> Callable[[Entry], bool] | None:
    """Return the filter `only`; with `held_out` also that of the photographs not used for training."""
    if not config.held_out:
        return only
    held_out = plugins.load(plugins.INPUTS, "held-out")
    return lambda entry: held_out(entry.name) and (only is None or only(entry))


def _examine(
    models: DeployedModels, cache: PictureCache, entries: list[Entry], listener: Listener
) -> tuple[dict[str, np.ndarray], list[preflight.Finding]]:
    """Return probabilities for a sample of images, by key, and the findings of the preflight checks."""
    listener(Progress("checks", 0, 1))
    classifier = models.images
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as executor:
        # Hashing weights takes as long as tracing, and releases Python's global lock.
        executor.submit(lambda: classifier.digest)
        keys, pixels, truth = cache.sample(with_label(entries) or entries, classifier.input_shape)
        probabilities = classifier.probabilities(pixels)
        more = labelled_parts(cache, entries, classifier.input_shape)
        findings = preflight.run(classifier, pixels, truth, probabilities, more) if keys else []
        if keys and not preflight.is_random(findings):
            findings += compared_pipelines(models, cache, entries)
    listener(Progress("checks", 1, 1))
    # Answers to rounded images are none to uploaded pictures.
    direct = models.judge.deployment is None
    return dict(zip(keys, probabilities, strict=True)) if direct else {}, findings


def _concerned(entries: list[Entry], goal: Goal, source: Source) -> tuple[list[Entry], list[str]]:
    """Return the images that a goal concerns, and a sentence if others are left out."""
    concerned = [e for e in entries if e.label is None or goal.concerns(e.label)]
    _expect_any(concerned, source)
    left = len(entries) - len(concerned)
    sentence = f"{plural(left, 'image')} of the target class left out, which cannot be moved to it"
    return concerned, [sentence] if left else []


def _expect_any(entries: list[Entry], source: Source) -> None:
    if not entries:
        raise ImagesError(
            f"{source.description}: no image is left to attack. Expected at least one whose class "
            "is not the target; check the target, `limit` and the selection."
        )


def _temporary_folder() -> Path:
    """Return a temporary run folder; StorageError if the disk is full or not writable."""
    try:
        return Path(tempfile.mkdtemp(prefix="robustness-")) / "run"
    except OSError as error:
        raise StorageError(disk_errors.sentence(error)) from error
