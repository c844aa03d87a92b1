"""Finds 8-bit changes near a float change, or along a gradient, for every budget.

If many components of a change are equally large, rounding the scaled change raises either all of them or
none: with 0.4 counts everywhere, every component rises by a whole count at the same factor. The best 8-bit
change raises only some of them. `Lattice` gives one for every budget; successive ones differ by one count.
`steepest_components` and `steepest_pixels` give, for every budget, the 8-bit change along which a linear
function rises most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

ROUNDING = 1e-6
"""Relative difference within which two budgets count as equal."""

SPREAD = 1e-3
"""The largest relative bonus of a component for its place, so that equal ones rise all over the image."""

HALVINGS = 12
"""The number of halvings of the bracket around a factor; components that then still differ are sorted."""

FILLINGS = 3
"""The number of times that the rest of an l2 budget is spent on the best components that it still permits."""

LEFT = 1e-3
"""A rest of this share of the squared length is not worth sorting all components again."""


class Path(Protocol):
    """8-bit changes, one for every budget."""

    def within(self, radius: float) -> np.ndarray:
        """Return the change (height, width, channels) int64 in whole counts, at most `radius` long."""

    def reaching(self, gain: float) -> float:
        """Return the budget of the shortest change whose product with the given change or gradient is `gain`.

        Infinite if there is none.
        """


@dataclass(frozen=True)
class Lattice:
    """The 8-bit changes along one float change.

    Parameters
    ----------
    shape : tuple of int
        The shape of the picture, (height, width, channels).
    places : numpy.ndarray, shape (n,)
        The indices of the components that may change.
    signs : numpy.ndarray, shape (n,)
        The direction of each, -1 or 1.
    sizes : numpy.ndarray, shape (n,)
        The float change of each in counts, above 0; float64.
    room : numpy.ndarray, shape (n,)
        The largest change of each within 0..255 and the mask, in whole counts; float64.
    power : int
        2 if budgets are Euclidean lengths, 1 if they are sums.
    """

    shape: tuple[int, ...]
    places: np.ndarray
    signs: np.ndarray
    sizes: np.ndarray
    room: np.ndarray
    power: int

    def within(self, radius: float) -> np.ndarray:
        """Return the change (height, width, channels) int64 in whole counts, at most `radius` long.

        Notes
        -----
        l2: each further count goes to the component with the largest float change relative to what the count
        adds to the squared length. For a linear model these are the nearest files if the float change leads
        to its nearest point, because its components are then proportional to the gradient. l1: the float
        change is scaled to the sum and rounded by the largest remainder, because components between their
        bounds have gradients of the same size.
        """
        whole = math.floor(radius**self.power * (1 + ROUNDING))
        counts = self._dearest(whole) if self.power == 2 else self._remaining(whole)
        change = np.zeros(math.prod(self.shape), np.int64)
        change[self.places] = (self.signs * counts).astype(np.int64)
        return change.reshape(self.shape)

    def _spent(self, counts: np.ndarray) -> float:
        """The length of a change, to the power `power`."""
        return float(_product(counts, counts) if self.power == 2 else counts.sum())

    def guess(self) -> float:
        """Return the budget of the change that is as long as the float change in the direction of that."""
        if self.power == 1:
            return float(self.sizes.sum())
        return self.reaching(_product(self.sizes, self.sizes))

    def reaching(self, gain: float) -> float:
        """Return the budget of the scaled change whose product with the float change is `gain`; l2 only.

        Infinite if there is none.
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
        """Two adjacent scaled and rounded changes: `total` at most `target`, and above it (or largest)."""
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
        """The components that differ, in the order of the factors that raise them."""
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
            # The next component may cost more than is left, while others cost less.
            order = self._order(counts, self.room)
        return counts

    def _remaining(self, whole: int) -> np.ndarray:
        scaled = self._to_sum(whole)
        below = np.minimum(np.floor(scaled), self.room)
        rest = np.where(below < self.room, scaled - below, -1.0)
        order = np.argsort(-rest, kind="stable")[: max(whole - int(below.sum()), 0)]
        return _raised(below, order[rest[order] >= 0])

    def _to_sum(self, whole: int) -> np.ndarray:
        """The sizes times one factor, limited to `room`, with the sum `whole`; `room` if its sum is less."""
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
    """The 8-bit changes that add one part (a component or a pixel) after another, each by its largest change.

    Parameters
    ----------
    change : numpy.ndarray, shape (height, width, channels)
        The change with all parts, int64.
    parts : numpy.ndarray, shape (height, width, channels)
        The number of the part of each component, int64, in the order of the parts.
    costs : numpy.ndarray, shape (parts,)
        The budget of each part: its counts, or 1 for a pixel; float64.
    gains : numpy.ndarray, shape (parts,)
        The gain of each part, float64.
    divisible : bool
        Whether single counts of a part may be added.
    """

    change: np.ndarray
    parts: np.ndarray
    costs: np.ndarray
    gains: np.ndarray
    divisible: bool

    def within(self, radius: float) -> np.ndarray:
        """Return the change (height, width, channels) int64 in whole counts, at most `radius` long."""
        whole = math.floor(radius * (1 + ROUNDING))
        spent = np.cumsum(self.costs)
        taken = int(np.searchsorted(spent, whole, side="right"))
        change = np.where(self.parts < taken, self.change, 0)
        if self.divisible and taken < len(spent):
            left = whole - (int(spent[taken - 1]) if taken else 0)
            change = np.where(self.parts == taken, np.sign(self.change) * left, change)
        return change

    def reaching(self, gain: float) -> float:
        """Return the budget of the shortest change that gains `gain`; infinite if there is none."""
        gained, spent = np.cumsum(self.gains), np.cumsum(self.costs)
        last = int(np.searchsorted(gained, gain))
        if last >= len(gained):
            return math.inf
        before = (gained[last - 1], spent[last - 1]) if last else (0.0, 0.0)
        share = (gain - before[0]) / self.gains[last] if self.divisible else 1.0
        return float(math.ceil(before[1] + share * self.costs[last] - ROUNDING))


