"""`Progress`: what an audit reports to its listeners while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The progress of one stage of an audit.

    Parameters
    ----------
    stage : str
        "checks", "classes", "clean", the label of an attack, "step pictures", "diagnostics", "survival" or
        "reports".
    done, total : int
        Images finished in the stage, and all its images.
    flipped, robust, wrong, settled : int
        Images flipped, robust at the largest epsilon, misclassified before any attack, and flipped by an
        earlier attack of the cascade.
    labelled : bool
        Whether every image has a label.
    text : str
        A text that is shown once in place of progress, such as the table of the classes (stage "classes").
    place, places : int
        The attack is number `place` of `places`; 0 for other stages.
    epsilon : float, optional
        The epsilon, in counts, at which `flipped` and `robust` are counted: the largest.
    part : str
        What the stage does now, such as the name of a diagnostic.
    workers : int
        The number of workers of a cluster at the moment; 0 without one.
    """

    stage: str
    done: int
    total: int
    flipped: int = 0
    robust: int = 0
    wrong: int = 0
    settled: int = 0
    labelled: bool = True
    text: str = ""
    place: int = 0
    places: int = 0
    epsilon: float | None = None
    part: str = ""
    workers: int = 0


Listener = Callable[[Progress], None]
