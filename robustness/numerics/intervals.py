"""Confidence interval of a proportion (Wilson). It covers the sampling of the images, nothing else."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson_interval(k: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion.

    Parameters
    ----------
    k: number of successes, 0 <= k <= n.
    n: number of trials, more than 0.
    z: quantile of the normal distribution; `Z95` gives the 95 % interval.

    Returns
    -------
    The lower and upper end, within 0..1:
    ``(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`` with ``p = k/n``.

    Raises
    ------
    ValueError: unless 0 <= k <= n and n > 0.

    References
    ----------
    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"{k} of {n} is no share; expected 0 <= k <= n and n above 0.")
    share = k / n
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the interval touches 0 and 1 exactly; rounding must not leave 1e-17 there.
    low = 0.0 if k == 0 else (middle - reach) / scale
    high = 1.0 if k == n else (middle + reach) / scale
    return low, high
