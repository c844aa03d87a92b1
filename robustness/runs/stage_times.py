"""Measures how long the stages of an audit take, by the wall clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from robustness.files.writing import replace_within
from robustness.runs import run_folder
from robustness.runs.run_json import text_of
from robustness.runs.schema import Timing
from robustness.runs.store import Run

LOADING, CHECKS, CLEAN = "loading", "checks before the attack", "clean pass"
STEPS, DIAGNOSTICS, REPORTS = "step pictures", "diagnostics", "reports"


def attack_stage(label: str) -> str:
    """Return the name of the stage in which the attack `label` runs."""
    return f"attack {label}"


class StageTimes:
    """A clock of stages: a stage lasts until the next one starts. Not for several threads."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._stage, self._since = "", 0.0

    def start(self, stage: str) -> Self:
        """End the current stage and start another one; the times of a stage that starts again add up."""
        self.stop()
        self._stage, self._since = stage, time.monotonic()
        return self

    def stop(self) -> None:
        """End the current stage."""
        if self._stage:
            self._seconds[self._stage] = self._of_current()
            self._stage = ""

    def _of_current(self) -> float:
        return self._seconds.get(self._stage, 0.0) + time.monotonic() - self._since

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each stage, in the order of their starts; of the current one until now."""
        current = {self._stage: self._of_current()} if self._stage else {}
        return self._seconds | current

    def timing(self, before: Timing) -> Timing:
        """Return the times for `run.json`: those recorded `before` the run was resumed, and these."""
        stages = _added(before.stages, self.seconds)
        seconds = (before.seconds or 0.0) + sum(self.seconds.values())
        return before.with_changes(seconds=round(seconds, 3), stages=stages)


def _added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {
        name: round(one.get(name, 0.0) + other.get(name, 0.0), 3)
        for name in dict(one) | dict(other)
    }


def record_reports(path: Path, seconds: float) -> None:
    """Add the time that reports took to the stages of a finished run; a disk error is ignored.

    The total of the run, which the reports show, does not include it.
    """
    with contextlib.suppress(OSError), Run.open(path) as run:
        timing = run.manifest.timing
        stages = _added(timing.stages, {REPORTS: seconds})
        manifest = run.manifest.with_changes(timing=timing.with_changes(stages=stages))
        replace_within(path, run_folder.MANIFEST, text_of(manifest))
