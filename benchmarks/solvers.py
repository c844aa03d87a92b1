"""Time and memory of the solvers against what one would write without them.

    python benchmarks/solvers.py regression [ROWS FEATURES]
    python benchmarks/solvers.py lstsq      [ROWS FEATURES]
    python benchmarks/solvers.py spreading  [COUNT DIM]
    python benchmarks/solvers.py naive      [COUNT DIM]

One side a process, because the peak of memory is that of a process. The features lie in a file that
is mapped, not read, so that a solver that works in chunks can stay small.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def peak() -> float:
    """Megabytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """A mapped matrix and targets."""
    name = f"robustness-benchmark-{rows}x{features}.npy"
    path = Path(tempfile.gettempdir()) / name
    random = np.random.default_rng(0)
    if not path.exists():
        x = np.lib.format.open_memmap(path, "w+", "float64", (rows, features))
        for begin in range(0, rows, 8192):
            x[begin : begin + 8192] = random.normal(size=(min(8192, rows - begin), features))
        x.flush()
    x = np.load(path, mmap_mode="r")
    y = np.empty(rows)
    for begin in range(0, rows, 8192):
        y[begin : begin + 8192] = x[begin : begin + 8192] @ np.arange(features) + 1.0
    return x, y + random.normal(size=rows)


def clock(name: str, call) -> object:
    before, begin, spent = peak(), time.perf_counter(), time.process_time()
    result = call()
    wall, spent = time.perf_counter() - begin, time.process_time() - spent
    print(
        f"{name}: {wall:.2f} s ({spent:.2f} s of processor), peak {before:.0f} -> {peak():.0f} MB"
    )
    return result


def regression(rows: int = 1_000_000, features: int = 100) -> None:
    from robustness.optimization.regression import Descent, least_squares

    x, y = table(rows, features)
    fit = clock("exact, in chunks", lambda: least_squares(x, y))
    print("largest error of a coefficient", np.max(np.abs(fit.coefficients - np.arange(features))))
    way = Descent(standardize=True, steps=50)
    clock("50 steps of plain descent", lambda: least_squares(x, y, method=way))


def lstsq(rows: int = 1_000_000, features: int = 100) -> None:
    x, y = table(rows, features)

    def solve() -> np.ndarray:
        return np.linalg.lstsq(np.column_stack([x, np.ones(rows)]), y, rcond=None)[0]

    clock("numpy.linalg.lstsq", solve)


def spreading(count: int = 2000, dim: int = 32) -> None:
    from keras import ops

    from robustness.optimization.descent import look
    from robustness.optimization.packing import inverse_power
    from robustness.optimization.spreading import _problem, spread

    problem = _problem(count, dim, None, False)
    x = np.random.default_rng(0).normal(size=(1, count, dim))
    data = [x, problem.fixed[None], problem.pairs[None], np.ones(1)]
    tensors = [ops.convert_to_tensor(d) for d in data]
    clock("compile and first gradient", lambda: look(inverse_power)(*tensors))
    clock("one gradient", lambda: np.asarray(look(inverse_power)(*tensors)[1]))
    found = clock("the whole code, 60 evaluations a stage", lambda: spread(count, dim, steps=60))
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
    {"regression": regression, "lstsq": lstsq, "spreading": spreading, "naive": naive}[sys.argv[1]](
        *sizes
    )
