"""The smallest epsilon at which each image flips, as far as a run tells, and its median.

On a ladder of epsilons an image that flips first at a rung needs more than the rung before and at most
this one; one that holds at the last rung needs more. An attack that seeks the closest point tells the
distance itself. The median over images is that of `turnbull`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from robustness.numerics import turnbull
from robustness.runs.records import FAILED, FLIPPED, ROBUST, SETTLED
from robustness.runs.schema import Settings
from robustness.threat import norms

UNUSED = "it could use all of no epsilon of the run"
SPARED = "earlier attacks of the cascade spared it the images that they flip"


def medians(
    outcomes: pd.DataFrame,
    config: Settings,
    attacks: Iterable[str],
    unused: Collection[tuple[str | None, float]] = frozenset(),
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The median smallest epsilon of each attack, and that of all attacks together.

    Parameters
    ----------
    outcomes: a row an image x attack x epsilon: `image`, `attack`, `epsilon`, `status`, and distances.
    config: the run's settings: the norm, and what each attack seeks.
    attacks: their labels.
    unused: epsilons that an attack, or all together, could not use, as the function `unused` gives them:
        they tell nothing.

    Returns
    -------
    ``{label: one}`` and one, each ``{"median", "low", "high", "bracket_low", "bracket_high", "images",
    "note"}`` in the unit of epsilon. The sample's median is above `bracket_low` and at most
    `bracket_high` (None: beyond the largest epsilon); `low` to `high` is the 95 % interval, open above
    where `high` is None. `median` is None where the bracket is open: it begins at 0, below the smallest
    epsilon, or has no end. Everything is None where no image tells.
    """
    names = list(attacks)
    closest = {attack.label for attack in config.attacks if attack.seeks == "closest"}
    norm = norms.described(str(config.norm))
    column = norm.column if norm.measures and norm.column in outcomes.columns else None
    some = {n: used(outcomes, unused, n) for n in names}
    found = {n: smallest(rows, column if n in closest else None) for n, rows in some.items()}
    idle = {n for n, rows in some.items() if rows.empty and (outcomes["attack"] == n).any()}
    by = {
        n: none(SPARED)
        if (rows["status"] == SETTLED).any()
        else none(UNUSED)
        if n in idle
        else median(found[n])
        for n, rows in some.items()
    }
    # A weak attack that cannot use an epsilon must not blur what a stronger one tells there.
    reached = outcomes[~outcomes["epsilon"].isin([e for n, e in unused if n is None])]
    every = [
        smallest(reached[reached["attack"] == n], column if n in closest else None) for n in names
    ]
    asked_for = reached[reached["attack"].isin(names)]
    return by, median(together(every, asked_for, rows_epsilons(reached)))


class EpsilonUse(Protocol):
    """Whether an epsilon could be used: `EpsilonBudget`, and a report's `Budget`."""

    @property
    def epsilon(self) -> float:
        """The epsilon."""

    @property
    def reached(self) -> bool:
        """Whether any attack could use all of it."""

    @property
    def short(self) -> Mapping[str, float]:
        """By label, how far the attacks go that could not."""


def unused(budgets: Iterable[EpsilonUse]) -> frozenset[tuple[str | None, float]]:
    """(attack, epsilon) for each epsilon that an attack could not use, attack None where none could."""
    pairs: set[tuple[str | None, float]] = set()
    for budget in budgets:
        epsilon = float(budget.epsilon)
        pairs |= {(label, epsilon) for label in budget.short}
        if not budget.reached:
            pairs.add((None, epsilon))
    return frozenset(pairs)


def used(
    outcomes: pd.DataFrame, unused: Collection[tuple[str | None, float]], attack: str
) -> pd.DataFrame:
    """The rows of an attack at the epsilons that it could use, and that any attack that learns could."""
    rows = outcomes[outcomes["attack"] == attack]
    return rows[~rows["epsilon"].isin([e for label, e in unused if label in (attack, None)])]


def smallest(rows: pd.DataFrame, distance: str | None = None) -> pd.DataFrame:
    """What one attack's rows tell of each image's smallest epsilon: `low` and `high`, by image.

    It is above `low` and at most `high`, or is both where they are equal. An image on which the attack
    broke down everywhere may need any; one that a cascade spared it, or that was not attacked, is left out.
    """
    told = rows[rows["status"].isin((FLIPPED, ROBUST, FAILED))]
    if told.empty:
        return pd.DataFrame({"low": [], "high": []}, dtype="float64")
    epsilon, image = told["epsilon"].astype("float64"), told["image"]
    flips = told["status"] == FLIPPED
    high = epsilon.where(flips, math.inf).groupby(image).min()
    held = (told["status"] == ROBUST) & (epsilon < image.map(high))
    low = epsilon.where(held, 0.0).groupby(image).max()
    found = pd.DataFrame({"low": low, "high": high})
    if distance is not None:
        nearest = told[distance].astype("float64").where(flips).groupby(image).min()
        for end in ("low", "high"):
            found[end] = found[end].where(nearest.isna(), nearest)
    return found


