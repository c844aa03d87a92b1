"""Computes intervals for the smallest epsilon at which each image flips, and the median over images.

An image that flips first at one of the run's epsilons needs more than the previous epsilon and at most this
one; an image that is robust at the largest epsilon needs more. An attack that seeks the closest point gives
the distance itself. The median of these interval-censored values is that of `turnbull`.
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

UNUSED = "it could use no epsilon of the run fully"
SPARED = "it did not run on the images that earlier attacks of the cascade flip"


def medians(
    outcomes: pd.DataFrame,
    config: Settings,
    attacks: Iterable[str],
    unused: Collection[tuple[str | None, float]] = frozenset(),
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the median smallest epsilon of each attack, and that of all attacks together.

    Parameters
    ----------
    outcomes : pd.DataFrame
        One row per image x attack x epsilon: `image`, `attack`, `epsilon`, `status`, and distances.
    config : Settings
        Gives the norm, and what each attack seeks.
    attacks : iterable of str
        The labels of the attacks.
    unused : collection of tuple
        Epsilons that an attack, or all together, could not use, as returned by the function `unused`; their
        outcomes are ignored.

    Returns
    -------
    by : dict of str to dict
        By label, ``{"median", "low", "high", "bracket_low", "bracket_high", "images", "note"}``, in the unit
        of epsilon. The sample's median is above `bracket_low` and at most `bracket_high` (None: beyond the
        largest epsilon); `low` to `high` is the 95 % interval, unbounded above if `high` is None. `median` is
        None if the bracket is open: it begins at 0, below the smallest epsilon, or has no end. All are None
        if no image has a known interval.
    together : dict
        The same for all attacks together.
    """
    names = list(attacks)
    # Numbers of images are grouped and looked up several times as fast as their keys.
    outcomes = outcomes.assign(image=pd.factorize(outcomes["image"])[0])
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
    # A weak attack that cannot use an epsilon must not widen the intervals that a stronger one gives.
    reached = outcomes[~outcomes["epsilon"].isin([e for n, e in unused if n is None])]
    every = [
        smallest(reached[reached["attack"] == n], column if n in closest else None) for n in names
    ]
    asked_for = reached[reached["attack"].isin(names)]
    return by, median(together(every, asked_for, rows_epsilons(reached)))


class EpsilonUse(Protocol):
    """How much of an epsilon could be used; `EpsilonBudget` and a report's `Budget` conform."""

    @property
    def epsilon(self) -> float:
        """The epsilon, in the unit of the norm."""

    @property
    def reached(self) -> bool:
        """Whether any attack could use all of it."""

    @property
    def short(self) -> Mapping[str, float]:
        """By label, the largest distance of each attack that could not use all of it."""


def unused(budgets: Iterable[EpsilonUse]) -> frozenset[tuple[str | None, float]]:
    """Return (attack, epsilon) for each epsilon that an attack could not use; attack None if none could."""
    pairs: set[tuple[str | None, float]] = set()
    for budget in budgets:
        epsilon = float(budget.epsilon)
        pairs |= {(label, epsilon) for label in budget.short}
        if not budget.reached:
            pairs.add((None, epsilon))
    return frozenset(pairs)


def limited(attack: str, far: float) -> str:
    """Return why an attack cannot use an epsilon: `bim(steps=4) reaches 4 at most from the image`.

    Parameters
    ----------
    attack : str
        Its name.
    far : float
        The distance that `EpsilonUse.short` has for it. A random start does not count, so that a flip may
        lie further away; 0 is an attack of too few queries, whatever it draws.
    """
    if not far:
        return f"{attack} makes too few queries"
    return f"{attack} reaches {far:.4g} at most from the image"


def used(
    outcomes: pd.DataFrame, unused: Collection[tuple[str | None, float]], attack: str
) -> pd.DataFrame:
    """Return the rows of an attack, without the epsilons that `unused` lists for it or for all attacks."""
    rows = outcomes[outcomes["attack"] == attack]
    return rows[~rows["epsilon"].isin([e for label, e in unused if label in (attack, None)])]


def smallest(rows: pd.DataFrame, distance: str | None = None) -> pd.DataFrame:
    """Return the interval of each image's smallest epsilon under one attack.

    Parameters
    ----------
    rows : pd.DataFrame
        The outcomes of the attack.
    distance : str, optional
        The column of distances, for an attack that seeks the closest point.

    Returns
    -------
    pd.DataFrame
        `low` and `high`, by image: the smallest epsilon is above `low` and at most `high`, or equal to both
        if they are equal. An image on which the attack failed at every epsilon has 0 and infinity; an image
        that is not attacked, or that an earlier attack of the cascade flips, has no row.
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
    """Return the interval of each image's smallest epsilon under several attacks together.

    Parameters
    ----------
    found : iterable of pd.DataFrame
        What `smallest` returns for each attack.
    rows : pd.DataFrame
        The outcomes of these attacks.
    epsilons : sequence of float
        The epsilons of the run, ascending.

    Returns
    -------
    pd.DataFrame
        As `smallest` returns it.

    Notes
    -----
    If one attack gives a distance and another may need less, the interval is bounded by `epsilons` again:
    how far the distance is below the next epsilon says nothing about the other attack. An attack that failed
    on an image removes no information: the image is robust at an epsilon where any attack completed and none
    flips it.
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
    """Return the epsilons of some rows, ascending."""
    return sorted(float(e) for e in outcomes["epsilon"].dropna().unique())


def median(found: pd.DataFrame) -> dict[str, Any]:
    """Return the median of the intervals of `smallest` or `together`, as `medians` describes it."""
    known = found[(found["low"] > 0) | (found["high"] < math.inf)]
    broken = len(found) - len(known)
    images = f"{broken:,} image{'s' if broken > 1 else ''}"
    note = f"{images} left out, on which attacks failed" if broken else ""
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
    """Describe a bracket: `between 4 and 8`, `1 or less`, `beyond 16`, `7`, `not known`."""
    if low is None or (not low and high is None):
        return "not known"
    if high is None:
        return f"beyond {_figure(low)}"
    if low == high:
        return _figure(low)
    return f"between {_figure(low)} and {_figure(high)}" if low else f"{_figure(high)} or less"


def reach(low: float | None, high: float | None) -> str:
    """Describe a 95 % interval: `2 to 8`, `up to 1`, `from 8 up`."""
    if high is None:
        return f"from {_figure(low)} up" if low else "without bounds: too few images"
    return f"{_figure(low)} to {_figure(high)}" if low else f"up to {_figure(high)}"


def said(one: Mapping[str, Any]) -> str:
    """Describe one of `medians`: `5.04, between 4 and 8, 95 % interval 2 to 8`."""
    ends = bracket(one["bracket_low"], one["bracket_high"])
    parts = [ends if one["median"] is None else _figure(one["median"])]
    if one["median"] is not None and one["bracket_low"] != one["bracket_high"]:
        parts.append(ends)
    if one["bracket_low"] is not None:
        parts.append(f"95 % interval {reach(one['low'], one['high'])}")
        parts += [one["note"]] * bool(one["note"])
    return ", ".join(parts)


def _figure(value: float) -> str:
    """A number with three digits: 4, 2.5, 12,345."""
    return f"{value:,.0f}" if float(value).is_integer() or value >= 1000 else f"{value:.3g}"


def none(note: str) -> dict[str, Any]:
    """Return the entry of `medians` without a median; `note` says why."""
    ends = ("median", "low", "high", "bracket_low", "bracket_high")
    return {**dict.fromkeys(ends), "images": 0, "note": note}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
