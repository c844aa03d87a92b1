"""Wilson's confidence interval of a share, and simple tests of accuracies.

They cover the sampling of images and no other uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with its 95 % Wilson interval; the shares are None if `total` is 0."""

    count: int
    total: int
    share: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        """Return the share of `count` in `total` with its interval.

        Raises
        ------
        ValueError
            Unless 0 <= count <= total.
        """
        if count == total == 0:
            return cls(count, total)
        low, high = wilson_interval(count, total)
        return cls(count, total, count / total, low, high)


def wilson_interval(k: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval for `k` of `n`, as shares 0..1.

    Parameters
    ----------
    k, n
        The count and the total, 0 <= k <= n, n above 0.
    z
        The quantile of the normal distribution; by default that of a 95 % interval.

    Raises
    ------
    ValueError
        Unless 0 <= k <= n and n is above 0.

    Notes
    -----
    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with p = k/n.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
    the American Statistical Association 22, 1927.
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"{k} of {n} is no share; expected 0 <= k <= n and n above 0.")
    share = k / n
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At k = 0 and k = n the interval ends exactly at 0 and 1; rounding would give 1e-17.
    low = 0.0 if k == 0 else (middle - reach) / scale
    high = 1.0 if k == n else (middle + reach) / scale
    return low, high


def beats_chance(accuracy: float, count: int, classes: int) -> bool:
    """Return whether `accuracy` on `count` images is two standard errors above 1 / `classes`."""
    chance = 1 / classes
    return accuracy > chance + 2 * math.sqrt(chance * (1 - chance) / count)


def clearly_better(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether `first` is right more often than `second`, by a sign test.

    Parameters
    ----------
    first, second
        Boolean arrays (n,): whether each answered each of the same images correctly.

    Returns
    -------
    bool
        Whether wins minus losses exceed two standard errors of the images on which they differ.
    """
    wins, losses = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return wins - losses > 2 * math.sqrt(wins + losses)
