"""Least squares with one design and any number of targets: factorises once, then solves row by row.

Used by the regression solver and by the attack that regresses the loss on probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops


@dataclass(frozen=True)
class Factored:
    """The QR factors of ``min over b of |design b - target|**2 + sum penalty b**2``.

    The design is factorised with the rows of the penalty below it.

    Parameters
    ----------
    orthogonal : numpy.ndarray, shape (rows, parameters)
        The rows of Q that belong to the design.
    triangle : numpy.ndarray, shape (parameters, parameters)
        R.
    """

    orthogonal: np.ndarray
    triangle: np.ndarray

    @classmethod
    def of(cls, design: Any, penalty: Any = 0.0) -> Factored:
        """Factorise a design.

        Parameters
        ----------
        design : array_like, shape (rows, parameters)
            Converted to float64.
        penalty : array_like
            The penalty of each parameter, at least 0; broadcasts to (parameters,).
        """
        rows = np.asarray(design, "float64")
        columns = rows.shape[1]
        border = np.diag(np.sqrt(np.broadcast_to(np.asarray(penalty, "float64"), (columns,))))
        q, r = np.linalg.qr(np.concatenate([rows, border]))
        return cls(q[: len(rows)], r)

    @property
    def undetermined(self) -> int | None:
        """The index of a parameter that the rows do not determine; None if there is none."""
        sizes = np.abs(np.diag(self.triangle))
        return int(np.argmin(sizes)) if np.min(sizes) <= 1e-11 * np.max(sizes) else None

    @cached_property
    def inverse(self) -> np.ndarray:
        """The matrix (parameters, rows) that maps a target to its solution."""
        return np.linalg.solve(self.triangle, self.orthogonal.T)

    def solve(self, targets: Any) -> Any:
        """Return the solutions (..., parameters) for targets (..., rows), in the precision of the targets."""
        targets = ops.convert_to_tensor(targets)
        return ops.matmul(targets, ops.cast(self.inverse.T, targets.dtype))
