"""Counts the progress of one attack for progress displays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from robustness.runs.progress import Progress
from robustness.runs.records import FLIPPED, MISCLASSIFIED, ROBUST, SETTLED


@dataclass
class Tally:
    """The progress of an attack: images done, and the number with each status at the largest epsilon."""

    stage: str
    counts: Counter[str]
    done: int = 0

    def add(self, status: str) -> None:
        """Count one more image."""
        self.counts[status] += 1
        self.done += 1

    def progress(self, total: int, labelled: bool) -> Progress:
        """Return the counts as a `Progress` of `total` images."""
        names = {"flipped": FLIPPED, "robust": ROBUST, "wrong": MISCLASSIFIED, "settled": SETTLED}
        counts = {name: self.counts[status] for name, status in names.items()}
        return Progress(self.stage, self.done, total, **counts, labelled=labelled)
