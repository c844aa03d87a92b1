"""How surely a share is known: Wilson's interval. It covers which images were drawn, nothing else."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson_interval(k: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for `k` of `n`, as shares.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n). ValueError unless 0 <= k <= n, 0 < n.
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
