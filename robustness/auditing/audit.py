"""Provides `audit`, which sets an audit up, runs its plan, and records the result."""

from __future__ import annotations

import contextlib
import gc
import inspect
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import keras
import numpy as np

from robustness.auditing.auditor import Auditor
from robustness.auditing.cluster.start import expect_sendable, workers
from robustness.auditing.decisions import Decisions
from robustness.auditing.deployed_model import compared_pipelines
from robustness.auditing.run_records import finished_manifest, interrupted_times
from robustness.auditing.setup import AuditSetup, set_up
from robustness.auditing.survival import with_survival
from robustness.auditing.wrapped_model import labelled_parts, with_label
from robustness.configuration.audit_config import AuditConfig, audit_options
from robustness.configuration.audit_file import config_of
from robustness.diagnostics import preflight
from robustness.diagnostics.diagnose import diagnose
from robustness.engine.judge import FILE_THREADS
from robustness.environment import without_garbage_collection
from robustness.errors import ImagesError, StorageError
from robustness.files import disk_errors
from robustness.images import Entry, Source
from robustness.images.cache import SAMPLE
from robustness.images.class_match import ClassTable
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import naming
from robustness.runs import stage_times
from robustness.runs.evidence_upload import evidence_upload, expect_apart
from robustness.runs.manifest import expect_same
from robustness.runs.notebook import default_listener
from robustness.runs.progress import Listener, Progress
from robustness.runs.read_ahead import found_in, reading_ahead
from robustness.runs.repair import Mended, mend
from robustness.runs.result import AuditResult
from robustness.runs.schema import Check, GateEntry, Manifest, Origin
from robustness.runs.stage_times import StageTimes
from robustness.runs.store import Run


@contextlib.contextmanager
def frozen_gc() -> Iterator[None]:
    """Exclude the objects that exist now from garbage collection within the block (`gc.freeze`).

    TensorFlow and a model have so many objects that one collection takes as long as thirty gradients.
    If objects are frozen already, the block changes nothing; otherwise they are unfrozen at its end.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    _FROZEN.append(True)
    try:
        yield
    finally:
        _FROZEN.pop()
        gc.unfreeze()


_FROZEN: list[bool] = []
"""Not empty within a block of `frozen_gc` that froze objects."""


def freeze_more() -> None:
    """Exclude the objects that were made since as well: a million entries take a second per collection."""
    if _FROZEN:
        gc.freeze()


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
    asked = _checked(config, options)
    expect_sendable(asked, model, images, only)
    expect_apart(asked.evidence_to, images if isinstance(images, str) else asked.images)
    # Another process reads the run meanwhile.
    with reading_ahead(Path(out or "")) if resume else contextlib.nullcontext():
        # The entries are frozen before the first collection visits them.
        with without_garbage_collection():
            setup = set_up(
                model,
                images,
                labels,
                asked,
                only=only,
                decided=Decisions.of_run(Path(out or "")) if resume else None,
                command=command,
                doubtful=lambda table: listener(_classes(table)),
            )
            freeze_more()
        folder = Path(out) if out is not None else _temporary_folder()
        config, classifier, cache = setup.config, setup.classifier, setup.cache
        entries = setup.part
        stages.start(stage_times.CHECKS)
        answers, findings = (
            ({}, list(setup.decided.findings)) if resume else examine(setup, listener)
        )
        plan = setup.planned(findings, resumed=resume)
        manifest = setup.manifest(plan, command=command, origin=origin)
        if expect is not None:
            expect(manifest, entries)
        with (
            _store(folder, manifest, config, findings, resume=resume) as store,
            evidence_upload(folder, config.evidence_to),
        ):
            mended = (
                mend(
                    store,
                    plan,
                    cache,
                    entries,
                    classifier.picture_shape,
                    first=setup.first,
                    classes=len(classifier.class_names),
                )
                if resume
                else Mended()
            )
            if plan.threat.mask is not None:
                store.save_png(plan.threat.mask.png(plan.channels))
            with workers(asked, model, images, labels, store) as work_of:
                auditor = Auditor(setup, plan, store, listener, work_of, stages=stages)
                with interrupted_times(store, stages):
                    auditor.run(answers)
                reruns = auditor.work.reruns
                # Its compiled steps take memory.
                del auditor
                stages.start(stage_times.DIAGNOSTICS)
                diagnostics = diagnose(
                    classifier,
                    plan,
                    cache,
                    entries,
                    store,
                    progress=listener,
                    surrogate=setup.models.attacked,
                    reruns=reruns if config.thorough else None,
                )
            survived = with_survival(
                store.manifest, classifier, setup.models.images, plan, store, listener
            )
            store.write_manifest(finished_manifest(survived, mended, diagnostics, stages))
    return AuditResult(folder, mended.sentence if mended else "")


_document(audit)


def _classes(table: ClassTable) -> Progress:
    """The progress that shows the table of the classes."""
    return Progress("classes", len(table.rows), len(table.rows), text=table.text())


def _checked(
    config: AuditConfig | str | Path | Mapping[str, object] | None,
    options: dict[str, object],
) -> AuditConfig:
    """Return the options of an audit from Python; SettingError for one that is not usable there."""
    names = options.get("classes")
    if isinstance(names, Iterable) and not isinstance(names, str):
        options = options | {"classes": [str(name) for name in names]}
    return config_of(config, options)


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
        store = Run.resume(folder, partial(found_in, folder))
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


def examine(
    setup: AuditSetup, listener: Listener
) -> tuple[dict[str, np.ndarray], list[preflight.Finding]]:
    """Return probabilities for a sample of images, by key, and the findings of the preflight checks."""
    listener(Progress("checks", 0, 1))
    # Every shard decides by the same images.
    models, cache, entries = setup.models, setup.cache, list(setup.entries)
    classifier = models.images
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as executor:
        # Hashing weights takes as long as tracing, and releases Python's global lock.
        executor.submit(lambda: classifier.digest)
        some = with_label(entries) or entries
        keys, pixels, truth = cache.sample(some, classifier.input_shape)
        if not keys:
            _expect_there(setup.inputs.source)
        names = {entry.key: entry.name for entry in some[:SAMPLE]}
        with naming([names[key] for key in keys]):
            probabilities = classifier.probabilities(pixels)
        more = labelled_parts(cache, entries, classifier.input_shape)
        findings = (
            preflight.run(classifier, pixels, truth, probabilities, more, setup.surrogate)
            if keys
            else []
        )
        if keys and not preflight.is_random(findings):
            findings += compared_pipelines(models, cache, entries)
    listener(Progress("checks", 1, 1))
    # Answers to rounded images are none to uploaded pictures.
    direct = models.judge.deployment is None
    return dict(zip(keys, probabilities, strict=True)) if direct else {}, findings


def _expect_there(source: Source) -> None:
    """Raise ImagesError if the files of a source are gone: then its images are no outcomes."""
    lost = getattr(source, "lost", None)
    if lost is not None and (why := lost()):
        raise ImagesError(
            f"{source.description}: its files have gone or changed since they were listed ({why}), so no "
            "image can be read. Expected the same files during the whole audit; restore them and begin again."
        )


def _temporary_folder() -> Path:
    """Return a temporary run folder; StorageError if the disk is full or not writable."""
    try:
        return Path(tempfile.mkdtemp(prefix="robustness-")) / "run"
    except OSError as error:
        raise StorageError(disk_errors.sentence(error)) from error
