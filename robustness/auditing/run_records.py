"""What a run records beside its results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict

from robustness.configuration.audit_config import AuditConfig
from robustness.engine import batch_size
from robustness.images.class_match import ClassTable
from robustness.models.classifier import Classifier
from robustness.runs.manifest import now
from robustness.runs.model_differences import differences
from robustness.runs.plan import Plan
from robustness.runs.repair import Mended
from robustness.runs.run_json import recorded
from robustness.runs.schema import (
    ClassEntry,
    DiagnosisEntry,
    Manifest,
    ModelEntry,
    Repair,
    Settings,
)
from robustness.runs.stage_times import StageTimes
from robustness.runs.store import Run


@contextlib.contextmanager
def interrupted_times(store: Run, stages: StageTimes) -> Iterator[None]:
    """Record the times so far if the block is interrupted: the resumed run adds its own."""
    try:
        yield
    except KeyboardInterrupt:
        manifest = store.manifest
        store.write_manifest(manifest.with_changes(timing=stages.timing(manifest.timing)))
        raise


def finished_manifest(
    manifest: Manifest, mended: Mended, diagnostics: list[DiagnosisEntry], stages: StageTimes
) -> Manifest:
    """Return the manifest of a finished run, with its diagnostics, times and the repaired files."""
    stages.stop()
    finished = manifest.with_changes(
        diagnostics=tuple(diagnostics), timing=stages.timing(manifest.timing)
    )
    if not mended:
        return finished
    return finished.with_changes(mended=(*finished.mended, Repair(at=now(), **asdict(mended))))


def fitted_elsewhere(plan: Plan, model: ModelEntry) -> list[str]:
    """Return a sentence for each attack whose change was fitted on another model than the audited one."""
    fitted = {a.label: getattr(a, "fitted_on", None) for a in plan.attacks}
    different = {
        label: differences(recorded(ModelEntry, other, f"What {label} was fitted on"), model)
        for label, other in fitted.items()
        if other
    }
    return [
        f"{label} was fitted on another model: {'; '.join(parts)}"
        for label, parts in different.items()
        if parts
    ]


def imported_layers(config: AuditConfig) -> list[str]:
    """A sentence where own layers of the model were imported."""
    if not config.imports:
        return []
    return [f"the model's own layers are those of {', '.join(config.imports)}"]


def requested_rows(config: AuditConfig, before: Settings, classifier: Classifier) -> int:
    """Return the batch size in the options, else the recorded one, else the one that suits the model."""
    if config.batch_size is not None:
        return config.batch_size
    return before.slots or batch_size.batch_size_for(classifier)


def smaller_batch(requested: int, slots: int) -> list[str]:
    """Return a sentence if the batch is smaller than requested."""
    if slots == requested:
        return []
    return [f"a batch of {requested:,} rows was requested; {slots:,} fit into the available memory"]


def folders_left_out(table: ClassTable | None) -> list[str]:
    """A sentence where images of folders that are no class of the model are left out."""
    return [table.sentence] if table is not None and table.left_out else []


def class_entries(table: ClassTable | None) -> tuple[ClassEntry, ...]:
    """Which folder has which class, for `run.json`."""
    rows = () if table is None else table.rows
    return tuple(
        ClassEntry(found=row.found, images=row.images, output=row.index, matched_by=row.how)
        for row in rows
    )
