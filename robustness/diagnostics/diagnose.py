"""Runs all diagnostics of a finished run; of several results for one number the most severe counts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from robustness.diagnostics import FAIL, OK, SKIPPED, TITLES, WARN, Diagnosis, skipped
from robustness.diagnostics.model_queries import PARTS, Sample, diagnose_looks
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.diagnostics.reruns import RERUNS, Reruns
from robustness.diagnostics.stored_outcomes import diagnose_rows
from robustness.diagnostics.stored_run import StoredRun
from robustness.engine.jobs import Example
from robustness.images import Entry
from robustness.images.cache import SAMPLE, PictureCache
from robustness.models.classifier import Classifier
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Progress
from robustness.runs.schema import DiagnosisEntry
from robustness.runs.store import Run

SAMPLE_BYTES = 128 << 20
"""The size of all sample pictures in bytes, after which no further one is added."""
_SEVERITY = (FAIL, WARN, OK, SKIPPED)


def diagnose(
    classifier: Classifier,
    plan: Plan,
    shelf: PictureCache,
    entries: Iterable[Entry],
    run: Run,
    *,
    progress: Listener = lambda _: None,
    surrogate: Classifier | None = None,
    reruns: Reruns | None = None,
) -> list[DiagnosisEntry]:
    """Run all diagnostics of a finished run.

    Parameters
    ----------
    classifier : the user's model.
    plan, shelf, entries, run : those of the audit; `shelf` holds decoded pictures.
    progress : called with the progress.
    surrogate : the model that attacks use, if it is not the user's.
    reruns : makes the diagnoses that run attacks again, for a thorough audit; None leaves them out.

    Returns
    -------
    The diagnoses for `run.json`, by number.
    """
    record = StoredRun.of(run, (a.label for a in plan.attacks if a.baseline))
    sample = sample_of(record, shelf, entries, classifier)
    diagnoses: list[Diagnosis] = []
    total = (len(RERUNS) if reruns else 0) + 1 + len(PARTS)
    done = count()

    def report(part: str) -> None:
        progress(Progress("diagnostics", next(done), total, part=part))

    if reruns is not None:
        setup = RerunSetup(classifier, plan, record, sample, surrogate)
        diagnoses += reruns(setup, report)
    report("stored outcomes")
    diagnoses += diagnose_rows(record)
    diagnoses += diagnose_looks(
        classifier,
        plan,
        record,
        sample,
        run,
        thorough=reruns is not None,
        progress=report,
        surrogate=surrogate if record.transferred else None,
    )
    progress(Progress("diagnostics", total, total))
    return [DiagnosisEntry(**diagnosis.to_dict()) for diagnosis in merged(diagnoses)]


def sample_of(
    record: StoredRun, shelf: PictureCache, entries: Iterable[Entry], classifier: Classifier
) -> Sample:
    """Return at most `SAMPLE` correctly classified images, survivors first, each group in the run's order."""
    classes = dict(zip(record.images.key, record.images.clean_class, strict=True))
    standing = record.survivors
    attacked = [e for e in entries if e.key in record.attacked]
    ordered = sorted(attacked, key=lambda e: e.key not in standing)[:SAMPLE]
    examples, survivors = [], 0
    left = SAMPLE_BYTES
    for entry in ordered:
        if left < 0:
            break
        picture = shelf.read(entry, classifier.picture_shape)
        if picture.pixels is not None:
            label = int(classes[entry.key])
            examples.append(Example(entry.key, picture.pixels, label))
            survivors += entry.key in standing
            left -= picture.pixels.nbytes
    return Sample(tuple(examples), survivors)


def _before(number: str) -> bool:
    """Whether this diagnosis is made by the checks before the attack."""
    return number[0] == "P" or number == "D28"


def merged(diagnoses: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Return one diagnosis per number, the first of the most severe ones; numbers without any are skipped."""
    best: dict[str, Diagnosis] = {}
    for diagnosis in diagnoses:
        known = best.get(diagnosis.id)
        if known is None or _SEVERITY.index(diagnosis.status) < _SEVERITY.index(known.status):
            best[diagnosis.id] = diagnosis
    why = "Not asked: it runs attacks again. --thorough asks it."
    early = "The checks before the attack did not come to it."
    return [
        best.get(number) or skipped(number, early if _before(number) else why)
        for number in sorted(TITLES)
    ]
