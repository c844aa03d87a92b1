"""The base class of norms: names and texts, distances, budgets, geometry.

Changes are (rows, height, width, channels) in counts of 0..255. Radii and epsilons are (rows,) or numbers in
the unit of the norm: counts of the largest component for linf, counts of Euclidean length for l2, the sum of
all counts for l1, *changed pixels* for l0.

A norm is one object, in one file, with one line in the registry (or an entry point in the group
``robustness.norms``). Words, distances of 8-bit pictures and budgets use NumPy only; everything that attacks
call uses `keras.ops`, imported at first use (`arithmetic`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from robustness.errors import SettingError
from robustness.numerics.pixel_lattice import Lattice, Path
from robustness.threat.norms.arithmetic import flat_rows, ops, per_row

TOP = 255.0
"""The largest change of a component, in counts."""


class Norm(ABC):
    """How large a change is, how to stay within a budget, which direction is steepest; and its words."""

    # --- names and words -------------------------------------------------------------------------

    name: ClassVar[str]
    """As on the command line, in `run.json` and in the tables: "linf"."""
    label: ClassVar[str]
    """As people write it: "L∞"."""
    measure: ClassVar[str]
    """What a distance measures, in lower case: "Euclidean length"."""
    unit: ClassVar[tuple[str, str]] = ("count", "counts")
    """What epsilon counts, singular and plural."""
    axis: ClassVar[str]
    """The label of an axis of epsilons, after "epsilon, ": "counts of Euclidean length"."""
    budget_words: ClassVar[str] = "a distance of {0}"
    """A budget in a sentence; {0} is the amount with its unit: "an L2 distance of 100 counts"."""
    meaning: ClassVar[str]
    """What a budget permits, for a reader new to it; {0} is epsilon without a unit."""
    changes: ClassVar[str] = "small changes of pixels"
    """What attacks in this norm try."""

    # --- kind ------------------------------------------------------------------------------------

    measures: ClassVar[bool] = True
    """Whether it measures a change at all: not so for threats without a norm (rotations, corruptions)."""
    convex: ClassVar[bool] = True
    """Whether its balls are convex, so that gradient steps and projections onto the ball work in it."""
    sparse: ClassVar[bool] = False
    """Whether the steepest change and the nearest flip change few components or pixels."""
    in_counts: ClassVar[bool] = True
    """Whether epsilon / 255 is meaningful: it counts steps of 1/255."""
    power: ClassVar[int] = 1
    """To which power the distance of two 8-bit pictures is always a whole number."""
    whole: ClassVar[bool] = True
    """Whether distances of 8-bit pictures are whole numbers, so that only the floor of epsilon is usable."""
    grey: ClassVar[float] = math.inf
    """The epsilon within which every picture can be made plain grey, where that is a fixed number."""

    @property
    def column(self) -> str:
        """The column of the tables that has its distances."""
        return self.name

    @property
    def title(self) -> str:
        """The name of its distance in tables: "Euclidean length (L2)"."""
        return f"{self.measure[:1].upper()}{self.measure[1:]} ({self.label})"

    def budget(self, amount: str) -> str:
        """A budget in a sentence.

        Parameters
        ----------
        amount
            Epsilon with its unit, in words: "100 counts".

        Returns
        -------
        For example "an L2 distance of 100 counts".
        """
        return self.budget_words.format(amount)

    # --- 8-bit pictures and budgets, in NumPy -----------------------------------------------------

    @abstractmethod
    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        """The distance between two pictures, exactly; the judge counts a flip by it.

        Parameters
        ----------
        before, after
            uint8 pictures (height, width, channels).
        """

    @abstractmethod
    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        """The same distance by another computation, for `robustness verify`.

        It must share no code with `distance`, so that an error of one is not an error of the other.
        """

    @abstractmethod
    def largest(self, pixels: int, channels: int) -> float:
        """The distance beyond which no two pictures are, where `pixels` of `channels` each may change."""

    def largest_words(self, pixels: int, channels: int) -> str:
        """`largest` in words, for an error message."""
        return f"{self.largest(pixels, channels):.6g}, the largest change ({pixels} pixels)"

    bounded_alike: ClassVar[bool] = False
    """Whether `largest` is the same for pictures of every size, so that it is known without one."""

    def effective(self, epsilon: float) -> float:
        """The part of a budget that 8-bit pictures can use.

        Returns
        -------
        The floor of `epsilon` where distances of 8-bit pictures are whole numbers (linf, l1, l0); `epsilon`
        otherwise: in l2 distances are square roots of whole numbers, close together, and without a norm the
        attack has its own unit.
        """
        return float(math.floor(epsilon)) if self.whole else float(epsilon)

    def expect_within(
        self, epsilons: Iterable[float], pixels: int | None = None, channels: int = 1
    ) -> None:
        """Refuse budgets larger than any change of a picture.

        Parameters
        ----------
        epsilons
            Budgets in the unit of the norm.
        pixels, channels
            How many pixels may change, and the number of their components. Where `pixels` is None it is not
            known yet, and only budgets too large for every picture are refused.

        Raises
        ------
        SettingError
            An epsilon within which every picture of that size lies.
        """
        if pixels is None and not self.bounded_alike:
            return
        size = (pixels or 1, channels)
        most = self.largest(*size)
        for epsilon in epsilons:
            if epsilon > most * (1 + 1e-9):
                raise SettingError(
                    f"Epsilon {epsilon:.10g} is more than any change of these pictures in {self.name}; "
                    f"expected at most {self.largest_words(*size)}. A budget that large leaves nothing of "
                    "the picture."
                )

    def is_small(self, epsilon: float, shape: Sequence[float] | None) -> bool:
        """Whether changes within `epsilon` are hard to see.

        Parameters
        ----------
        epsilon
            In the unit of the norm.
        shape
            Of the pictures, (height, width, channels); None where it is not known.

        Returns
        -------
        True where nothing is known against it.
        """
        return True

    rounding: ClassVar[float] = 0.0
    """By how much the 8-bit file of a change may be longer than the change, without having been scaled up."""

    def covers(self, distance: float, epsilon: float) -> bool:
        """Whether an attack that goes as far as `distance` can use all of a budget.

        Parameters
        ----------
        distance
            How far from an image the attack can go, in the unit of the norm.
        epsilon
            The budget.

        Returns
        -------
        Whether changes of that length, as 8-bit files, come to the effective budget.
        """
        return distance * (1 + 1e-6) + self.rounding > self.effective(epsilon) * (1 - 1e-6)

    def path_along(self, delta: np.ndarray, low: np.ndarray, high: np.ndarray) -> Lattice | None:
        """The 8-bit changes along `delta`, one for each budget.

        Parameters
        ----------
        delta
            (height, width, channels) float, in counts.
        low, high
            Like `delta`: the least and the largest change of each component, in counts.

        Returns
        -------
        None in norms in which rounding the scaled change (`to_grid`) leaves nothing between two files.
        """
        return None

    has_path_along: ClassVar[bool] = False
    """Whether `path_along` returns paths."""

    def steepest_path(self, gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path | None:
        """For each budget the 8-bit change along which a linear function rises most.

        Parameters
        ----------
        gradient
            (height, width, channels) float, of the function.
        low, high
            Like `gradient`: the least and the largest change of each component, in counts.

        Returns
        -------
        None in norms in which components have no price of their own (in linf each may change as far as any).
        """
        return None

    has_steepest_path: ClassVar[bool] = False
    """Whether `steepest_path` returns paths."""

    # --- linear functions -------------------------------------------------------------------------

    dual: ClassVar[str] = ""
    """The name of the dual norm; "" where there is none among the registered norms."""

    def gain(self, slope: np.ndarray) -> float:
        """How much a linear function can rise for each unit of a change, the pixel range disregarded.

        Parameters
        ----------
        slope
            (n,) float: the gradient of the function.

        Returns
        -------
        The dual norm of `slope`.
        """
        raise self._without("dual norm")

    def dual_size(self, slope: Any) -> Any:
        """`gain` for each row of `slope` (rows, height, width, channels), (rows,)."""
        raise self._without("dual norm")

    def onto_plane(self, normal: Any, gain: Any, low: Any, high: Any) -> Any:
        """The shortest change that moves along `normal` by `gain`, within the pixel range.

        Solves, for each row, ``minimise ||delta|| subject to <normal, delta> = gain, low <= delta <= high``.

        Parameters
        ----------
        normal, low, high
            (rows, n).
        gain
            (rows,), of either sign.

        Returns
        -------
        (rows, n). Where the box does not reach the plane, the change goes as far as the box permits.
        """
        raise self._without("projection onto planes")

    def plane_distance(self, normal: np.ndarray, margin: float, image: np.ndarray) -> float | None:
        """How far `image` is from a plane, exactly: the reference of `check_attack`.

        Parameters
        ----------
        normal, image
            (pixels, channels).
        margin
            How far the score must rise; positive.

        Returns
        -------
        Infinite where no picture crosses the plane; None where the norm has no closed form.
        """
        return None

    def _without(self, part: str) -> SettingError:
        return SettingError(
            f"The norm {self.name} has no {part}, which this attack needs. Choose another norm, or another "
            "attack."
        )

    # --- changes of rows, in keras.ops ------------------------------------------------------------

    @abstractmethod
    def size(self, delta: Any) -> Any:
        """The norm of each row of `delta` (rows, height, width, channels), (rows,)."""

    def project(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        """The nearest change inside the ball and the box, for each row.

        Solves ``minimise ||x - delta||_2 subject to ||x|| <= radius, low <= x <= high``.

        Parameters
        ----------
        delta, low, high
            (rows, height, width, channels) in counts, with ``low <= 0 <= high``.
        radius
            (rows,), positive.
        """
        flat = self._onto(
            flat_rows(delta), radius, flat_rows(low), flat_rows(high), delta.shape[-1]
        )
        return ops.reshape(flat, ops.shape(delta))

    @abstractmethod
    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        """`project` for rows (rows, n) whose pixels have `channels` components."""

    @abstractmethod
    def steepest(self, gradient: Any) -> Any:
        """The change of unit norm along which a linear function rises most, for each row.

        Parameters
        ----------
        gradient
            (rows, height, width, channels).

        Raises
        ------
        SettingError
            There is no steepest direction, as there is no norm.
        """

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        """An 8-bit change near `delta` that uses the budget well: whole counts, within ball and box.

        ``round(s delta)`` for the largest factor s of the row (up to `scale_limit`) that the budget permits.
        A change spread thinly over all components would round to nothing; scaled up, its strongest components
        survive and the weakest do not.

        Parameters
        ----------
        delta, low, high
            (rows, height, width, channels) in counts.
        radius
            (rows,).
        """

        def rounded(factor: Any) -> Any:
            return ops.clip(ops.round(delta * per_row(factor, delta)), low, high)

        def halve(below: Any, above: Any) -> tuple[Any, Any]:
            middle = (below + above) / 2
            fits = self.size(rounded(middle)) <= radius
            return ops.where(fits, middle, below), ops.where(fits, above, middle)

        start = (ops.zeros_like(radius), ops.full_like(radius, self.scale_limit))
        within, _ = ops.while_loop(lambda *_: True, halve, start, maximum_iterations=18)
        return rounded(within)

    scale_limit: ClassVar[float] = 4.0
    """How far `to_grid` may scale a change up; 1 where it only rounds."""

    def fill_budget(self, delta: Any, radius: Any) -> Any:
        """`delta`, found nearer than `radius`, scaled up to it where `to_grid` does not do so itself."""
        return delta

    @abstractmethod
    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        """A random change within `radius`, uniform in the ball (l0: that many random pixels).

        Parameters
        ----------
        keys
            (rows, 2) int32, of the random numbers.
        radius
            (rows,).
        shape
            Of one change, (height, width, channels).
        """

    def from_normal(self, noise: Any, radius: Any, keys: Any) -> Any:
        """A change uniform in the ball, made from standard normal numbers.

        Rows whose `noise` is correlated get spread starts (`robustness.attacks.components.starts`).

        Parameters
        ----------
        noise
            (rows, height, width, channels), standard normal.
        radius
            (rows,).
        keys
            (rows, 2) int32, of the further random numbers that are needed.
        """
        raise self._without("spread start points")