def steepest_components(gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path:
    """Return, for each sum of counts (l1), the 8-bit change along which a linear function rises most.

    Parameters
    ----------
    gradient
        (height, width, channels) float: the gradient of the function.
    low, high
        Like `gradient`: the least and the largest change of each component, in counts.

    Returns
    -------
    The exact solution: components in the order of their slopes, each by its largest change. A larger change
    gains no more per count.
    """
    slope, change = _oriented(gradient, low, high)
    gains = (slope * change).ravel()
    costs = np.abs(change).ravel().astype(np.float64)
    return _in_order(change, np.abs(slope).ravel(), gains, costs, slope.shape, divisible=True)


def steepest_pixels(gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path:
    """Return, for each number of pixels (l0), the 8-bit change along which a linear function rises most.

    Parameters
    ----------
    gradient
        (height, width, channels) float: the gradient of the function.
    low, high
        Like `gradient`: the least and the largest change of each component, in counts.

    Returns
    -------
    The exact solution: pixels in the order of the gain of all their components together.
    """
    slope, change = _oriented(gradient, low, high)
    gains = (slope * change).sum(axis=-1).ravel()
    costs, shape = np.ones(gains.size), (*slope.shape[:2], 1)
    return _in_order(change, gains, gains, costs, shape, divisible=False)


def _oriented(
    gradient: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The slopes in float64, and the largest change (int64) of each component that raises the function."""
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
    """The parts with a positive gain, by falling `rank`."""
    order = np.argsort(-rank, kind="stable")
    order = order[gains[order] > 0]
    number = np.full(gains.size, gains.size)
    number[order] = np.arange(len(order))
    parts = np.broadcast_to(number.reshape(shape), change.shape)
    return Sparse(change, parts, costs[order], gains[order], divisible)


def lattice(delta: np.ndarray, low: np.ndarray, high: np.ndarray, power: int) -> Lattice:
    """Return the 8-bit changes along `delta`.

    Parameters
    ----------
    delta
        (height, width, channels) float, in counts.
    low, high
        Like `delta`: the least and the largest change of each component, in counts.
    power
        2 for l2, 1 for l1.
    """
    flat = delta.ravel().astype(np.float64)
    room = np.floor(np.where(flat > 0, high.ravel(), -low.ravel()).astype(np.float64))
    places = np.flatnonzero((flat != 0) & (room >= 1))
    sizes = np.abs(flat[places]) * (1 + SPREAD * _spread(delta.shape).ravel()[places])
    return Lattice(delta.shape, places, np.sign(flat[places]), sizes, room[places], power)


def _product(one: np.ndarray, other: np.ndarray) -> float:
    """The inner product; not by a matrix library, whose threads take longer to start than the sum takes."""
    return float(np.einsum("i,i->", one, other))


def _raised(counts: np.ndarray, where: np.ndarray) -> np.ndarray:
    raised = counts.copy()
    raised[where] += 1
    return raised


def _spread(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of 0..1, (height, width, channels), the largest of which are spread over the whole picture.

    Additive recurrence with the powers of the plastic number (Roberts 2018).
    """
    rows, columns, channels = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (0.7548776662 * rows + 0.5698402910 * columns + 0.3819660113 * channels) % 1.0
