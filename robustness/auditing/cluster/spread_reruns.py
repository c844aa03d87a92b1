"""Spreads the diagnostics that run attacks again over the workers of an audit, one rerun at a time each.

A rerun is a function of the run and a sample of its images, so that its result is that of one process on
hardware of the driver's kind. Other workers get none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class Rerun:
    """The diagnoses of one rerun.

    Attributes
    ----------
    number : its place in `RERUNS`.
    diagnoses : what it found.
    processor_seconds : the processor time that the worker has used since it began.
    """

    number: int
    diagnoses: list[Diagnosis]
    processor_seconds: float


def spread_reruns(
    work: ClusterWork, setup: RerunSetup, progress: Callable[[str], None]
) -> list[Diagnosis]:
    """Make the diagnoses that run attacks again by workers, in the order of one process.

    Without a worker of the driver's kind this process makes the next one.

    Parameters
    ----------
    work : the workers.
    setup : the run, and images to run on.
    progress : called with the name of each rerun when it is first begun.
    """
    material = RerunMaterial(setup.record, setup.sample)
    waiting = deque(sorted(range(len(RERUNS)), key=_begins))
    begun: set[int] = set()
    held: dict[int, int] = {}
    equipped: set[int] = set()
    found: dict[int, list[Diagnosis]] = {}

    def begin() -> int:
        number = waiting.popleft()
        if number not in begun:
            begun.add(number)
            progress(title(RERUNS[number]))
        return number

    while len(found) < len(RERUNS):
        for worker in work.free(()):
            if work.records[worker].like and waiting:
                held[worker] = begin()
                given = None if worker in equipped else material
                equipped.add(worker)
                work.start(worker, "rerun", held[worker], given)
        if waiting and not work.like_workers():
            number = begin()
            found[number] = RERUNS[number](setup)
        for event in work.events():
            if event.kind == "item" and isinstance(event.value, Rerun):
                work.records[event.worker].processor_seconds = event.value.processor_seconds
                found[event.value.number] = event.value.diagnoses
                held.pop(event.worker, None)
            elif event.kind == "lost" and event.worker in held:
                waiting.appendleft(held.pop(event.worker))
    return [diagnosis for number in range(len(RERUNS)) for diagnosis in found[number]]


def _begins(number: int) -> int:
    """The place of a rerun in the order in which they begin."""
    name = RERUNS[number].__name__
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
