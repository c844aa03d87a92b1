"""What an audit returns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import pandas as pd

from robustness import notebook, plugins, thresholds
from robustness.notebook import Case
from robustness.pictures import from_png
from robustness.store import FLIPPED, ROBUST, SETTLED, Run

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
        """Flipped share of the initially correct images an attack was shown, by attack and epsilon."""
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

    @cached_property
    def cases(self) -> Cases:
        """The flips that kept their pictures, one an image, the most confident first."""
        return Cases(self._run, self.outcomes, self.manifest["class_names"])

    def _repr_html_(self) -> str:
        judged = self.outcomes[self.outcomes.status.isin([FLIPPED, ROBUST])]
        rates: dict[str, list[tuple[float, int, int]]] = {}
        for (attack, epsilon), rows in judged.groupby(["attack", "epsilon"]):
            flipped = int((rows.status == FLIPPED).sum())
            rates.setdefault(str(attack), []).append((float(str(epsilon)), flipped, len(rows)))
        labelled = bool(self.manifest.get("data", {}).get("labelled", True))
        known = f"{100 * self.flip_rate:.1f} % of them flip"
        of = "of the correctly classified, " if labelled else ""
        nothing = "no image was correct" if labelled else "none was attacked"
        share = of + (known if len(judged) else nothing)
        labels = [a["label"] for a in self.manifest["config"]["attacks"]]
        _, together = thresholds.medians(self.outcomes, self.manifest["config"], labels)
        middle = f" Median smallest epsilon: {thresholds.said(together)}." if len(judged) else ""
        sentence = f"{self.outcomes.image.nunique()} images; {share}.{middle}"
        if (self.outcomes.status == SETTLED).any():
            sentence += " In a cascade each attack is shown what the earlier ones left; its rate is of these."
        return notebook.page(sentence, rates, self.cases[:3])


class Cases(Sequence[Case]):
    """The flips of a run that kept their pictures; a picture is read when its case is asked for."""

    def __init__(self, run: Run, outcomes: pd.DataFrame, names: Sequence[str]) -> None:
        self._run, self._names = run, names
        images = run.images()[["key", "name", "clean_class", "png"]]
        flips = outcomes[(outcomes.status == FLIPPED) & outcomes.png.notna()]
        flips = flips.merge(images, left_on="image", right_on="key", suffixes=("", "_original"))
        flips = flips[flips.png_original.notna()]
        first = flips.sort_values(
            ["epsilon", "confidence_after", "attack"], ascending=[True, False, True]
        ).drop_duplicates("image")
        order = first.sort_values(["confidence_after", "image"], ascending=[False, True])
        self._rows = order.to_dict("records")

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Case: ...

    @overload
    def __getitem__(self, place: slice) -> list[Case]: ...

    def __getitem__(self, place: int | slice) -> Case | list[Case]:
        if isinstance(place, slice):
            return [self._case(row) for row in self._rows[place]]
        return self._case(self._rows[place])

    def _case(self, row: dict[Any, Any]) -> Case:
        return Case(
            image=row["image"],
            name=row["name"],
            before=self._names[int(row["clean_class"])],
            after=self._names[int(row["adversarial_class"])],
            confidence_before=row["confidence_before"],
            confidence_after=row["confidence_after"],
            attack=row["attack"],
            epsilon=row["epsilon"],
            original=from_png(self._run.png(row["png_original"])),
            flipped=from_png(self._run.png(row["png"])),
        )
