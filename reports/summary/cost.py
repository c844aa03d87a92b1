"""What a run cost: time and passes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.runs.schema import Manifest
from robustness.runs.stage_times import REPORTS


@dataclass(frozen=True)
class Cost:
    """The cost of the run. Passes are per image, not per batch.

    `stages` are the seconds of each stage by name, in order, where the run recorded them.
    """

    seconds: float | None
    forward: int
    backward: int
    stages: tuple[tuple[str, float], ...] = ()

    @property
    def time(self) -> tuple[str, float | None]:
        """The wall-clock time in seconds and its name, which says if the reports are not part of it."""
        reports = dict(self.stages).get(REPORTS)
        if self.seconds is None or reports is None:
            return "time without the reports", self.seconds
        return "time", self.seconds + reports


def cost_of(manifest: Manifest, outcomes: pd.DataFrame) -> Cost:
    """Return the cost of a run from its manifest and its outcomes."""
    took = manifest.timing.seconds
    return Cost(
        seconds=None if took is None else float(took),
        forward=int(outcomes["forward"].sum()),
        backward=int(outcomes["backward"].sum()),
        stages=_stages(manifest.timing.to_json()),
    )


def _stages(timing: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """What `timing` of the manifest says besides the total: seconds by stage, perhaps in a table."""
    found: list[tuple[str, float]] = []
    for name, value in timing.items():
        if isinstance(value, Mapping):
            found += _stages(value)
        elif name != "seconds" and isinstance(value, int | float) and not isinstance(value, bool):
            found.append((str(name), float(value)))
    return tuple((name, value) for name, value in found if math.isfinite(value) and value >= 0)
