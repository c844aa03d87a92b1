"""Fits least squares, in closed form or by descent with `iterate`.

Minimises ``sum w (x b + a - y)**2 + ridge |b|**2`` with weights w; the ridge does not include the intercept.
Losses are per unit of weight, so that they are mean squared errors. Standardising changes the path of a
descent and not its result: the ridge always applies to the coefficients in the units of the data. Logistic
regression, with the same `Descent` and `Fit`, is in `logistic.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from robustness.errors import SettingError
from robustness.optimization.descent import CONVERGED, gradient_below, minimize
from robustness.optimization.regression.factored import Factored
from robustness.optimization.regression.table import Table, read_table, triangle

EXACT = "exact"


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Settings of a descent: any Keras optimizer, and the start.

    Parameters
    ----------
    optimizer : str or keras.optimizers.Optimizer
        See `robustness.optimization.descent.minimize`.
    learning_rate : float, optional
        None is 1 / (largest curvature) for SGD, which cannot diverge, and 0.1 for the others.
    rates : array_like
        Multiplies each parameter's step, intercept last.
    steps : int
        The largest number of steps.
    start : array_like, optional
        Coefficients in the units of the data, intercept last; None starts at 0 (standardised: at the mean).
    standardize : bool
        Whether features and target are scaled to mean 0 and standard deviation 1 for the descent.
    tolerance : float
        The descent ends when no entry of the gradient exceeds this; 0 never stops early.
    """

    optimizer: Any = "sgd"
    learning_rate: float | None = None
    rates: Any = 1.0
    steps: int = 100
    start: Any = None
    standardize: bool = False
    tolerance: float = 1e-10


