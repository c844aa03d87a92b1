"""8-bit changes near a float change, one count of difference from one to the next.

Rounding a scaled change is all or nothing where many components are equally large: with 0.4 counts
everywhere, every component rises by a whole count at the same factor. The best 8-bit change raises only
some of them. `Lattice` gives one for every budget, however few counts that is. `steepest_components` and
`steepest_pixels` give, for every budget, the 8-bit change along which a linear function rises most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

ROUNDING = 1e-6
"""By what share budgets that should be the same may differ."""

SPREAD = 1e-3
"""Share of its size by which a component is preferred for its place, so that equal ones rise all over."""

HALVINGS = 12
"""Of the bracket around a factor; what then still differs between its ends is sorted."""

FILLINGS = 3
"""Times that what is left of an l2 budget is spent on the best of what it still buys."""


LEFT = 1e-3
"""Share of the squared length that is not worth sorting all components for."""


class Path(Protocol):
    """8-bit changes, one for every budget."""

    def within(self, radius: float) -> np.ndarray:
        """The change (height, width, channels) int64 in whole counts, at most `radius` long."""

    def reaching(self, gain: float) -> float:
        """The budget of the shortest change whose product with what it follows is `gain`; may be infinite."""


@dataclass(frozen=True)
class Lattice:
    """The 8-bit changes along one float change.

    Parameters
    ----------
    shape: of the picture, (height, width, channels).
    places: (n,) indices of the components that may change.
    signs: (n,) -1 or 1, the way each goes.
    sizes: (n,) float64, how far each goes in float, in counts; more than 0.
    room: (n,) float64, whole: how far each may go within 0..255 and the mask, in counts.
    power: 2 where budgets are Euclidean lengths, 1 where they are sums.
    """

    shape: tuple[int, ...]
    places: np.ndarray
    signs: np.ndarray
    sizes: np.ndarray
    room: np.ndarray
    power: int

    def within(self, radius: float) -> np.ndarray:
        """The change (height, width, channels) int64 in whole counts, at most `radius` long.

        l2: each further count is the one with the largest share in ``delta`` for what it adds to the
        squared length. Of a linear model these are the nearest files, if `delta` is its nearest point:
        its components go like the gradient's. l1: `delta` scaled to the sum, rounded by the largest
        remainder, since components that stay between their bounds have gradients of the same size.
        """
        whole = math.floor(radius**self.power * (1 + ROUNDING))
        counts = self._dearest(whole) if self.power == 2 else self._remaining(whole)
        change = np.zeros(math.prod(self.shape), np.int64)
        change[self.places] = (self.signs * counts).astype(np.int64)
        return change.reshape(self.shape)

    def _spent(self, counts: np.ndarray) -> float:
        """The length of a change, to the power."""
        return float(_product(counts, counts) if self.power == 2 else counts.sum())

    def guess(self) -> float:
        """The budget of the change that goes as far in the direction of the float change as that itself."""
        if self.power == 1:
            return float(self.sizes.sum())
        return self.reaching(_product(self.sizes, self.sizes))

    def reaching(self, gain: float) -> float:
        """The budget of the scaled change whose product with the float change is `gain`; l2 only.

        Infinite where there is none.
        """
        if _product(self.room, self.sizes) < gain:
            return math.inf
        below, above = self._around(lambda counts: _product(counts, self.sizes), gain)
        lacking = gain - _product(below, self.sizes)
        order = self._order(below, above)
        needed = int(np.searchsorted(np.cumsum(self.sizes[order]), lacking)) + 1
        counts = _raised(below, order[:needed])
        return float(np.sqrt(_product(counts, counts)))

    def _scaled(self, factor: float) -> np.ndarray:
        return np.minimum(np.floor(self.sizes * factor + 0.5), self.room)

    def _around(
        self, total: Callable[[np.ndarray], float], target: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Two neighbours of the scaled and rounded changes: `total` at most `target`, and more (or all)."""
        low, high = 0.0, 1.0
        most = float(np.max((self.room + 1) / self.sizes, initial=1.0))
        above = self._scaled(high)
        while total(above) <= target and high < most:
            low, high = high, 2 * high
            above = self._scaled(high)
        below = self._scaled(low)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            counts = self._scaled(middle)
            if total(counts) <= target:
                low, below = middle, counts
            else:
                high, above = middle, counts
        return below, above

    def _order(self, below: np.ndarray, above: np.ndarray) -> np.ndarray:
        """The components that differ, those first that a smaller factor raises."""
        differ = np.flatnonzero(above > below)
        return differ[np.argsort(-self.sizes[differ] / (2 * below[differ] + 1), kind="stable")]

    def _dearest(self, whole: int) -> np.ndarray:
        counts, above = self._around(self._spent, whole)
        order = self._order(counts, above)
        for _ in range(FILLINGS):
            left = whole - self._spent(counts)
            if left < max(1.0, LEFT * whole):
                break
            fits = order[2 * counts[order] + 1 <= left]
            spent = np.cumsum(2 * counts[fits] + 1)
            counts = _raised(counts, fits[: np.searchsorted(spent, left, side="right")])
            # What the next one costs may be more than is left, where others cost less.
            order = self._order(counts, self.room)
        return counts

    def _remaining(self, whole: int) -> np.ndarray:
        scaled = self._to_sum(whole)
        below = np.minimum(np.floor(scaled), self.room)
        rest = np.where(below < self.room, scaled - below, -1.0)
        order = np.argsort(-rest, kind="stable")[: max(whole - int(below.sum()), 0)]
        return _raised(below, order[rest[order] >= 0])

    def _to_sum(self, whole: int) -> np.ndarray:
        """The sizes times one factor, within the room, whose sum is `whole`; the room if that is less."""
        if self.room.sum() <= whole:
            return self.room
        scaled, free = self.sizes * 0.0, np.ones(len(self.sizes), bool)
        while True:
            left = whole - float(self.room[~free].sum())
            scaled = np.where(free, self.sizes * (left / self.sizes[free].sum()), self.room)
            beyond = free & (scaled > self.room)
            if not beyond.any():
                return scaled
            free &= ~beyond


