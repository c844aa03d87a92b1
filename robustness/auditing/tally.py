"""Counts the progress of one attack for progress displays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from robustness.runs.progress import Progress
from robustness.runs.records import FLIPPED, MISCLASSIFIED, ROBUST, SETTLED


@dataclass
class Tally:
    """The progress of an attack: images done, and the number with each status at the largest epsilon.

    The attack is number `place` of `places`; `epsilon` is the largest epsilon, None without a norm.
    """

    stage: str
    counts: Counter[str]
    done: int = 0
    place: int = 0
    places: int = 0
    epsilon: float | None = None

    def add(self, status: str) -> None:
        """Count one more image."""
        self.counts[status] += 1
        self.done += 1

    def progress(self, total: int, labelled: bool) -> Progress:
        """Return the counts as a `Progress` of `total` images."""
        return Progress(
            self.stage,
            self.done,
            total,
            flipped=self.counts[FLIPPED],
            robust=self.counts[ROBUST],
            wrong=self.counts[MISCLASSIFIED],
            settled=self.counts[SETTLED],
            labelled=labelled,
            place=self.place,
            places=self.places,
            epsilon=self.epsilon,
        )
