"""Median smallest epsilons of a finished run: nonparametric, and from a logistic curve if it fits.

The reported median is that of `smallest_epsilon`, which assumes no curve. `fit` adds the half point of a
logistic curve over the logarithm of epsilon, but only if a chi-squared test over the epsilons does not reject
the curve: two modes, ties and a median at an end of the epsilons do not pass. The outcomes of one image at
several epsilons are not independent, so the covariance is the sandwich estimator clustered by image (Liang &
Zeger 1986), and the interval is Fieller's.
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
"""The fewest images expected in a cell of the test of the fit; smaller cells are merged."""
LEAST_P = 0.05
"""The smallest p-value with which a curve counts as fitting."""


def median_epsilons(
    outcomes: pd.DataFrame,
    config: Settings,
    labels: Iterable[str],
    unused: Collection[tuple[str | None, float]] = frozenset(),
) -> dict[str, Median]:
    """Return the median smallest epsilon of each attack, for `run.json`.

    Parameters
    ----------
    outcomes, config, labels, unused
        As for `smallest_epsilon.medians`; `labels` are those of the attacks.

    Returns
    -------
    dict of str to Median
        By label, what `smallest_epsilon.medians` returns, with `fit`: the median of a fitted logistic curve,
        its 95 % interval (`low`, `high`), and the `p_value` of the test that it passed; None if it did not
        pass, cannot be tested, or has its median outside the nonparametric interval.
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
    # (images, epsilons), True for a flip.
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
    """Fit a logistic curve over log epsilon, and return its half point.

    Parameters
    ----------
    flips : np.ndarray
        (images, epsilons) bool: whether the image flips at the epsilon.
    epsilons : sequence of float
        Ascending.

    Returns
    -------
    dict or None
        ``{"median", "low", "high", "p_value"}``, in the unit of epsilon. None if fewer than two shares lie
        strictly between 0 and 1, the first share equals the last, the test of `fits` rejects the curve or
        cannot be made, the half point is outside `epsilons`, or an end of its interval has a logarithm
        beyond 50.
    """
    shares = flips.mean(axis=0) if len(flips) else np.zeros(len(epsilons))
    if np.sum((shares > 0) & (shares < 1)) < 2 or shares[0] == shares[-1]:
        # A single share between 0 and 1 does not determine the slope.
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
    """Test the fit of a distribution with two fitted parameters (Pearson's chi-squared test).

    Parameters
    ----------
    expected, shares : np.ndarray
        (epsilons,) the fitted and the observed share of images that flip at each epsilon.
    count : int
        The number of images.

    Returns
    -------
    float or None
        The p-value. The cells of the test are the intervals between neighbouring epsilons, merged until each
        is expected to contain five images; None if fewer than four cells are left.
    """
    # Imported here, since few audits have enough epsilons.
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
    """Return the sandwich covariance (2, 2) of slope and intercept, clustered by the rows of `flips`."""
    design = np.column_stack([doses, np.ones(len(doses))])
    expected = fit.predict(doses)
    bread = np.linalg.inv((design * (expected * (1 - expected))[:, None]).T @ design * len(flips))
    scores = (flips - expected) @ design
    return bread @ (scores.T @ scores) @ bread
