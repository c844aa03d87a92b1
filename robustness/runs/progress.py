"""`Progress`: what an audit reports to its listeners while it runs."""

from __future__ import annotations

import time
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
    rate : float
        Images per second since the stage began in this process, without those of before; 0 while unknown.
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
    rate: float = 0.0


class Pace:
    """Measures the images per second of a stage.

    Parameters
    ----------
    done : int
        The images that need no work in this process: they are not counted.
    """

    def __init__(self, done: int) -> None:
        self._from, self._since = done, time.monotonic()

    def rate(self, done: int) -> float:
        """Return the images per second since the stage began, once a second has passed; before that 0."""
        passed = time.monotonic() - self._since
        return (done - self._from) / passed if passed >= 1 else 0.0


def in_words(rate: float) -> str:
    """Return images per second in words; "" for 0.

    >>> [in_words(rate) for rate in (1234.5, 12.34, 0.5, 0.02, 0)]
    ['1,234 images/s', '12.3 images/s', '0.5 images/s', '50 s per image', '']
    """
    if not rate:
        return ""
    if rate < 0.1:
        return f"{1 / rate:,.0f} s per image"
    return f"{rate:,.0f} images/s" if rate >= 100 else f"{rate:.3g} images/s"


Listener = Callable[[Progress], None]