@dataclass(frozen=True)
class Fit:
    """A fitted regression.

    Attributes
    ----------
    kind : str
        "least squares" or "logistic".
    names : tuple of str
        The names of the features.
    coefficients : numpy.ndarray, shape (features,)
        In the units of the data.
    intercept : float
        In the units of the data.
    loss : float
        The mean squared error or the mean log-loss.
    r2 : float
        The coefficient of determination; for a logistic fit that of McFadden.
    covariance : numpy.ndarray, shape (features + 1, features + 1)
        Of the coefficients and the intercept, which is last.
    status : str
        How the fit ended.
    history : numpy.ndarray, shape (steps + 1,)
        The losses during the fit, without the ridge term.
    path : numpy.ndarray, shape (steps + 1, features + 1)
        The coefficients during the fit, the intercept last.
    """

    kind: str
    names: tuple[str, ...]
    coefficients: np.ndarray
    intercept: float
    loss: float
    r2: float
    covariance: np.ndarray
    status: str
    history: np.ndarray
    path: np.ndarray

    @property
    def converged(self) -> bool:
        """Whether the result is the optimum, judged by its gradient."""
        return self.status in (CONVERGED, EXACT)

    @property
    def standard_errors(self) -> np.ndarray:
        """The standard errors of the coefficients and then of the intercept, (features + 1,)."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

    def predict(self, x: Any) -> np.ndarray:
        """Return the predicted targets, or the probabilities of class 1, (rows,)."""
        array = np.asarray(x, "float64")
        margin = (array[:, None] if array.ndim == 1 else array) @ self.coefficients + self.intercept
        return margin if self.kind == "least squares" else 0.5 * (1.0 + np.tanh(0.5 * margin))


# --- least squares ---------------------------------------------------------------------------


def least_squares(
    x: Any,
    y: Any,
    *,
    method: str | Descent = EXACT,
    weights: Any = None,
    ridge: float = 0.0,
    names: Sequence[str] | None = None,
) -> Fit:
    """Fit ``y = x b + a``, exactly by QR or with a `Descent`.

    Parameters
    ----------
    x : array_like, shape (rows, features) or (rows,)
        The features.
    y : array_like, shape (rows,)
        The targets.
    method : str or Descent
        "exact", or the settings of a descent.
    weights : array_like, shape (rows,), optional
        At least 0, not all 0; None weighs all rows equally.
    ridge : float
        The penalty of the squared coefficients, at least 0.
    names : sequence of str, optional
        The names of the features; by default x1, x2, ...

    Raises
    ------
    SettingError
        The rows, the ridge or the method are invalid, or the rows do not determine the coefficients.

    Notes
    -----
    The rows are read twice, a chunk at a time, and condensed into a triangular matrix of features + 2
    columns that has the same loss; both methods use only this matrix.
    """
    problem = _Squares.of(read_table(x, y, weights, names, ridge=ridge), ridge)
    return by_method(method, problem.exact, problem.descend)


def by_method(
    method: str | Descent, exact: Callable[[], Fit], descend: Callable[[Descent], Fit]
) -> Fit:
    """Return the fit by `method`; SettingError if that is neither "exact" nor a `Descent`."""
    if method == EXACT:
        return exact()
    if not isinstance(method, Descent):
        raise SettingError(f"method={method!r}; expected 'exact' or a Descent(...).")
    return descend(method)


def squared_error(point: Any, design: Any, target: Any, penalty: Any, total: Any) -> Any:
    """Return the mean squared error of `point` (parameters,), plus the ridge term."""
    residual = ops.matmul(design, ops.reshape(point, (-1, 1)))[:, 0] - target
    return (ops.sum(residual * residual) + ops.sum(penalty * point * point)) / total


@dataclass(frozen=True)
class _Squares:
    """The condensed problem in standardised units, and the conversion to the units of the data."""

    table: Table
    design: np.ndarray
    target: np.ndarray
    ridge: float

    @classmethod
    def of(cls, table: Table, ridge: float) -> _Squares:
        factor = triangle(table)
        return cls(table, factor[:, :-1], factor[:, -1], ridge)

    @property
    def penalty(self) -> np.ndarray:
        """The penalty of the standardised parameters (features + 1,): b = beta spread(y) / spread(x)."""
        return np.append(self.ridge / self.table.spread[:-1] ** 2, 0.0)

    def outward(self, beta: np.ndarray) -> np.ndarray:
        """Convert standardised parameters (..., features + 1) to the units of the data."""
        centre, spread = self.table.centre, self.table.spread
        slopes = beta[..., :-1] * spread[-1] / spread[:-1]
        level = centre[-1] + beta[..., -1] * spread[-1] - slopes @ centre[:-1]
        return np.concatenate([slopes, level[..., None]], axis=-1)

    def inward(self, point: np.ndarray) -> np.ndarray:
        """Convert parameters in the units of the data to standardised ones, the inverse of `outward`."""
        centre, spread = self.table.centre, self.table.spread
        level = (point[..., -1] + point[..., :-1] @ centre[:-1] - centre[-1]) / spread[-1]
        return np.concatenate([point[..., :-1] * spread[:-1] / spread[-1], level[..., None]], -1)

    def loss(self, point: np.ndarray) -> float:
        """Return the mean squared error of parameters in the units of the data."""
        residual = self.design @ self.inward(point) - self.target
        return float(residual @ residual) * self.table.spread[-1] ** 2 / self.table.total

    @cached_property
    def _factored(self) -> Factored:
        return Factored.of(self.design, self.penalty)

    def exact(self) -> Fit:
        column = self._factored.undetermined
        if column is not None:
            name = (*self.table.names, "the intercept")[column]
            raise SettingError(
                f"{name} is a combination of the other columns, so the coefficients are not "
                "determined; drop it, or give a ridge above 0."
            )
        best = self.outward(np.asarray(self._factored.solve(self.target)))
        return self.fit(best, EXACT, np.array([self.loss(best)]), best[None])

    def plain(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the design and the target of the condensed problem in the units of the data."""
        centre, spread = self.table.centre, self.table.spread
        back = np.diag(np.append(spread[:-1], 1.0))
        back[-1, :-1] = centre[:-1]
        return self.design @ back, self.target * spread[-1] + self.design[:, -1] * centre[-1]

    def descend(self, how: Descent) -> Fit:
        width = len(self.table.names) + 1
        given = None if how.start is None else given_start(how.start, width)
        if how.standardize:
            design, target, penalty = self.design, self.target, self.penalty
            start = np.zeros(width) if given is None else self.inward(given)
        else:
            design, target = self.plain()
            penalty = np.append(np.full(width - 1, self.ridge), 0.0)
            start = np.zeros(width) if given is None else given
        hessian = 2.0 * (design.T @ design + np.diag(penalty)) / self.table.total
        path: list[np.ndarray] = []
        solution = minimize(
            squared_error,
            start,
            optimizer=how.optimizer,
            learning_rate=rate_for(how, hessian),
            steps=how.steps,
            data=(design, target, penalty, np.array(self.table.total)),
            rates=how.rates,
            stop=gradient_below(how.tolerance) if how.tolerance > 0 else None,
            each=lambda step: path.append(step.point),
        )
        points = np.stack(path)
        points = self.outward(points) if how.standardize else points
        with np.errstate(over="ignore", invalid="ignore"):
            history = np.array([self.loss(point) for point in points])
            return self.fit(points[-1], solution.status, history, points)

    def fit(self, point: np.ndarray, status: str, history: np.ndarray, path: np.ndarray) -> Fit:
        table = self.table
        mse = self.loss(point)
        spare = table.rows - len(table.names) - 1
        noise = mse * table.total / max(spare, 1)
        inverse = np.linalg.pinv(self._factored.triangle)
        # (A'A + ridge)^-1 A'A (A'A + ridge)^-1; without a ridge the first two cancel.
        half = inverse @ inverse.T @ self.design.T
        back = np.diag(np.append(table.spread[-1] / table.spread[:-1], table.spread[-1]))
        back[-1, :-1] = -table.centre[:-1] * table.spread[-1] / table.spread[:-1]
        half = back @ half / table.spread[-1]
        return Fit(
            kind="least squares",
            names=table.names,
            coefficients=point[:-1],
            intercept=float(point[-1]),
            loss=mse,
            r2=1.0 - mse / float(_variance(table)),
            covariance=noise * half @ half.T,
            status=status,
            history=history,
            path=path,
        )


def _variance(table: Table) -> float:
    return max(float(table.weights @ (table.y - table.centre[-1]) ** 2) / table.total, 1e-300)


def given_start(start: Any, width: int) -> np.ndarray:
    """Return a start as (width,) float64; SettingError if it has another length."""
    point = np.asarray(start, "float64").ravel()
    if len(point) != width:
        raise SettingError(
            f"start has {len(point)} numbers; expected {width}: every coefficient, then the intercept."
        )
    return point


def rate_for(how: Descent, hessian: np.ndarray) -> float | None:
    """Return the learning rate of a descent; see `Descent`."""
    if how.learning_rate is not None or not isinstance(how.optimizer, str):
        return how.learning_rate
    if how.optimizer.lower() not in ("sgd", "momentum", "nesterov"):
        return 0.1
    root = np.sqrt(np.broadcast_to(np.asarray(how.rates, "float64"), (len(hessian),)))
    return 1.0 / float(np.max(np.linalg.eigvalsh(root[:, None] * hessian * root)))