@dataclass(frozen=True)
class Sparse:
    """The 8-bit changes that take one part after the other, each as far as it may go.

    Parameters
    ----------
    change: (height, width, channels) int64, all parts, each as far as it may go.
    parts: (height, width, channels) int64, the part that each component belongs to, in their order.
    costs: (parts,) float64, the budget that each part takes: its counts, or 1 for a pixel.
    gains: (parts,) float64, what each part brings.
    divisible: whether a part may be taken by the count.
    """

    change: np.ndarray
    parts: np.ndarray
    costs: np.ndarray
    gains: np.ndarray
    divisible: bool

    def within(self, radius: float) -> np.ndarray:
        """The change (height, width, channels) int64 in whole counts, at most `radius` long."""
        whole = math.floor(radius * (1 + ROUNDING))
        spent = np.cumsum(self.costs)
        taken = int(np.searchsorted(spent, whole, side="right"))
        change = np.where(self.parts < taken, self.change, 0)
        if self.divisible and taken < len(spent):
            left = whole - (int(spent[taken - 1]) if taken else 0)
            change = np.where(self.parts == taken, np.sign(self.change) * left, change)
        return change

    def reaching(self, gain: float) -> float:
        """The budget of the shortest of them that brings `gain`; infinite where none does."""
        gained, spent = np.cumsum(self.gains), np.cumsum(self.costs)
        last = int(np.searchsorted(gained, gain))
        if last >= len(gained):
            return math.inf
        before = (gained[last - 1], spent[last - 1]) if last else (0.0, 0.0)
        share = (gain - before[0]) / self.gains[last] if self.divisible else 1.0
        return float(math.ceil(before[1] + share * self.costs[last] - ROUNDING))


def steepest_components(gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path:
    """For each sum of counts (l1) the 8-bit change along which a linear function rises most.

    Parameters
    ----------
    gradient
        (height, width, channels) float, of the function.
    low, high
        Like `gradient`: the least and the largest change of each component, in counts.

    Returns
    -------
    The changes, exactly: components in the order of their slopes, each as far as it may go. One with more
    room brings no more for a count.
    """
    slope, change = _oriented(gradient, low, high)
    gains = (slope * change).ravel()
    costs = np.abs(change).ravel().astype(np.float64)
    return _in_order(change, np.abs(slope).ravel(), gains, costs, slope.shape, divisible=True)


def steepest_pixels(gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path:
    """For each number of pixels (l0) the 8-bit change along which a linear function rises most.

    Parameters
    ----------
    gradient
        (height, width, channels) float, of the function.
    low, high
        Like `gradient`: the least and the largest change of each component, in counts.

    Returns
    -------
    The changes, exactly: pixels in the order of what all their components together can gain.
    """
    slope, change = _oriented(gradient, low, high)
    gains = (slope * change).sum(axis=-1).ravel()
    costs, shape = np.ones(gains.size), (*slope.shape[:2], 1)
    return _in_order(change, gains, gains, costs, shape, divisible=False)


def _oriented(
    gradient: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The slopes in float64, and the change (int64) of each component as far as it may go upwards."""
    slope = gradient.astype(np.float64)
    most = np.floor(np.where(slope > 0, high, -low).astype(np.float64))
    return slope, (np.sign(slope) * most).astype(np.int64)


def _in_order(
    change: np.ndarray,
    rank: np.ndarray,
    gains: np.ndarray,
    costs: np.ndarray,
    shape: tuple[int, ...],
    *,
    divisible: bool,
) -> Sparse:
    """The parts that gain anything, by falling `rank`."""
    order = np.argsort(-rank, kind="stable")
    order = order[gains[order] > 0]
    number = np.full(gains.size, gains.size)
    number[order] = np.arange(len(order))
    parts = np.broadcast_to(number.reshape(shape), change.shape)
    return Sparse(change, parts, costs[order], gains[order], divisible)


def lattice(delta: np.ndarray, low: np.ndarray, high: np.ndarray, power: int) -> Lattice:
    """The 8-bit changes along `delta`.

    Parameters
    ----------
    delta: (height, width, channels) float, in counts.
    low, high: like `delta`, the least and the largest change of each component in counts.
    power: 2 for l2, 1 for l1.
    """
    flat = delta.ravel().astype(np.float64)
    room = np.floor(np.where(flat > 0, high.ravel(), -low.ravel()).astype(np.float64))
    places = np.flatnonzero((flat != 0) & (room >= 1))
    sizes = np.abs(flat[places]) * (1 + SPREAD * _spread(delta.shape).ravel()[places])
    return Lattice(delta.shape, places, np.sign(flat[places]), sizes, room[places], power)


def _product(one: np.ndarray, other: np.ndarray) -> float:
    """Their inner product. Not a matrix library's, whose threads take longer to wake than this takes."""
    return float(np.einsum("i,i->", one, other))


def _raised(counts: np.ndarray, where: np.ndarray) -> np.ndarray:
    raised = counts.copy()
    raised[where] += 1
    return raised


def _spread(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of 0..1, (height, width, channels): any few largest of them lie all over the picture.

    Additive recurrence with the powers of the plastic number (Roberts 2018).
    """
    rows, columns, channels = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (0.7548776662 * rows + 0.5698402910 * columns + 0.3819660113 * channels) % 1.0
