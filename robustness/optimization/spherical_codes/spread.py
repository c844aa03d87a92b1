"""Unit vectors as far apart as possible: spherical codes, Thomson's problem, and around fixed ones.

The best method, `loss="energy"`, is made of programs of the one loop. First the energy
``sum 1 / distance**p`` is lowered with p annealed upward, from many starts that share a batch. Then
the max-min problem itself is solved: by `small_codes`, or, where there are many vectors, by `multipliers`.

The other losses are the article's, lowered with any Keras optimizer.
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
"""The article's three losses by name; "energy" is the fourth, with a method of its own."""

_SMALL = 300
"""Free numbers up to which linear programs are the better polish; they know rattlers too."""


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
    loss: "energy", or one of the article's: "angle", "variance", "force".
    power: with "energy": stop at this exponent (1 is Thomson's problem) instead of annealing it.
    seed: of the random starts; the same seed, the same vectors.
    restarts: how many starts; None chooses by the size of the problem.
    start: (count, dim), a warm start: the first of the starts.
    fixed: (others, dim), vectors that stay; the new ones keep away from them too.
    antipodal: keep away from the negatives as well (lines instead of vectors).
    steps: of the article's losses (500), or evaluations in one stage of the energy: 25 in the sweep
        of a small code, 150 otherwise.
    optimizer, learning_rate: of the article's losses; see `descent.minimize`.
    path: keep every step's vectors of the winner.
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
            f"loss={loss!r} knows neither fixed vectors nor antipodal mode nor a power; "
            "use loss='energy' for those."
        )
    few = int(np.clip(BATCH // problem.pairs.size, 1, 8))
    begin = starts(problem, seed, start, restarts or few)
    number = steps or 500
    # These losses have a kink at their best, where a constant rate never comes to rest.
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
    """Adam (or another) on all starts at once; the best scored point by smallest angle is kept."""
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
