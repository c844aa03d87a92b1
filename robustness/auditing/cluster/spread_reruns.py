"""Spreads the diagnostics that run attacks again over the workers of an audit, one rerun at a time each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustness.auditing.cluster.spread_tasks import spread_tasks
from robustness.diagnostics import Diagnosis
from robustness.diagnostics.model_queries import Sample
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.diagnostics.reruns import RERUNS, title
from robustness.diagnostics.stored_run import StoredRun

if TYPE_CHECKING:
    from robustness.auditing.cluster.driver import ClusterWork

LONGEST = ("paths", "one_restart_more", "more_steps")
"""The reruns that take longest and so begin first."""


@dataclass(frozen=True)
class RerunMaterial:
    """What a worker needs to run attacks again besides its models: the stored run, and sample images."""

    record: StoredRun
    sample: Sample


def spread_reruns(
    work: ClusterWork, setup: RerunSetup, progress: Callable[[str], None]
) -> list[Diagnosis]:
    """Make the diagnoses that run attacks again by workers, in the order of one process.

    Parameters
    ----------
    work : the workers.
    setup : the run, and images to run on.
    progress : called with the name of each rerun when it is first begun.
    """
    material = RerunMaterial(setup.record, setup.sample)
    equipped: set[int] = set()

    def start(worker: int, number: int) -> None:
        work.start(worker, "rerun", number, None if worker in equipped else material)
        equipped.add(worker)

    found: dict[int, list[Diagnosis]] = dict(
        spread_tasks(
            work,
            sorted(range(len(RERUNS)), key=_begins),
            start,
            lambda number: RERUNS[number](setup),
            lambda number: progress(title(RERUNS[number])),
        )
    )
    return [diagnosis for number in range(len(RERUNS)) for diagnosis in found[number]]


def _begins(number: int) -> int:
    """The place of a rerun in the order in which they begin."""
    name = RERUNS[number].__name__
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
