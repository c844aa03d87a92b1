"""Galloping search for the smallest number that has a property, by few queries, from a guess.

Bentley & Yao 1976, "An almost optimal algorithm for unbounded searching", in proportions: strides away from
the guess grow until one number has the property and a smaller one has not, and what lies between is then cut
in three. Two numbers are asked about at a time, since an answer costs less in company.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

ROUNDING = 1e-6
"""By what share numbers that should be the same may differ."""


class Bracket:
    """One galloping search. `asks` holds the numbers to query next, ascending, one or two of them.

    Parameters
    ----------
    guess: where the property probably begins.
    low: the property is assumed not to begin here or below.
    top: the largest number to query.
    near: the search ends when a number with the property is at most `near` times one without.
    power: only numbers have a meaning whose power is whole.
    """

    def __init__(self, guess: float, low: float, top: float, *, near: float, power: int) -> None:
        self._near, self._power = near, power
        self._top = self._root(self._whole(top))
        guess = min(guess, self._top)
        self._low, self._high = min(low, self._top / 2), math.inf
        self._stride, self._missed = near, False
        self.asks = self._legal((guess, guess * near)) or [self._top]

    def hear(self, found: Sequence[float | None], known: float = math.inf) -> bool:
        """Take the answer to each of `asks`; return whether to go on.

        None where a number lacks the property; else a number that has it, the same or a smaller one.
        `known`: found elsewhere; only smaller numbers are of interest.
        """
        self._high = min([self._high, known, *(x for x in found if x is not None)])
        misses = [
            ask
            for ask, x in zip(self.asks, found, strict=True)
            if x is None and self._low < ask < self._high
        ]
        self._low, self._missed = max([self._low, *misses]), self._missed or bool(misses)
        if self._low >= self._top or self._known():
            return False
        self.asks = self._legal(self._next()) or [self._least()]
        return True

    @property
    def missed(self) -> bool:
        """Whether any number asked about lacks the property: else it may begin at `low` or below."""
        return self._missed

    def _known(self) -> bool:
        if self._high == math.inf:
            return False
        return self._high <= max(self._near * self._low, self._least()) * (1 + ROUNDING)

    def _least(self) -> float:
        """The smallest that may have the property and was not asked about."""
        return self._root(self._whole(self._low) + 1)

    def _whole(self, number: float, up: bool = False) -> int:
        power = number**self._power
        return math.ceil(power * (1 - ROUNDING)) if up else math.floor(power * (1 + ROUNDING))

    def _root(self, whole: int) -> float:
        return float(whole ** (1 / self._power))

    def _next(self) -> Sequence[float]:
        if self._missed and self._high < math.inf:
            ratio = self._high / self._low
            parts = 3 if ratio > self._near**2 else 2
            return [self._low * ratio ** (i / parts) for i in range(1, parts)]
        first, second = self._stride, self._stride**3
        self._stride **= 4
        if self._missed:
            return self._low * first, self._low * second
        return self._high / second, self._high / first

    def _legal(self, asks: Sequence[float]) -> list[float]:
        """Those of `asks` that are of use, as far as numbers have a meaning."""
        within = {min(self._nearest(x), self._top) for x in asks}
        return sorted(x for x in within if self._low < x < self._high)

    def _nearest(self, ask: float) -> float:
        """The number with a meaning next to `ask`, on the side of what is known: strides grow no longer."""
        above, below = self._root(self._whole(ask, up=True)), self._root(self._whole(ask))
        if self._high == math.inf:
            return below if below > self._low else above
        return above if above < self._high else below
