"""Every diagnostic of a finished run, and the gravest of what several ways of asking found."""

from __future__ import annotations

from collections.abc import Iterable

from robustness.diagnostics import FAIL, OK, SKIPPED, TITLES, WARN, Diagnosis, skipped
from robustness.diagnostics.model_queries import Sample, diagnose_looks
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.diagnostics.reruns import TRIALS, diagnose_trials
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

_GRAVITY = (FAIL, WARN, OK, SKIPPED)


def diagnose(
    classifier: Classifier,
    plan: Plan,
    shelf: PictureCache,
    entries: Iterable[Entry],
    run: Run,
    *,
    thorough: bool = False,
    progress: Listener = lambda _: None,
    surrogate: Classifier | None = None,
) -> list[DiagnosisEntry]:
    """Ask everything of a run; the dear questions only if `thorough`. Attacks that run again look
    at the `surrogate`, if there is one. For `run.json`, by number.
    """
    record = StoredRun.of(run, (a.label for a in plan.attacks if a.baseline))
    sample = sample_of(record, shelf, entries, classifier)
    found: list[Diagnosis] = []
    total = 1
    if thorough:
        trial = RerunSetup(classifier, plan, record, sample, surrogate)
        total += len(TRIALS)
        found += diagnose_trials(trial, lambda n, _: progress(Progress("diagnostics", n, total)))
    else:
        progress(Progress("diagnostics", 0, total))
    found += diagnose_rows(record)
    found += diagnose_looks(classifier, plan, record, sample, run, thorough=thorough)
    progress(Progress("diagnostics", total, total))
    return [DiagnosisEntry(**one.to_dict()) for one in merged(found)]


def sample_of(
    record: StoredRun, shelf: PictureCache, entries: Iterable[Entry], classifier: Classifier
) -> Sample:
    """Correctly classified images, survivors first, else in the order of the run."""
    classes = dict(zip(record.images.key, record.images.clean_class, strict=True))
    standing = record.survivors
    attacked = [e for e in entries if e.key in record.attacked]
    ordered = sorted(attacked, key=lambda e: e.key not in standing)[:SAMPLE]
    subjects, survivors = [], 0
    for entry in ordered:
        picture = shelf.read(entry, classifier.input_shape)
        if picture.pixels is not None:
            label = int(classes[entry.key])
            subjects.append(Example(entry.key, picture.pixels, label))
            survivors += entry.key in standing
    return Sample(tuple(subjects), survivors)


def _before(number: str) -> bool:
    """Whether the checks before the attack ask it."""
    return number[0] == "P" or number == "D28"


def merged(found: Iterable[Diagnosis]) -> list[Diagnosis]:
    """One diagnosis a number, the gravest, of equals the first; those nobody asked are skipped."""
    best: dict[str, Diagnosis] = {}
    for one in found:
        known = best.get(one.id)
        if known is None or _GRAVITY.index(one.status) < _GRAVITY.index(known.status):
            best[one.id] = one
    why = "Not asked: it runs attacks again. --thorough asks it."
    early = "The checks before the attack did not come to it."
    return [
        best.get(number) or skipped(number, early if _before(number) else why)
        for number in sorted(TITLES)
    ]
