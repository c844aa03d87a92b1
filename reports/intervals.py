"""How surely a share is known: Wilson's interval. It covers which images were drawn, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.numerics import intervals
from robustness.numerics.intervals import Z95


def wilson(k: int, n: int, z: float = Z95) -> tuple[float, float] | None:
    """Wilson's score interval for `k` of `n`, as shares; None where nothing was counted.

    ValueError unless 0 <= k <= n.
    """
    return None if k == n == 0 else intervals.wilson_interval(k, n, z)


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with its 95 % interval; the three shares are None where total is 0."""

    count: int
    total: int
    share: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        """The share and its Wilson interval."""
        interval = wilson(count, total)
        if interval is None:
            return cls(count, total)
        return cls(count, total, count / total, *interval)