def together(
    found: Iterable[pd.DataFrame], rows: pd.DataFrame, epsilons: Sequence[float]
) -> pd.DataFrame:
    """What several attacks' `smallest` tell of the smallest epsilon of any of them, by image.

    Where one attack tells a distance and another may need less, it is between rungs of the ladder
    `epsilons` again: how far the distance is below the rung says nothing of the other's. An attack that broke
    down on an image takes nothing from what the others tell: an image holds at a rung where any of the
    attacks, whose `rows` these are, completed and none flips it.
    """
    known = [one for one in found if not one.empty]
    if not known:
        return pd.DataFrame({"low": [], "high": []}, dtype="float64")
    every = pd.concat(known)
    told = every[(every["low"] > 0) | (every["high"] < math.inf)]
    least = told.groupby(level=0).min().reindex(every.index.unique().sort_values())
    least = least.fillna({"low": 0.0, "high": math.inf})
    exact = least["low"] == least["high"]
    ends = np.array([*epsilons, math.inf])
    high = least["high"].where(exact, ends[np.searchsorted(ends[:-1], least["high"])])
    epsilon, image = rows["epsilon"].astype("float64"), rows["image"]
    held = (rows["status"] == ROBUST) & (epsilon < image.map(high))
    low = epsilon.where(held, 0.0).groupby(image).max().reindex(least.index)
    return pd.DataFrame({"low": least["low"].where(exact, low), "high": high})


def rows_epsilons(outcomes: pd.DataFrame) -> list[float]:
    """The ladder of some rows, ascending."""
    return sorted(float(e) for e in outcomes["epsilon"].dropna().unique())


def median(found: pd.DataFrame) -> dict[str, Any]:
    """The median of `smallest` or `together`, as `medians` returns it."""
    known = found[(found["low"] > 0) | (found["high"] < math.inf)]
    broken = len(found) - len(known)
    images = f"{broken:,} image{'s' if broken > 1 else ''}"
    note = f"{images} left out, on which attacks broke down" if broken else ""
    if known.empty:
        return none(note or "no image was attacked")
    one = turnbull.median(known["low"].to_numpy(), known["high"].to_numpy())
    return {
        "median": one.point,
        "low": one.interval[0],
        "high": _finite(one.interval[1]),
        "bracket_low": one.bracket[0],
        "bracket_high": _finite(one.bracket[1]),
        "images": len(known),
        "note": note,
    }


def bracket(low: float | None, high: float | None) -> str:
    """Where a median lies, in words: `between 4 and 8`, `1 or less`, `beyond 16`, `7`, `not known`."""
    if low is None or (not low and high is None):
        return "not known"
    if high is None:
        return f"beyond {_figure(low)}"
    if low == high:
        return _figure(low)
    return f"between {_figure(low)} and {_figure(high)}" if low else f"{_figure(high)} or less"


def reach(low: float | None, high: float | None) -> str:
    """A 95 % interval in words: `2 to 8`, `up to 1`, `from 8 up`."""
    if high is None:
        return f"from {_figure(low)} up" if low else "without bounds: too few images"
    return f"{_figure(low)} to {_figure(high)}" if low else f"up to {_figure(high)}"


def said(one: Mapping[str, Any]) -> str:
    """One of `medians` in words: `5.04, between 4 and 8, 95 % interval 2 to 8`."""
    ends = bracket(one["bracket_low"], one["bracket_high"])
    parts = [ends if one["median"] is None else _figure(one["median"])]
    if one["median"] is not None and one["bracket_low"] != one["bracket_high"]:
        parts.append(ends)
    if one["bracket_low"] is not None:
        parts.append(f"95 % interval {reach(one['low'], one['high'])}")
        parts += [one["note"]] * bool(one["note"])
    return ", ".join(parts)


def _figure(value: float) -> str:
    """Three digits: 4, 2.5, 12,345."""
    return f"{value:,.0f}" if float(value).is_integer() or value >= 1000 else f"{value:.3g}"


def none(note: str) -> dict[str, Any]:
    """No median, and why."""
    ends = ("median", "low", "high", "bracket_low", "bracket_high")
    return {**dict.fromkeys(ends), "images": 0, "note": note}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
