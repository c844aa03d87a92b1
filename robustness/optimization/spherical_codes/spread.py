"""Spreads unit vectors as far apart as possible: spherical codes, Thomson's problem, beside fixed vectors.

The best method, `loss="energy"`, first minimises the energy ``sum 1 / distance**p`` with increasing p, from
many starts that share a batch. Then it solves the max-min problem itself: in `small`, or, for many vectors,
in `large`. All parts are programs of `iterate`.

The other losses are those of the article, minimised with any Keras optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from robustness.errors import SettingError
from robustness.optimization.descent import CONVERGED, Step, minimize
from robustness.optimization.spherical_codes import energies
from robustness.optimization.spherical_codes.large import solve_large
from robustness.optimization.spherical_codes.problem import (
    BATCH,
    Problem,
    Spread,
    checked_problem,
    result,
    starts,
    unit,
)
from robustness.optimization.spherical_codes.small import solve_small

__all__ = ["LOSSES", "Spread", "spread"]

LOSSES: dict[str, Callable[[Any], Any]] = {
    "angle": energies.smallest_angle,
    "variance": energies.angle_and_variance,
    "force": energies.net_force,
}
"""The three losses of the article by name; the fourth, "energy", has its own method."""

_SMALL = 300
"""The number of free variables up to which linear programs polish better; they also handle rattlers."""


def spread(  # noqa: PLR0913 - the data of one problem
    count: int,
    dim: int,
    *,
    loss: str = "energy",
    power: float | None = None,
    seed: int = 0,
    restarts: int | None = None,
    start: Any = None,
    fixed: Any = None,
    antipodal: bool = False,
    steps: int | None = None,
    optimizer: Any = "adam",
    learning_rate: float | None = None,
    path: bool = False,
) -> Spread:
    """Return `count` unit vectors in `dim` dimensions, as far apart as possible.

    Parameters
    ----------
    count, dim : int
        The number of vectors, at least 1, and of dimensions, at least 2.
    loss : str
        "energy", or one of the article: "angle", "variance", "force".
    power : float, optional
        For "energy": the only exponent (1 is Thomson's problem); None anneals it.
    seed : int
        The seed of the random starts; the same seed gives the same vectors.
    restarts : int, optional
        The number of starts; None chooses by the size of the problem.
    start : array_like, shape (count, dim), optional
        The first of the starts.
    fixed : array_like, shape (others, dim), optional
        Vectors that do not move; the new vectors are spread around them.
    antipodal : bool
        Whether the negatives of all vectors count as vectors too (lines instead of vectors).
    steps : int, optional
        Steps of the losses of the article (500 by default), or evaluations in one stage of the energy (25
        in the sweep of a small code, 150 otherwise).
    optimizer, learning_rate
        For the losses of the article; see `descent.minimize`.
    path : bool
        Whether to keep the vectors of every step of the best start.

    Returns
    -------
    Spread
        The vectors, their smallest angle, and its upper bound.

    Raises
    ------
    SettingError
        A setting is out of range, or the loss is unknown or does not support the other settings.
    """
    problem = checked_problem(count, dim, fixed, antipodal)
    if steps is not None and steps < 1:
        raise SettingError(f"steps={steps}; expected a whole number of at least 1.")
    if restarts is not None and restarts < 1:
        raise SettingError(f"restarts={restarts}; expected a whole number of at least 1.")
    if count == 1 and not len(problem.fixed):
        only = starts(problem, seed, start, 1)[0]
        return result(problem, only, [], CONVERGED, 1.0, None)
    if loss == "energy":
        return _by_energy(problem, power, seed, restarts, start, steps, path)
    if loss not in LOSSES:
        known = ", ".join(["energy", *LOSSES])
        raise SettingError(f"loss={loss!r} is not known; expected one of {known}.")
    if len(problem.fixed) or antipodal or power is not None:
        raise SettingError(
            f"loss={loss!r} supports neither fixed vectors nor antipodal mode nor a power; "
            "use loss='energy' for those."
        )
    few = int(np.clip(BATCH // problem.pairs.size, 1, 8))
    begin = starts(problem, seed, start, restarts or few)
    number = steps or 500
    # These losses are not smooth at their minimum, where a constant rate does not converge.
    rate = learning_rate or keras.optimizers.schedules.CosineDecay(0.02, number)
    return _by_descent(problem, loss, begin, optimizer, rate, number, path)


def _by_energy(  # noqa: PLR0917 - the data of one problem
    problem: Problem,
    power: float | None,
    seed: int,
    restarts: int | None,
    start: Any,
    steps: int | None,
    path: bool,
) -> Spread:
    if power is not None and not (math.isfinite(power) and power > 0):
        raise SettingError(f"power={power:g}; expected a number above 0.")
    if power is None and problem.count * (problem.dim - 1) <= _SMALL:
        return solve_small(problem, seed, restarts, start, steps, path)
    return solve_large(problem, power, seed, restarts, start, steps, path)


def _by_descent(  # noqa: PLR0917 - the data of one problem
    problem: Problem,
    loss: str,
    begin: np.ndarray,
    optimizer: Any,
    rate: float,
    steps: int,
    path: bool,
) -> Spread:
    """Run an optimizer on all starts at once and keep the evaluated point with the largest smallest angle."""
    history: list[np.ndarray] = []
    frames: list[np.ndarray] = []
    best = {"cosine": np.inf, "row": 0, "vectors": begin[0]}

    def watch(step: Step) -> None:
        cosines = np.array([np.max(problem.cosines(unit(row))) for row in step.point])
        history.append(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))))
        row = int(np.argmin(cosines))
        if cosines[row] < best["cosine"]:
            best.update(cosine=cosines[row], row=row, vectors=unit(step.point[row]))
        if path:
            frames.append(unit(step.point))

    solution = minimize(
        LOSSES[loss],
        begin,
        optimizer=optimizer,
        learning_rate=rate,
        steps=steps,
        project=energies.unit,
        each=watch,
    )
    row = int(best["row"])
    return result(
        problem,
        np.asarray(best["vectors"]),
        [angles[row] for angles in history],
        solution.status,
        1.0,
        np.stack([frame[row] for frame in frames]) if path else None,
    )
