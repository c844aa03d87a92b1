"""The epsilon at which half of the images flip: a logistic curve over the logarithm of epsilon.

Each image has a smallest epsilon at which it flips, and a ladder of epsilons tells between which two
rungs that lies. The curve is fitted to the shares that flip at each rung. The rungs of one image are not
independent, so the covariance is the sandwich whose clusters are the images (Liang & Zeger 1986), and
the interval is Fieller's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from robustness.optimization.logistic import Fit, half_point, logistic
from robustness.store import FAILED, FLIPPED, ROBUST, SETTLED


def median_epsilons(
    outcomes: pd.DataFrame, labels: Sequence[str], epsilons: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """The median epsilon of each attack, its 95 % interval, and what is to be said of it.

    Parameters
    ----------
    outcomes: a row an image x attack x epsilon, with `image`, `attack`, `epsilon`, `status`.
    labels: the attacks.
    epsilons: the ladder, ascending; with a single rung there is nothing to fit, and the result is empty.

    Returns
    -------
    ``{label: {"median", "low", "high", "note"}}`` in counts; None where there is no such number, and
    the note says why. It is "" where there is nothing to say.
    """
    if len(epsilons) < 2:
        return {}
    return {label: _of(outcomes[outcomes.attack == label], epsilons) for label in labels}


def _of(rows: pd.DataFrame, epsilons: Sequence[float]) -> dict[str, Any]:
    if (rows.status == SETTLED).any():
        return _said("an earlier attack of the cascade took the images that flip most easily")
    tried = rows[rows.status.isin((FLIPPED, ROBUST, FAILED))]
    broken = set(tried.image[tried.status == FAILED])
    kept = tried[~tried.image.isin(broken)]
    # (images, epsilons): whether it flips.
    flips = kept.assign(flip=kept.status == FLIPPED).pivot(
        index="image", columns="epsilon", values="flip"
    )
    flips = flips.reindex(columns=list(epsilons)).dropna()
    return fitted(flips.to_numpy(bool), epsilons)


def fitted(flips: np.ndarray, epsilons: Sequence[float]) -> dict[str, Any]:
    """The median epsilon of images that flip (images, epsilons) bool, each from some rung on."""
    count, first, last = len(flips), epsilons[0], epsilons[-1]
    if not count:
        return _said("no image was attacked at every epsilon")
    shares = flips.mean(axis=0)
    low = max((e for e, s in zip(epsilons, shares, strict=True) if s == 0), default=None)
    high = min((e for e, s in zip(epsilons, shares, strict=True) if s == 1), default=None)
    if high == first:
        return _said(f"all {count} images flip at {first:g}, the smallest epsilon", high=high)
    if low == last:
        return _said(f"none of {count} images flips up to {last:g}, the largest epsilon", low=low)
    if shares[0] == shares[-1]:
        return _said(f"as many images flip at {first:g} as at {last:g}: no curve can be fitted")
    if np.sum((shares > 0) & (shares < 1)) < 2:
        # A curve through a single share may be as steep as it likes.
        return _said(
            f"{count} images, too steep for this ladder: give epsilons closer together", low, high
        )
    doses = np.log(np.asarray(epsilons, "float64"))
    fit = logistic(doses, shares, weights=np.full(len(doses), float(count)))
    middle, low, high = half_point(replace(fit, covariance=clustered(fit, doses, flips)))
    notes = [
        f"most images flip below {first:g}, the smallest epsilon"
        if math.exp(middle) < first
        else "",
        f"most images hold beyond {last:g}, the largest epsilon" if math.exp(middle) > last else "",
        "" if math.isfinite(high - low) else f"{count} images are too few for an interval",
    ]
    return {
        "median": _finite(middle),
        "low": _finite(low),
        "high": _finite(high),
        "note": "; ".join(note for note in notes if note),
    }


def clustered(fit: Fit, doses: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """The covariance (2, 2) of slope and intercept where rows of `flips` are the independent ones."""
    design = np.column_stack([doses, np.ones(len(doses))])
    expected = fit.predict(doses)
    bread = np.linalg.inv((design * (expected * (1 - expected))[:, None]).T @ design * len(flips))
    scores = (flips - expected) @ design
    return bread @ (scores.T @ scores) @ bread


def _finite(logarithm: float) -> float | None:
    """The epsilon, None where it lies beyond all numbers."""
    return float(np.exp(logarithm)) if abs(logarithm) < 50 else None


def _said(note: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"median": None, "low": low, "high": high, "note": note}
