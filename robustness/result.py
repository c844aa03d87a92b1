"""What an audit returns."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from robustness import plugins
from robustness.store import FLIPPED, ROBUST, Run

_COLUMNS = [
    *("image", "label", "clean_class", "attack", "epsilon", "status", "adversarial_class"),
    *(
        "confidence_before",
        "confidence_after",
        "l0",
        "l1",
        "l2",
        "linf",
        "step",
        "forward",
        "backward",
    ),
]


class AuditResult:
    """A finished run, to look at: rates, a table, a report. Reads the run folder only."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def _run(self) -> Run:
        return Run.open(self.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """What was run, with what, on what."""
        return self._run.manifest

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """The outcomes as the store has them; see `to_frame` for names instead of numbers."""
        return self._run.outcomes()

    @cached_property
    def flip_rates(self) -> pd.Series:
        """Flipped share of the initially correct images, by attack and epsilon."""
        judged = self.outcomes[self.outcomes.status.isin([FLIPPED, ROBUST])]
        return (judged.status == FLIPPED).groupby([judged.attack, judged.epsilon]).mean()

    @property
    def flip_rate(self) -> float:
        """Share of the initially correct images that any attack flips at the largest epsilon.

        NaN where no image was correct.
        """
        judged = self.outcomes[self.outcomes.status.isin([FLIPPED, ROBUST])]
        last = judged[judged.epsilon == judged.epsilon.max()]
        return float((last.status == FLIPPED).groupby(last.image).any().mean())

    def to_frame(self) -> pd.DataFrame:
        """A row per image x attack x epsilon, classes by name, distances in counts."""
        names = dict(enumerate(self.manifest["class_names"]))
        images = self._run.images()[["key", "label", "clean_class"]]
        frame = self.outcomes.merge(images, left_on="image", right_on="key", how="left")
        for column in ("label", "clean_class", "adversarial_class"):
            frame[column] = frame[column].map(names)
        return frame[_COLUMNS]

    def report(self, path: str | Path | None = None, *, kind: str = "html") -> Path:
        """Write the report; to the run folder unless `path` says otherwise. Returns where it is."""
        return plugins.load(plugins.REPORTS, kind)(self.path, path)

    def __repr__(self) -> str:
        count = self.outcomes.image.nunique()
        return f"AuditResult({str(self.path)!r}: {count} images, flip rate {self.flip_rate:.1%})"

    def _repr_html_(self) -> str:
        rates = self.flip_rates.rename("flip rate").reset_index()
        return (
            f"<p>{self.flip_rate:.1%} of the correctly classified images flip.</p>"
            + rates.to_html(index=False, escape=True, float_format=lambda x: f"{x:.3g}")
        )
