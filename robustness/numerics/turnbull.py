"""Estimates the median of interval-censored numbers: Turnbull's estimate, and a bootstrap interval.

Each number is known to lie in an interval (low, high], or is known (low = high). Turnbull's estimate (1976,
doi 10.1111/j.2517-6161.1976.tb01597.x) is the nonparametric maximum of the likelihood: a mass in each
innermost interval. If all intervals lie between consecutive values of one sequence, it is the share of
numbers in each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

REPLICATES, LEAST_REPLICATES = 2000, 100
_NUMBERS = 1_000_000
"""The largest number of numbers in the array of all replicates."""
_STEPS = 5000
"""The largest number of EM steps."""
_SETTLED, _HALF = 1e-9, 1e-6
TAIL = 0.025
"""The probability on each side of a 95 % interval."""


@dataclass(frozen=True)
class Median:
    """A median with its bracket and its 95 % interval; open ends are infinite.

    Parameters
    ----------
    point : float or None
        The median by the convention of `median`; None if the bracket is open at an end, because it begins
        at 0 or has no upper end.
    bracket : tuple of float
        The ends of the interval that contains the sample's median.
    interval : tuple of float
        The ends of the 95 % interval of the population's median; it contains the bracket.
    """

    point: float | None
    bracket: tuple[float, float]
    interval: tuple[float, float]


def median(low: np.ndarray, high: np.ndarray, seed: int = 0) -> Median:
    """Return the median of interval-censored numbers above 0.

    Parameters
    ----------
    low, high : numpy.ndarray, shape (n,)
        Each number is in (low, high], or is `low` where both are equal; `high` is infinite where no upper
        end is known.
    seed : int
        The seed of the resampling.

    Raises
    ------
    ValueError
        There are no numbers, or `low` is above `high` somewhere.

    Notes
    -----
    The bracket is from the median of `low` to that of `high`; the sample's median lies between them for any
    censoring. Within it the point is that of Turnbull's estimate: in the innermost interval in which its
    distribution passes 1/2, the distribution is assumed to rise linearly; where it equals 1/2 over an
    interval, the point is the middle of that.

    The ends of the interval are percentiles of the ends of brackets over resampled numbers, and never inside
    the interval of the sign test, which censoring cannot make too narrow: the true order statistics lie
    between those of `low` and those of `high`.
    """
    low, high = np.asarray(low, "float64"), np.asarray(high, "float64")
    if not len(low) or not np.all(low <= high):
        raise ValueError(
            "The median of interval-censored numbers needs n >= 1 intervals, low <= high."
        )
    pairs, counts = _distinct(low, high)
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


def _distinct(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct intervals (m, 2) in ascending order, and how many numbers each has."""
    # Many times as fast as the distinct rows of a table, for a million numbers.
    lows, of_low = np.unique(low, return_inverse=True)
    highs, of_high = np.unique(high, return_inverse=True)
    places, counts = np.unique(of_low * len(highs) + of_high, return_counts=True)
    return np.column_stack([lows[places // len(highs)], highs[places % len(highs)]]), counts


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
    """The order statistic `place` (from 0) of each replicate; `draws` (replicates, values) are counts."""
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

    Notes
    -----
    Ends are sorted by value; at equal values a known number begins first, then intervals end, then intervals
    that are open there begin. The masses solve the self-consistency equations (EM).
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
