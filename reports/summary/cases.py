"""The flips that the page shows in full: the worst ones, and the most confident ones of each kind."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.reports.summary import metrics
from robustness.reports.summary.tables import distance_columns, known, whole
from robustness.threat.norms import described

MOST = 6
MOST_STEPS = 6
MOST_WORST = 3


@dataclass(frozen=True)
class Step:
    """One picture of an attack's steps: the number of steps, the file, a probability per class."""

    number: int
    png: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class CaseRow:
    """One flip to show: `png` is the file of the flip, `original` that of the image; None if not kept."""

    image: str
    name: str
    label: int | None
    before: int | None
    after: int | None
    confidence_before: float | None
    confidence_after: float | None
    attack: str
    epsilon: float
    linf: float | None
    step: int | None
    original: str | None
    png: str | None
    steps: tuple[Step, ...]


def best_cases(
    images: pd.DataFrame,
    outcomes: pd.DataFrame,
    strips: pd.DataFrame,
    most: int = MOST,
) -> tuple[CaseRow, ...]:
    """Return up to `most` flips, one per image.

    Flips with pictures come before those without, flips with steps before those without. Then the
    kinds of flip (from class, to class) take turns, the most confident first.
    """
    flips = outcomes[outcomes["status"] == metrics.FLIPPED]
    # Flips with pictures come first, so that of a million flips only these are sorted.
    originals = images["key"][images["png"].notna()]
    pictured = flips[flips["png"].notna()]
    pictured = pictured[pictured["image"].isin(originals)]
    flips = (pictured if pictured["image"].nunique() >= most else flips).sort_values(
        ["epsilon", "confidence_after", "image", "attack"], ascending=[True, False, True, True]
    )
    steps_of = dict(list(strips.groupby(["image", "attack", "epsilon"])))
    order = flips_in_order(images, flips, strips, once=True)
    return tuple(_case(row, steps_of) for row in order.head(most).to_dict("records"))


def worst_cases(
    images: pd.DataFrame,
    outcomes: pd.DataFrame,
    strips: pd.DataFrame,
    norm: str,
    most: int = MOST_WORST,
) -> tuple[CaseRow, ...]:
    """Return up to `most` flips with pictures, one per image, in the order of `worst_first`."""
    flips = outcomes[(outcomes["status"] == metrics.FLIPPED) & outcomes["png"].notna()]
    kept = images[images["png"].notna()]
    order = worst_first(kept, flips, norm).drop_duplicates("image").head(most)
    steps_of = dict(list(strips.groupby(["image", "attack", "epsilon"])))
    return tuple(_case(row, steps_of) for row in order.to_dict("records"))


def worst_first(images: pd.DataFrame, flips: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Return `flips` with the columns of their images: smallest change first, then highest confidence.

    Parameters
    ----------
    images, flips
        Complete tables; a flip of an image that is not in `images` is left out.
    norm
        The norm of the run, in which the change is measured; for threats without a norm the change is
        the epsilon. Unknown changes are last.
    """
    known = images[["key", "name", "label", "clean_class", "png"]]
    flips = flips.merge(known, left_on="image", right_on="key", suffixes=("", "_original"))
    column = change_column(norm)
    order = [column, "confidence_after", "epsilon", "image", "attack"]
    return flips.sort_values(order, ascending=[True, False, True, True, True], kind="stable")


def change_column(norm: str) -> str:
    """Return the column of outcomes that says how large a change is under `norm`."""
    measure = described(norm)
    columns = distance_columns(norm)
    return measure.column if measure.measures and measure.column in columns else "epsilon"


def flips_in_order(
    images: pd.DataFrame, flips: pd.DataFrame, strips: pd.DataFrame, *, once: bool = False
) -> pd.DataFrame:
    """Return `flips` with the columns of their images, ordered as `best_cases`; `once`: one per image."""
    known = images[["key", "name", "label", "clean_class", "png"]]
    flips = flips.merge(known, left_on="image", right_on="key", suffixes=("", "_original"))
    keys = zip(flips["image"], flips["attack"], flips["epsilon"], strict=True)
    has_steps = set(zip(strips["image"], strips["attack"], strips["epsilon"], strict=True))
    flips = flips.assign(
        pictured=(flips["png"].notna() & flips["png_original"].notna()).astype("int64"),
        has_steps=pd.Series([key in has_steps for key in keys], index=flips.index, dtype="int64"),
    )
    if once:
        flips = flips.sort_values(
            ["pictured", "has_steps"], ascending=False, kind="stable"
        ).drop_duplicates("image")
    first = ["pictured", "has_steps"]
    order = flips.sort_values(
        [*first, "confidence_after", "image"], ascending=[False, False, False, True]
    )
    turn = order.groupby([*first, "clean_class", "adversarial_class"], dropna=False).cumcount()
    return order.assign(turn=turn).sort_values(
        [*first, "turn", "confidence_after", "image"], ascending=[False, False, True, False, True]
    )


def _case(row: dict[Any, Any], steps_of: dict[Any, pd.DataFrame]) -> CaseRow:
    rows = steps_of.get((row["image"], row["attack"], row["epsilon"]))
    return CaseRow(
        image=str(row["image"]),
        name=str(row["name"] or row["image"]),
        label=whole(row["label"]),
        before=whole(row["clean_class"]),
        after=whole(row["adversarial_class"]),
        confidence_before=known(row["confidence_before"]),
        confidence_after=known(row["confidence_after"]),
        attack=str(row["attack"]),
        epsilon=float(row["epsilon"]),
        linf=known(row["linf"]),
        step=whole(row["step"]),
        original=row["png_original"],
        png=row["png"],
        steps=() if rows is None else _steps(rows),
    )


def _steps(rows: pd.DataFrame) -> tuple[Step, ...]:
    """The steps of one flip: the first, the last, and a few evenly between."""
    ordered = rows.sort_values("step").to_dict("records")
    steps = [
        Step(int(row["step"]), str(row["png"]), shares)
        for row in ordered
        if row["png"] and (shares := _probabilities(row["probabilities"]))
    ]
    if len(steps) <= MOST_STEPS:
        return tuple(steps)
    places = {round(i * (len(steps) - 1) / (MOST_STEPS - 1)) for i in range(MOST_STEPS)}
    return tuple(steps[place] for place in sorted(places))


def _probabilities(text: str) -> tuple[float, ...]:
    """The numbers of a JSON list; empty if it is not one."""
    try:
        values = json.loads(text)
        return tuple(float(v) for v in values if math.isfinite(float(v)))
    except (TypeError, ValueError):
        return ()
