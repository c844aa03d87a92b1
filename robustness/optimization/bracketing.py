"""Galloping search for the smallest number with a property, from a guess and with few queries.

Bentley & Yao 1976, "An almost optimal algorithm for unbounded searching", with ratios in place of
differences: the steps away from the guess grow until one number has the property and a smaller one does not;
the interval between the two is then divided into three parts. Two numbers are queried at a time, because
a query costs less when several are made together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

ROUNDING = 1e-6
"""Relative difference within which two numbers count as equal."""


class Bracket:
    """One galloping search for the smallest number with a property.

    Parameters
    ----------
    guess : float
        A number near which the property probably begins.
    low : float
        The largest number that is assumed not to have the property.
    top : float
        The largest number to query.
    near : float
        The search ends when a number with the property is at most `near` times one without it; above 1.
    power : int
        Only numbers whose power of this order is whole are valid.

    Attributes
    ----------
    asks : list of float
        The one or two numbers to query next, in ascending order.
    """

    def __init__(self, guess: float, low: float, top: float, *, near: float, power: int) -> None:
        self._near, self._power = near, power
        self._top = self._root(self._whole(top))
        guess = min(guess, self._top)
        self._low, self._high = min(low, self._top / 2), math.inf
        self._stride, self._missed = near, False
        self.asks = self._legal((guess, guess * near)) or [self._top]

    def hear(self, found: Sequence[float | None], known: float = math.inf) -> bool:
        """Process the answer to each of `asks`, and choose the next queries.

        Parameters
        ----------
        found : sequence of float or None
            For each of `asks`: None if the number does not have the property; otherwise a number that has
            it, which is the same or a smaller one.
        known : float
            A number with the property from another source; only smaller ones are searched.

        Returns
        -------
        bool
            Whether the search continues.
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
        """Whether any queried number does not have the property; if not, it may begin at `low` or below."""
        return self._missed

    def _known(self) -> bool:
        if self._high == math.inf:
            return False
        return self._high <= max(self._near * self._low, self._least()) * (1 + ROUNDING)

    def _least(self) -> float:
        """The smallest number that may have the property and was not queried."""
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
        """The valid numbers nearest to `asks` that lie inside the bracket, in ascending order."""
        within = {min(self._nearest(x), self._top) for x in asks}
        return sorted(x for x in within if self._low < x < self._high)

    def _nearest(self, ask: float) -> float:
        """The valid number next to `ask`, on the side of the known end, so that steps do not grow."""
        above, below = self._root(self._whole(ask, up=True)), self._root(self._whole(ask))
        if self._high == math.inf:
            return below if below > self._low else above
        return above if above < self._high else below
