"""Norms as objects: how big a change is, how to stay within a budget, which way is steepest.

Changes are (rows, height, width, channels) in counts, radii are (rows,) in counts: of a component
for linf, of the Euclidean length for l2, of the sum for l1, and *changed pixels* for l0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from keras import ops

from robustness.configuration import epsilons
from robustness.errors import SettingError
from robustness.numerics import prng, projections
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.powers_of_two import TINY
from robustness.text import did_you_mean


def _rows(x: Any) -> Any:
    return ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))


def _per_row(values: Any, like: Any) -> Any:
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))


class Norm(ABC):
    """What an attack needs to know of a norm."""

    name: ClassVar[str]
    unit: ClassVar[str]
    """What a radius counts, for people."""
    power: ClassVar[int] = 1
    """To which power the distance of two 8-bit pictures is always a whole number."""

    @abstractmethod
    def size(self, delta: Any) -> Any:
        """The norm of each row, (rows,)."""

    def project(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        """The nearest change within `radius` and the box ``low <= delta <= high``, per row."""
        flat = self._onto(_rows(delta), radius, _rows(low), _rows(high), delta.shape[-1])
        return ops.reshape(flat, ops.shape(delta))

    @abstractmethod
    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        """`project` for rows (rows, n) whose pixels have `channels` components."""

    @abstractmethod
    def steepest(self, gradient: Any) -> Any:
        """The change of unit norm along which a linear function rises most, per row."""

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        """An 8-bit change near `delta` that uses the budget well: whole counts, within both limits.

        ``round(s delta)`` for the largest factor s a row (up to `reach`) that the budget allows. A
        change spread thinly over all components would round to nothing; scaled up, its strongest
        components survive and the weakest do not.
        """

        def snapped(factor: Any) -> Any:
            return ops.clip(ops.round(delta * _per_row(factor, delta)), low, high)

        def halve(below: Any, above: Any) -> tuple[Any, Any]:
            middle = (below + above) / 2
            fits = self.size(snapped(middle)) <= radius
            return ops.where(fits, middle, below), ops.where(fits, above, middle)

        start = (ops.zeros_like(radius), ops.full_like(radius, self.reach))
        within, _ = ops.while_loop(lambda *_: True, halve, start, maximum_iterations=18)
        return snapped(within)

    def stretched(self, delta: Any, radius: Any) -> Any:
        """A change found nearer than `radius`, made to use it where `to_grid` does not do so itself."""
        return delta

    reach: ClassVar[float] = 4.0
    """How far `to_grid` may scale a change up."""
    rounding: ClassVar[float] = 0.0
    """How much longer than a change its 8-bit file may be without having been scaled up."""

    def effective(self, epsilon: float) -> float:
        """The part of a budget that 8-bit pictures can use (`units.effective`)."""
        return epsilons.effective(self.name, epsilon)

    def covers(self, distance: float, epsilon: float) -> bool:
        """Whether an attack that goes as far as `distance` can use all of a budget.

        Parameters
        ----------
        distance : how far from an image the attack can go, as the norm counts it.
        epsilon : the budget.

        Returns
        -------
        Whether changes of that length, as 8-bit files, come to the effective budget.
        """
        return distance * (1 + 1e-6) + self.rounding > self.effective(epsilon) * (1 - 1e-6)

    @abstractmethod
    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        """A random change within `radius`, uniform in the ball (l0: that many random pixels)."""


class Linf(Norm):
    """The largest change of any component."""

    name, unit = "linf", "counts a component"
    rounding: ClassVar[float] = 0.499

    def size(self, delta: Any) -> Any:
        return ops.max(ops.abs(_rows(delta)), axis=1)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.linf(z, radius, low, high)

    def steepest(self, gradient: Any) -> Any:
        return ops.sign(gradient)

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        reach = _per_row(ops.floor(radius), delta)
        return ops.clip(ops.round(delta), ops.maximum(low, -reach), ops.minimum(high, reach))

    def stretched(self, delta: Any, radius: Any) -> Any:
        # A change of less than half a count rounds to nothing.
        factor = ops.floor(radius) / ops.maximum(self.size(delta), 1e-6)
        return delta * _per_row(ops.maximum(factor, 1.0), delta)

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        unit = 2 * prng.uniform(keys, 0, shape) - 1
        return unit * _per_row(radius, unit)


class L2(Norm):
    """The Euclidean length of the change."""

    name, unit, power = "l2", "counts of Euclidean length", 2

    def size(self, delta: Any) -> Any:
        flat = _rows(delta)
        # Alone: TensorFlow would make a division by a square root a product with an inexact inverse.
        return batch_invariant(ops.sqrt, ops.sum(flat * flat, axis=1))

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.l2(z, radius, low, high)

    def steepest(self, gradient: Any) -> Any:
        # Scaled first: squares of small gradients would underflow.
        scaled = gradient / _per_row(_largest(gradient), gradient)
        return scaled / _per_row(ops.maximum(self.size(scaled), 1e-12), gradient)

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        direction = prng.normal(keys, 0, shape)
        root = 1.0 / float(np.prod(shape))
        length = batch_invariant(lambda u: u**root, prng.uniform(keys, 1, (1,))[:, 0])
        return direction * _per_row(radius * length / self.size(direction), direction)


class L1(Norm):
    """The sum of all changes."""

    name, unit = "l1", "counts in all"
    share: ClassVar[float] = 0.01
    """Share of components that `steepest` moves. The true steepest direction moves a single one,
    which takes thousands of steps in an image; the hundredth with the largest gradient is the
    field's compromise (Tramer & Boneh 2019, arXiv:1904.13000, sec. 5); at least four of them."""

    def size(self, delta: Any) -> Any:
        return ops.sum(ops.abs(_rows(delta)), axis=1)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.l1(z, radius, low, high)

    def steepest(self, gradient: Any) -> Any:
        size = ops.abs(_rows(gradient))
        count = min(size.shape[1], max(4, int(self.share * size.shape[1])))
        least = ops.top_k(size, count)[0][:, -1:]
        chosen = ops.logical_and(size >= least, size > 0)
        signs = ops.where(chosen, ops.sign(_rows(gradient)), 0.0)
        total = ops.maximum(ops.sum(ops.abs(signs), axis=1, keepdims=True), 1.0)
        return ops.reshape(signs / total, ops.shape(gradient))

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        # Exponentials over their sum are uniform on the simplex; one more of them, left out, makes
        # it the solid simplex.
        count = int(np.prod(shape))
        pieces = -batch_invariant(ops.log, prng.uniform(keys, 0, (count + 1,)))
        signs = ops.sign(prng.uniform(keys, 1, (count,)) - 0.5)
        within = signs * pieces[:, :count] / ops.sum(pieces, axis=1, keepdims=True)
        return ops.reshape(within * radius[:, None], (-1, *shape))


