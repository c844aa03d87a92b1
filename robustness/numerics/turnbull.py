"""The median of interval-censored numbers: Turnbull's estimate, and a bootstrap interval.

Each number is known to lie in an interval (low, high], or is known (low = high). Turnbull's estimate
(1976, doi 10.1111/j.2517-6161.1976.tb01597.x) is the nonparametric maximum of the likelihood: a mass in
each innermost interval. Where all intervals are those between the rungs of one ladder, it is the share
of numbers in each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

REPLICATES, LEAST_REPLICATES = 2000, 100
_NUMBERS = 1_000_000
"""Most numbers in one array of all replicates together."""
_STEPS = 5000
"""Most steps of EM."""
_SETTLED, _HALF = 1e-9, 1e-6
TAIL = 0.025
"""The probability on each side of a 95 % interval."""


@dataclass(frozen=True)
class Median:
    """A median with its bracket and its 95 % interval; open ends are infinite.

    Parameters
    ----------
    point: the median by the convention of `median`; None where its bracket is open at an end: it begins
        at 0 or has no upper end.
    bracket: the ends of the interval that the sample's median lies in.
    interval: the ends of the 95 % interval of the population's median; it holds the bracket.
    """

    point: float | None
    bracket: tuple[float, float]
    interval: tuple[float, float]


def median(low: np.ndarray, high: np.ndarray, seed: int = 0) -> Median:
    """Return the median of interval-censored numbers above 0.

    The bracket is from the median of `low` to that of `high`, between which the sample's median lies
    whatever the censoring. Within it the point is the estimate's: in the innermost interval in which
    its distribution passes 1/2 it is taken to rise linearly; where it equals 1/2 over a stretch, the
    point is the middle of that.

    The interval's ends are percentiles of the ends of brackets over resampled numbers, and never inside
    the sign test's interval, which censoring cannot make too narrow: the true order statistics lie between
    those of `low` and those of `high`.

    Parameters
    ----------
    low, high: (n,) each number is in (low, high], or is `low` where both are equal; `high` infinite where
        nothing is known above.
    seed: the seed of the resampling.

    Raises
    ------
    ValueError: without numbers, or where an interval is empty.
    """
    low, high = np.asarray(low, "float64"), np.asarray(high, "float64")
    if not len(low) or not np.all(low <= high):
        raise ValueError(
            "The median of interval-censored numbers needs n >= 1 intervals, low <= high."
        )
    pairs, counts = np.unique(np.column_stack([low, high]), axis=0, return_counts=True)
    n, middle = len(low), (len(low) - 1) // 2
    first, last = float(np.sort(low)[middle]), float(np.sort(high)[n // 2])
    replicates = int(np.clip(_NUMBERS // len(pairs), LEAST_REPLICATES, REPLICATES))
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=replicates)
    firsts, lasts = _placed(draws, pairs[:, 0], middle), _placed(draws, pairs[:, 1], n // 2)
    below, above = signed(low, high)
    return Median(
        point=(
            float(np.clip(estimate(pairs[:, 0], pairs[:, 1], counts), first, last))
            if first > 0 and math.isfinite(last)
            else None
        ),
        bracket=(first, last),
        interval=(
            float(min(first, below, np.quantile(firsts, TAIL, method="lower"))),
            float(max(last, above, np.quantile(lasts, 1 - TAIL, method="higher"))),
        ),
    )


def signed(low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Return the sign test's 95 % interval of the median; (0, inf) if the numbers are too few."""
    n, k, chance = len(low), 0, 0.0
    log_half = n * math.log(0.5)
    for j in range(n):
        # P[X = j] of a binomial (n, 1/2).
        chance += math.exp(
            math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) + log_half
        )
        if chance > TAIL:
            break
        k = j + 1
    if not k:
        return 0.0, math.inf
    return float(np.sort(low)[k - 1]), float(np.sort(high)[n - k])


def _placed(draws: np.ndarray, values: np.ndarray, place: int) -> np.ndarray:
    """The value at a place, from 0, of each replicate in order; `draws` (replicates, values) are counts."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(draws[:, order], axis=1)
    return values[order][np.argmax(reached > place, axis=1)]


def estimate(low: np.ndarray, high: np.ndarray, counts: np.ndarray) -> float:
    """Return where Turnbull's estimate passes 1/2, for distinct intervals with `counts` (n,) numbers."""
    left, right, mass = masses(low, high, counts)
    reached = np.cumsum(mass)
    first, last = int(np.argmax(reached >= 0.5 - _HALF)), int(np.argmax(reached > 0.5 + _HALF))
    if first != last:
        return float(right[first] + left[last]) / 2
    if not math.isfinite(right[first]):
        return float(left[first])
    below = reached[first] - mass[first]
    share = np.clip((0.5 - below) / mass[first], 0, 1)
    return float(left[first] + share * (right[first] - left[first]))


def masses(
    low: np.ndarray, high: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Turnbull's estimate: lower and upper ends of the innermost intervals, and their masses.

    Ends are put in order by value, then: where a known number begins, where an interval ends, where an
    interval begins that is open there. Masses are those of self-consistency (EM).
    """
    values = np.unique(np.concatenate([low, high]))
    begins = 3 * np.searchsorted(values, low) + np.where(low == high, 0, 2)
    ends = 3 * np.searchsorted(values, high) + 1
    every = np.union1d(begins, ends)
    lefts = np.unique(begins)
    after = every[np.searchsorted(every, lefts) + 1]
    inner = np.isin(after, ends)
    left, right = lefts[inner], after[inner]
    # Each interval covers the adjacent cells start..stop, stop excluded.
    start = np.searchsorted(left, begins, "left")
    stop = np.searchsorted(right, ends, "right")
    mass = np.full(len(left), 1 / len(left))
    for _ in range(_STEPS):
        reached = np.concatenate([[0.0], np.cumsum(mass)])
        ratio = counts / (reached[stop] - reached[start])
        gain = np.zeros(len(left) + 1)
        np.add.at(gain, start, ratio)
        np.add.at(gain, stop, -ratio)
        after_step = mass * np.maximum(np.cumsum(gain)[:-1], 0.0) / counts.sum()
        moved = float(np.max(np.abs(after_step - mass)))
        mass = after_step
        if moved < _SETTLED:
            break
    return values[left // 3], values[right // 3], mass
