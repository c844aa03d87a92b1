"""Least squares with one design and any number of targets: factored once, solved row by row.

Both the regression solver and the attack that regresses the loss on probes stand on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops


@dataclass(frozen=True)
class Factored:
    """``min over b of |design b - target|**2 + sum penalty b**2``: the QR of the design.

    `orthogonal` (rows, parameters) and `triangle` (parameters, parameters): of the design with the
    penalty's rows below it, of which `orthogonal` keeps those of the design.
    """

    orthogonal: np.ndarray
    triangle: np.ndarray

    @classmethod
    def of(cls, design: Any, penalty: Any = 0.0) -> Factored:
        """Factorise a design (rows, parameters), float64, and a penalty of each parameter."""
        rows = np.asarray(design, "float64")
        columns = rows.shape[1]
        border = np.diag(np.sqrt(np.broadcast_to(np.asarray(penalty, "float64"), (columns,))))
        q, r = np.linalg.qr(np.concatenate([rows, border]))
        return cls(q[: len(rows)], r)

    @property
    def undetermined(self) -> int | None:
        """A parameter that the rows do not determine, None if there is none."""
        sizes = np.abs(np.diag(self.triangle))
        return int(np.argmin(sizes)) if np.min(sizes) <= 1e-11 * np.max(sizes) else None

    @cached_property
    def inverse(self) -> np.ndarray:
        """(parameters, rows): what turns a target into its solution."""
        return np.linalg.solve(self.triangle, self.orthogonal.T)

    def solve(self, targets: Any) -> Any:
        """Solutions (..., parameters) for targets (..., rows), in their own precision."""
        targets = ops.convert_to_tensor(targets)
        return ops.matmul(targets, ops.cast(self.inverse.T, targets.dtype))
