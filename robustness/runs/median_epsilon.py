"""The medians that a finished run keeps: nonparametric ones, and a logistic curve where it fits.

The figure is `thresholds`': no curve is assumed. Beside it stands the half point of a logistic curve over
the logarithm of epsilon, but only where a chi-squared test of its fit, over the rungs, lets it stand: two
humps, ties and an edge of the ladder do not. The rungs of one image are not independent, so its covariance
is the sandwich whose clusters are the images (Liang & Zeger 1986), and its interval is Fieller's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from robustness.optimization.regression.logistic import Fit, half_point, logistic
from robustness.runs import smallest_epsilon
from robustness.runs.records import FLIPPED, ROBUST
from robustness.runs.schema import Median, Settings

LEAST_EXPECTED = 5.0
"""Images expected between two rungs, at least, where the fit is tested; fewer are put together."""
LEAST_P = 0.05


def median_epsilons(
    outcomes: pd.DataFrame,
    config: Settings,
    labels: Iterable[str],
    unused: Collection[tuple[str | None, float]] = frozenset(),
) -> dict[str, Median]:
    """The median smallest epsilon of each attack as `thresholds.medians` tells it, with `fit`.

    `unused` is as `thresholds.unused` gives it. `fit` is ``{"median", "low", "high", "p_value"}``: a fitted
    logistic curve's median, its 95 % interval, and the p-value of the test that it passed; None where it
    passed none, or cannot be tested.
    """
    by, _ = smallest_epsilon.medians(outcomes, config, labels, unused)
    return {
        label: Median.model_validate(
            median | {"fit": _of(smallest_epsilon.used(outcomes, unused, label), median)}
        )
        for label, median in by.items()
    }


def _of(rows: pd.DataFrame, one: Mapping[str, Any]) -> dict[str, Any] | None:
    if one["median"] is None:
        return None
    epsilons = smallest_epsilon.rows_epsilons(rows)
    kept = rows[rows["status"].isin((FLIPPED, ROBUST))]
    # (images, epsilons): whether it flips.
    table = kept.assign(flip=kept["status"] == FLIPPED).pivot(
        index="image", columns="epsilon", values="flip"
    )
    flips = table.reindex(columns=epsilons).dropna().to_numpy(bool)
    found = fitted(flips, epsilons)
    if found is None:
        return None
    high = math.inf if one["high"] is None else one["high"]
    return found if one["low"] <= found["median"] <= high else None


def fitted(flips: np.ndarray, epsilons: Sequence[float]) -> dict[str, Any] | None:
    """The half point of a logistic curve through images that flip (images, epsilons) bool.

    None unless the curve stands a test of its fit and its half point has an interval on the ladder.
    """
    shares = flips.mean(axis=0) if len(flips) else np.zeros(len(epsilons))
    if np.sum((shares > 0) & (shares < 1)) < 2 or shares[0] == shares[-1]:
        # A curve through a single share may be as steep as it likes.
        return None
    doses = np.log(np.asarray(epsilons, "float64"))
    fit = logistic(doses, shares, weights=np.full(len(doses), float(len(flips))))
    p_value = fits(fit.predict(doses), shares, len(flips))
    middle, low, high = half_point(replace(fit, covariance=clustered(fit, doses, flips)))
    if p_value is None or p_value < LEAST_P or not doses[0] <= middle <= doses[-1]:
        return None
    if not math.isfinite(high - low) or max(abs(low), abs(high)) > 50:
        return None
    ends = {"median": middle, "low": low, "high": high}
    return {name: float(np.exp(value)) for name, value in ends.items()} | {"p_value": p_value}


def fits(expected: np.ndarray, shares: np.ndarray, count: int) -> float | None:
    """Pearson's test of a distribution with two fitted parameters; None where too little can be tested.

    Parameters
    ----------
    expected, shares: (epsilons,) the fitted and the found share of `count` images that flip at each rung.

    Returns
    -------
    The p-value. Cells are what lies between neighbouring rungs, put together until each is expected to
    hold five images; at least four must be left, or nothing is left to test.
    """
    # Imported here: few audits have rungs enough.
    from scipy.special import chdtrc  # noqa: PLC0415

    told = np.diff(np.concatenate([[0.0], shares, [1.0]])) * count
    wanted = np.diff(np.concatenate([[0.0], expected, [1.0]])) * count
    cells: list[list[float]] = []
    for seen, hoped in zip(told, wanted, strict=True):
        if cells and cells[-1][1] < LEAST_EXPECTED:
            cells[-1][0] += seen
            cells[-1][1] += hoped
        else:
            cells.append([float(seen), float(hoped)])
    if len(cells) > 1 and cells[-1][1] < LEAST_EXPECTED:
        seen, hoped = cells.pop()
        cells[-1][0] += seen
        cells[-1][1] += hoped
    freedom = len(cells) - 3
    if freedom < 1:
        return None
    return float(chdtrc(freedom, sum((seen - hoped) ** 2 / hoped for seen, hoped in cells)))


def clustered(fit: Fit, doses: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """The covariance (2, 2) of slope and intercept where rows of `flips` are the independent ones."""
    design = np.column_stack([doses, np.ones(len(doses))])
    expected = fit.predict(doses)
    bread = np.linalg.inv((design * (expected * (1 - expected))[:, None]).T @ design * len(flips))
    scores = (flips - expected) @ design
    return bread @ (scores.T @ scores) @ bread
