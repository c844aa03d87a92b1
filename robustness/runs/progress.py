"""How far an audit is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a stage is. `stage` is "clean" or an attack's label.

    `flipped`, `robust` (at the largest epsilon), `wrong` (before any attack) and `settled` (flipped by an
    earlier attack of a cascade) are images. `labelled` says that each has a label. `text` is shown once in
    place of progress: a table of the classes before an audit (stage "classes").
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


Listener = Callable[[Progress], None]
