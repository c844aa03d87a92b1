"""The base class of norms: names and texts, distances, budgets, geometry.

Changes are (rows, height, width, channels) in counts of 0..255. Radii and epsilons are (rows,) or numbers in
the unit of the norm: counts of the largest component for linf, counts of Euclidean length for l2, the sum of
all counts for l1, *changed pixels* for l0.

A norm is one object, in one file, with one line in the registry (or an entry point in the group
``robustness.norms``). Texts, distances of 8-bit pictures and budgets use NumPy only; all methods that attacks
call use `keras.ops`, imported at first use (`arithmetic`).
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
    """A norm: its texts, the size of a change, projection onto a budget, the steepest direction."""

    # --- names and words -------------------------------------------------------------------------

    name: ClassVar[str]
    """The name on the command line, in `run.json` and in the tables: "linf"."""
    label: ClassVar[str]
    """The name in text: "L∞"."""
    measure: ClassVar[str]
    """What a distance measures, in lower case: "Euclidean length"."""
    unit: ClassVar[tuple[str, str]] = ("count", "counts")
    """The unit of epsilon, singular and plural."""
    axis: ClassVar[str]
    """The label of an axis of epsilons, after "epsilon, ": "counts of Euclidean length"."""
    budget_words: ClassVar[str] = "a distance of {0}"
    """A budget in a sentence; {0} is the amount with its unit: "an L2 distance of 100 counts"."""
    meaning: ClassVar[str]
    """What a budget permits, for readers who do not know the norm; {0} is epsilon without a unit."""
    changes: ClassVar[str] = "small changes of pixels"
    """The kind of changes that attacks in this norm make."""

    # --- kind ------------------------------------------------------------------------------------

    measures: ClassVar[bool] = True
    """Whether it measures changes; False for threats without a norm (rotations, corruptions)."""
    convex: ClassVar[bool] = True
    """Whether its balls are convex, so that gradient steps with projections work in it."""
    sparse: ClassVar[bool] = False
    """Whether the steepest change and the nearest flip change few components or pixels."""
    separable: ClassVar[bool] = False
    """Whether each component is projected independently of the others."""
    in_counts: ClassVar[bool] = True
    """Whether epsilon / 255 is meaningful: it counts steps of 1/255."""
    power: ClassVar[int] = 1
    """The power to which the distance of two 8-bit pictures is always a whole number."""
    whole: ClassVar[bool] = True
    """Whether distances of 8-bit pictures are whole numbers, so that only the floor of epsilon is usable."""
    grey: ClassVar[float] = math.inf
    """The epsilon within which every picture can be made plain grey, if that is a fixed number."""

    @property
    def column(self) -> str:
        """The column of the tables with its distances."""
        return self.name

    @property
    def title(self) -> str:
        """The name of its distance in tables: "Euclidean length (L2)"."""
        return f"{self.measure[:1].upper()}{self.measure[1:]} ({self.label})"

    def budget(self, amount: str) -> str:
        """Return a budget as part of a sentence.

        Parameters
        ----------
        amount
            Epsilon with its unit: "100 counts".

        Returns
        -------
        For example "an L2 distance of 100 counts".
        """
        return self.budget_words.format(amount)

    # --- 8-bit pictures and budgets, in NumPy -----------------------------------------------------

    @abstractmethod
    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        """Return the exact distance between two pictures, by which the judge accepts a flip.

        Parameters
        ----------
        before, after
            uint8 pictures (height, width, channels).
        """

    @abstractmethod
    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        """Return the same distance by another computation, for `robustness verify`.

        It must share no code with `distance`, so that an error in one is not an error in the other.
        """

    @abstractmethod
    def largest(self, pixels: int, channels: int) -> float:
        """Return the largest distance of two pictures if `pixels` of `channels` each may change."""

    def largest_words(self, pixels: int, channels: int) -> str:
        """Return `largest` as text, for an error message."""
        return f"{self.largest(pixels, channels):.6g}, the largest change ({pixels} pixels)"

    bounded_alike: ClassVar[bool] = False
    """Whether `largest` is the same for pictures of every size."""

    def effective(self, epsilon: float) -> float:
        """Return the part of a budget that 8-bit pictures can use.

        Returns
        -------
        The floor of `epsilon` if distances of 8-bit pictures are whole numbers (linf, l1, l0); otherwise
        `epsilon`: in l2 distances are square roots of whole numbers, which are close together, and without a
        norm the attack has its own unit.
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
            The number of pixels that may change, and of their components. If `pixels` is None, it is not
            known yet, and only budgets too large for every picture are refused.

        Raises
        ------
        SettingError
            Every picture of that size lies within an epsilon.
        """
        if pixels is None and not self.bounded_alike:
            return
        size = (pixels or 1, channels)
        most = self.largest(*size)
        for epsilon in epsilons:
            if epsilon > most * (1 + 1e-9):
                raise SettingError(
                    f"Epsilon {epsilon:.10g} is more than any change of these pictures in {self.name}; "
                    f"expected at most {self.largest_words(*size)}. Within such a budget every picture can "
                    "become any other."
                )

    def is_small(self, epsilon: float, shape: Sequence[float] | None) -> bool:
        """Return whether changes within `epsilon` are hard to see.

        Parameters
        ----------
        epsilon
            In the unit of the norm.
        shape
            The shape of the pictures, (height, width, channels); None if it is not known.

        Returns
        -------
        True by default.
        """
        return True

    rounding: ClassVar[float] = 0.0
    """The largest excess of the length of an 8-bit file over that of its change, without scaling."""

    def covers(self, distance: float, epsilon: float) -> bool:
        """Return whether an attack that reaches `distance` can use a whole budget.

        Parameters
        ----------
        distance
            The largest distance from an image that the attack reaches, in the unit of the norm.
        epsilon
            The budget.

        Returns
        -------
        Whether changes of that length, as 8-bit files, reach the effective budget.
        """
        return distance * (1 + 1e-6) + self.rounding > self.effective(epsilon) * (1 - 1e-6)

    def path_along(self, delta: np.ndarray, low: np.ndarray, high: np.ndarray) -> Lattice | None:
        """Return the 8-bit changes along `delta`, one for each budget.

        Parameters
        ----------
        delta
            (height, width, channels) float, in counts.
        low, high
            Like `delta`: the least and the largest change of each component, in counts.

        Returns
        -------
        None in norms in which no 8-bit change lies between two successive results of `to_grid`.
        """
        return None

    has_path_along: ClassVar[bool] = False
    """Whether `path_along` returns paths."""

    def steepest_path(self, gradient: np.ndarray, low: np.ndarray, high: np.ndarray) -> Path | None:
        """Return, for each budget, the 8-bit change along which a linear function rises most.

        Parameters
        ----------
        gradient
            (height, width, channels) float: the gradient of the function.
        low, high
            Like `gradient`: the least and the largest change of each component, in counts.

        Returns
        -------
        None in norms in which components have no separate cost (in linf all may change by the same size).
        """
        return None

    has_steepest_path: ClassVar[bool] = False
    """Whether `steepest_path` returns paths."""

    # --- linear functions -------------------------------------------------------------------------

    dual: ClassVar[str] = ""
    """The name of the dual norm; "" if it is not a registered norm."""

    def gain(self, slope: np.ndarray) -> float:
        """Return the largest rise of a linear function per unit of a change, without the pixel range.

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
        """Return `gain` for each row of `slope` (rows, height, width, channels), (rows,)."""
        raise self._without("dual norm")

    def onto_plane(self, normal: Any, gain: Any, low: Any, high: Any) -> Any:
        """Return the shortest change that moves along `normal` by `gain`, within the pixel range.

        Solves, for each row, ``minimise ||delta|| subject to <normal, delta> = gain, low <= delta <= high``.

        Parameters
        ----------
        normal, low, high
            (rows, n).
        gain
            (rows,), of either sign.

        Returns
        -------
        (rows, n). If the box does not reach the plane, the change is the farthest that the box permits.
        """
        raise self._without("projection onto planes")

    def plane_distance(self, normal: np.ndarray, margin: float, image: np.ndarray) -> float | None:
        """Return the exact distance of `image` from a plane, the reference of `check_attack`.

        Parameters
        ----------
        normal, image
            (pixels, channels).
        margin
            The rise of the score that is needed; positive.

        Returns
        -------
        Infinity if no picture crosses the plane; None if the norm has no closed form.
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
        """Return the norm of each row of `delta` (rows, height, width, channels), (rows,)."""

    def project(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        """Return the nearest change inside the ball and the box, for each row.

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
        """Return the change of unit norm along which a linear function rises most, for each row.

        Parameters
        ----------
        gradient
            (rows, height, width, channels).

        Raises
        ------
        SettingError
            The threat has no norm, so there is no steepest direction.
        """

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        """Return an 8-bit change near `delta` that uses the budget well: whole counts, within ball and box.

        It is ``round(s delta)`` for the largest factor s of the row (up to `scale_limit`) that the budget
        permits. A change with small values in all components would round to 0; scaled up, its largest
        components remain and the smallest do not.

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
    """The largest factor by which `to_grid` scales a change up; 1 if it only rounds."""

    def fill_budget(self, delta: Any, radius: Any) -> Any:
        """Return `delta`, which is within `radius`, scaled up to it if `to_grid` does not scale."""
        return delta

    @abstractmethod
    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        """Return a random change within `radius`, uniform in the ball (l0: that many random pixels).

        Parameters
        ----------
        keys
            (rows, 2) int32: the keys of the random numbers.
        radius
            (rows,).
        shape
            The shape of one change, (height, width, channels).
        """

    def from_normal(self, noise: Any, radius: Any, keys: Any) -> Any:
        """Return a change that is uniform in the ball, made from standard normal numbers.

        Rows with correlated `noise` get spread starts (`robustness.attacks.components.starts`).

        Parameters
        ----------
        noise
            (rows, height, width, channels), standard normal.
        radius
            (rows,).
        keys
            (rows, 2) int32: the keys of the further random numbers.
        """
        raise self._without("spread start points")
