"""Measure time and memory of the solvers, against direct implementations without them.

    python benchmarks/solvers.py regression [ROWS FEATURES]
    python benchmarks/solvers.py logistic   [ROWS FEATURES]
    python benchmarks/solvers.py lstsq      [ROWS FEATURES]
    python benchmarks/solvers.py spreading  [COUNT DIM]
    python benchmarks/solvers.py naive      [COUNT DIM]

Each side runs in a process of its own, because peak memory is measured for a process. The features are in a
file that is read in slices, so that a solver that works in chunks needs little memory.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np


@dataclass(frozen=True)
class Rows:
    """A matrix on disk whose slices are read on access and not kept in memory."""

    path: Path
    shape: tuple[int, int]

    def __getitem__(self, what: int | slice) -> np.ndarray:
        rows, features = self.shape
        begin, end, _ = (
            slice(what, what + 1).indices(rows) if isinstance(what, int) else what.indices(rows)
        )
        count = (end - begin) * features
        found = np.fromfile(self.path, "float64", count, offset=8 * begin * features)
        return found if isinstance(what, int) else found.reshape(-1, features)


def peak() -> float:
    """Peak memory of this process in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(rows: int, features: int) -> tuple[Rows, np.ndarray]:
    """A matrix on disk, and targets."""
    path = Path(tempfile.gettempdir()) / f"robustness-benchmark-{rows}x{features}.bin"
    random = np.random.default_rng(0)
    if not path.exists():
        with path.open("wb") as file:
            for begin in range(0, rows, 8192):
                random.normal(size=(min(8192, rows - begin), features)).tofile(file)
    x = Rows(path, (rows, features))
    y = np.empty(rows)
    for begin in range(0, rows, 8192):
        y[begin : begin + 8192] = x[begin : begin + 8192] @ slopes(features) + 1.0
    return x, y + np.random.default_rng(1).normal(size=rows)


T = TypeVar("T")


def slopes(features: int) -> np.ndarray:
    """The true coefficients."""
    return np.linspace(-1.0, 1.0, features)


def clock(name: str, call: Callable[[], T]) -> T:
    before, begin, spent = peak(), time.perf_counter(), time.process_time()
    result = call()
    wall, spent = time.perf_counter() - begin, time.process_time() - spent
    print(
        f"{name}: {wall:.2f} s ({spent:.2f} s of processor), peak {before:.0f} -> {peak():.0f} MB"
    )
    return result


def regression(rows: int = 1_000_000, features: int = 100) -> None:
    from robustness.optimization.regression.least_squares import Descent, least_squares

    x, y = table(rows, features)
    clock(
        "a fit of few rows, which loads what there is to load",
        lambda: least_squares(x[:9999], y[:9999]),
    )
    fit = clock("exact, in chunks", lambda: least_squares(x, y))
    print(
        f"largest error of a coefficient: {np.max(np.abs(fit.coefficients - slopes(features))):.2g}"
    )
    way = Descent(standardize=True, steps=50)
    clock("50 steps of plain descent", lambda: least_squares(x, y, method=way))


def logistic(rows: int = 1_000_000, features: int = 100) -> None:
    from robustness.optimization.regression.logistic import logistic as fit

    x, y = table(rows, features)
    y = (y + np.random.default_rng(2).logistic(size=rows) > 1.0).astype("float64")
    clock("a fit of few rows, which loads what there is to load", lambda: fit(x[:9999], y[:9999]))
    found = clock("logistic, in chunks", lambda: fit(x, y))
    print(f"{len(found.history)} evaluations, {found.status}")


def lstsq(rows: int = 1_000_000, features: int = 100) -> None:
    x, y = table(rows, features)

    def solve() -> np.ndarray:
        return np.linalg.lstsq(np.column_stack([x[:], np.ones(rows)]), y, rcond=None)[0]

    clock("numpy.linalg.lstsq", solve)


def spreading(count: int = 2000, dim: int = 32) -> None:
    from keras import ops

    from robustness.optimization.descent import compiled_value_and_gradient
    from robustness.optimization.spherical_codes.energies import inverse_power
    from robustness.optimization.spherical_codes.problem import checked_problem
    from robustness.optimization.spherical_codes.spread import spread

    problem = checked_problem(count, dim, None, False)
    x = np.random.default_rng(0).normal(size=(1, count, dim))
    data = [x, problem.fixed[None], problem.pairs[None], np.ones(1)]
    tensors = [ops.convert_to_tensor(d) for d in data]
    clock(
        "compile and first gradient", lambda: compiled_value_and_gradient(inverse_power)(*tensors)
    )
    clock(
        "one gradient", lambda: np.asarray(compiled_value_and_gradient(inverse_power)(*tensors)[1])
    )
    found = clock("the whole code, 60 evaluations a stage", lambda: spread(count, dim, steps=60))
    print(found.status)
    print(f"smallest angle {found.angle:.4f} degrees, bound {found.angle + found.gap:.4f}")


def naive(count: int = 2000, dim: int = 32) -> None:
    x = np.random.default_rng(0).normal(size=(count, dim))
    x /= np.linalg.norm(x, axis=1, keepdims=True)

    def gradient() -> np.ndarray:
        total = np.zeros_like(x)
        for i in range(count):
            for j in range(i):
                away = x[i] - x[j]
                push = away / float(away @ away) ** 1.5
                total[i] -= push
                total[j] += push
        return total

    clock("one gradient by a double loop", gradient)


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[2:]]
    sides = (regression, logistic, lstsq, spreading, naive)
    {side.__name__: side for side in sides}[sys.argv[1]](*sizes)