class L0(Norm):
    """How many pixels change, in any channel."""

    name, unit = "l0", "pixels"

    def size(self, delta: Any) -> Any:
        changed = ops.any(ops.abs(delta) > 0, axis=-1)
        return ops.sum(ops.cast(_rows(changed), "float32"), axis=1)

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        return ops.clip(ops.round(self.project(delta, radius, low, high)), low, high)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return projections.l0(z, radius, low, high, channels=channels)

    def steepest(self, gradient: Any) -> Any:
        strength = ops.sum(ops.abs(gradient), axis=-1, keepdims=True)
        first = ops.one_hot(ops.argmax(_rows(strength), axis=1), int(np.prod(strength.shape[1:])))
        return ops.sign(gradient) * ops.reshape(first, ops.shape(strength))

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        values = 510 * prng.uniform(keys, 0, shape) - 255
        places = prng.uniform(keys, 1, (*shape[:-1], 1))
        wide = ops.broadcast_to(ops.full_like(places, 1e9), ops.shape(values))
        chosen = self.project(ops.broadcast_to(places, ops.shape(values)), radius, -wide, wide)
        return ops.where(ops.abs(chosen) > 0, values, 0.0)


class Free(Norm):
    """No measure of pixels: epsilon is what the attack itself counts and keeps to, degrees or a severity.

    A picture that it makes is legal as it is; there is nothing to project onto, and no steepest way.
    """

    name, unit = "free", "degrees or severity"

    def size(self, delta: Any) -> Any:
        return 0.0 * _rows(delta)[:, 0]

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        return ops.clip(ops.round(delta), low, high)

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return ops.clip(z, low, high)

    def steepest(self, gradient: Any) -> Any:
        raise SettingError("No direction is steepest without a norm; choose linf, l2, l1 or l0.")

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        raise SettingError("No change is random without a norm; choose linf, l2, l1 or l0.")


def _largest(x: Any) -> Any:
    return ops.maximum(ops.max(ops.abs(_rows(x)), axis=1), TINY)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1(), L0())}
KNOWN: dict[str, Norm] = NORMS | {"free": Free()}
"""All that a threat may have: the norms, and none."""


def parse(name: str) -> Norm:
    """The norm called `name`; SettingError with the names there are, for another."""
    if name not in KNOWN:
        hint = did_you_mean(name, KNOWN)
        raise SettingError(f"Unknown norm {name!r}; expected one of {', '.join(KNOWN)}.{hint}")
    return KNOWN[name]
