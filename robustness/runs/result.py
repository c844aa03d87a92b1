"""`AuditResult`, the return value of an audit: rates, tables, cases and reports of a finished run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from robustness import plugins
from robustness.errors import RunError
from robustness.files.disk_errors import expect_named
from robustness.images.png import from_png
from robustness.numerics.intervals import Share
from robustness.runs import result_html, smallest_epsilon
from robustness.runs.notebook import LinkedPath
from robustness.runs.records import FAILED, FLIPPED, ROBUST, SETTLED
from robustness.runs.result_curve import Curve
from robustness.runs.result_html import Case
from robustness.runs.schema import EpsilonBudget, Manifest
from robustness.runs.store import Run
from robustness.text import percent, percent_range, plural
from robustness.threat.norms import NORMS, described, has_own_column

_COLUMNS = [
    *("image", "label", "clean_class", "attack", "epsilon", "status", "adversarial_class"),
    *("confidence_before", "confidence_after"),
    *sorted(norm.column for norm in NORMS.values()),
    *("step", "forward", "backward"),
]


class AuditResult:
    """The results of a finished run, read from its folder only.

    Parameters
    ----------
    path : str or Path
        The run folder.
    mended : str
        A sentence about what was damaged when the run was resumed, and made again; "" if nothing was.
    """

    def __init__(self, path: str | Path, mended: str = "") -> None:
        expect_named(path, "The path of the run")
        self.path = Path(path)
        self.mended = mended

    @cached_property
    def _run(self) -> Run:
        return Run.open(self.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of `run.json` as dicts and lists, in the newest shape."""
        return self._manifest.to_json()

    @property
    def _manifest(self) -> Manifest:
        return self._run.manifest

    @property
    def _names(self) -> Sequence[str]:
        return self._manifest.class_names

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """The outcomes as they are stored, with classes as numbers; `to_frame` has their names."""
        return self._run.outcomes()

    @cached_property
    def flip_rates(self) -> pd.Series:
        """Share of an attack's correctly classified images that it flips, by attack and epsilon."""
        judged = self._told
        return (judged.status == FLIPPED).groupby([judged.attack, judged.epsilon]).mean()

    @cached_property
    def _told(self) -> pd.DataFrame:
        """The rows of flipped and robust images; a flip counts at every larger epsilon, as in reports."""
        rows = self.outcomes.sort_values("epsilon", kind="stable")
        ever = (rows.status == FLIPPED).groupby([rows.attack, rows.image]).cummax()
        rows = rows.assign(
            status=rows.status.mask(ever & rows.status.isin([FAILED, ROBUST]), FLIPPED)
        )
        return rows[rows.status.isin([FLIPPED, ROBUST])]

    @property
    def unreached(self) -> tuple[float, ...]:
        """The epsilons that no attack of the run could use fully: they say nothing about robustness."""
        return tuple(b.epsilon for b in self._budgets if not b.reached)

    @property
    def _budgets(self) -> Sequence[EpsilonBudget]:
        return self._manifest.budgets

    @property
    def flip_rate(self) -> float:
        """Share of the correctly classified images that any attack flips within the largest epsilon.

        Images on which every attack failed there are left out (`undecided` counts them). NaN if no image
        was flipped or robust.
        """
        flips, held = self._judged
        return len(flips) / len(flips | held) if flips | held else math.nan

    @property
    def undecided(self) -> int:
        """Number of images neither flipped nor robust: every attack failed on them at the largest epsilon."""
        flips, held = self._judged
        return len(set(self.outcomes[self.outcomes.status == FAILED].image) - flips - held)

    @cached_property
    def _judged(self) -> tuple[set[str], set[str]]:
        """The images that any attack flips, and those robust to any attack at the largest epsilon."""
        rows = self.outcomes
        last = rows[rows.epsilon == rows.epsilon.max()]
        return set(rows[rows.status == FLIPPED].image), set(last[last.status == ROBUST].image)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per image x attack x epsilon, with classes by name and distances in counts."""
        names = dict(enumerate(self._names))
        images = self._run.images()[["key", "label", "clean_class"]]
        frame = self.outcomes.merge(images, left_on="image", right_on="key", how="left")
        for column in ("label", "clean_class", "adversarial_class"):
            frame[column] = frame[column].map(names)
        norm = described(str(self._manifest.config.norm))
        # A run without flips stores no distances, so that its outcomes lack the column of the norm.
        own = [norm.column] if has_own_column(norm) else []
        return frame.reindex(columns=[*_COLUMNS, *own])

    def report(self, path: str | Path | None = None, *, kind: str = "html") -> Path:
        """Write a report.

        Parameters
        ----------
        path : str or Path, optional
            The file to write; in the run folder if None.
        kind : str
            The installed kind of report, such as "html" or "json".

        Returns
        -------
        Path
            The file written; a notebook shows it as a link.
        """
        return LinkedPath(plugins.writer(kind)(self.path, path))

    @property
    def _rates(self) -> dict[str, list[tuple[float, int, int]]]:
        """By attack, (epsilon, flipped images, judged images) each."""
        rates: dict[str, list[tuple[float, int, int]]] = {}
        for (attack, epsilon), rows in self._told.groupby(["attack", "epsilon"]):
            flipped = int((rows.status == FLIPPED).sum())
            rates.setdefault(str(attack), []).append((float(str(epsilon)), flipped, len(rows)))
        return rates

    @property
    def _interval(self) -> str:
        """The interval of the flip rate in words; "" if no image was judged."""
        flips, held = self._judged
        share = Share.of(len(flips), len(flips | held))
        if share.low is None or share.high is None:
            return ""
        return f" (95 % interval {percent_range(share.low, share.high)})"

    def curve(self) -> Curve:
        """Return the share of the attacked images that hold, over epsilon; a notebook draws it.

        Epsilons that an attack could not use fully are left out: they say nothing about robustness.
        """
        short = {(label, b.epsilon) for b in self._budgets for label in b.short}
        return Curve(
            {
                attack: [point for point in points if (attack, point[0]) not in short]
                for attack, points in self._rates.items()
            }
        )

    def case(
        self,
        image: str,
        path: str | Path = "strip.png",
        *,
        attack: str | None = None,
        epsilon: float | None = None,
        pixels: bool = False,
    ) -> Path:
        """Draw one flip, with its classes and confidences.

        Parameters
        ----------
        image : str
            The name of the image, its path in the run, or the end of that path.
        path : str or Path
            The file to write. A .png shows original, difference and adversarial picture side by side; a
            .gif shows original and adversarial picture in turn, in 256 colours.
        attack : str, optional
            The attack, with or without its parameters; by default that of the smallest change.
        epsilon : float, optional
            The epsilon, in the unit of the norm; by default that of the smallest change.
        pixels : bool
            Whether to show the square of pixel values with the largest change, too.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        SettingError
            If the file cannot be written or has another ending, or there is no such flip.
        RunError
            If the pictures of the flip are missing, damaged or altered.
        """
        draw = plugins.load(plugins.PICTURES, "case")
        return Path(draw(self.path, image, path, attack, epsilon, pixels))

    def __repr__(self) -> str:
        count = self.outcomes.image.nunique()
        missed = "".join(f", epsilon {epsilon:.12g} not reached" for epsilon in self.unreached)
        known = f"{plural(count, 'image')}, flip rate {percent(self.flip_rate)}"
        known += f", {self.undecided} undecided" if self.undecided else ""
        return f"AuditResult({str(self.path)!r}: {known}{missed})"

    @cached_property
    def cases(self) -> Cases:
        """The flips with stored pictures, one per image, the most confident first."""
        return Cases(self._run, self.outcomes, self._names)

    def _repr_html_(self) -> str:
        judged = self._told
        rates = self._rates
        labelled = self._manifest.data.labelled
        them = "" if labelled else " of them"
        known = f"{percent(self.flip_rate)}{them} flip{self._interval}"
        of = "of the correctly classified, " if labelled else ""
        nothing = "no image was correct" if labelled else "none was attacked"
        if self.undecided:
            known += f", {self.undecided} more are undecided: every attack failed there"
            nothing = f"every attack failed on {self.undecided}"
        share = of + (known if any(self._judged) else nothing)
        config = self._manifest.config
        labels = [attack.title for attack in config.attacks]
        _, together = smallest_epsilon.medians(
            self.outcomes, config, labels, smallest_epsilon.unused(self._budgets)
        )
        middle = (
            f" Median smallest epsilon: {smallest_epsilon.said(together)}." if len(judged) else ""
        )
        sentence = f"{plural(self.outcomes.image.nunique(), 'image')}; {share}.{middle}"
        if self.unreached:
            missed = ", ".join(f"{epsilon:.12g}" for epsilon in self.unreached)
            sentence += (
                f" The run says nothing about robustness at epsilon {missed}: no attack of it could use "
                "all of that."
            )
        if (self.outcomes.status == SETTLED).any():
            sentence += (
                " In a cascade each attack runs on what no earlier one flips; its rate is of these."
            )
        short = {(label, b.epsilon) for b in self._budgets for label in b.short}
        return result_html.page(sentence, rates, self.cases[:3], short)


class Cases(Sequence[Case]):
    """The flips of a run with stored pictures; the pictures are read when a case is indexed."""

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
            before=self._class(row["clean_class"]),
            after=self._class(row["adversarial_class"]),
            confidence_before=row["confidence_before"],
            confidence_after=row["confidence_after"],
            attack=row["attack"],
            epsilon=row["epsilon"],
            original=self._picture(row["png_original"]),
            flipped=self._picture(row["png"]),
        )

    def _class(self, number: float | None) -> str:
        if number is None or math.isnan(number):
            return "unknown"
        known = 0 <= number < len(self._names)
        return self._names[int(number)] if known else f"class {int(number)}"

    def _picture(self, name: str) -> np.ndarray:
        try:
            return from_png(self._run.png(name))
        except (OSError, ValueError, SyntaxError) as error:
            raise RunError(
                f"{self._run.path / name} cannot be read as a picture ({error}); expected the PNG that the "
                "audit wrote. Restore it from a copy, or resume the run, which writes it again."
            ) from None
