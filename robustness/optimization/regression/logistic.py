"""Fits logistic regression: ``P(y = 1) = 1 / (1 + exp(-(x b + a)))``.

Minimises ``sum w (log(1 + exp m) - y m) + ridge / 2 |b|**2`` with ``m = x b + a`` and y in 0 .. 1. Losses are
per unit of weight. Standard errors come from the Fisher information. The rows are read again at every
evaluation, a chunk at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from robustness.errors import SettingError
from robustness.optimization.descent import gradient_below, minimize
from robustness.optimization.lbfgs import minimize_rows
from robustness.optimization.regression.least_squares import (
    EXACT,
    Descent,
    Fit,
    by_method,
    given_start,
    rate_for,
)
from robustness.optimization.regression.table import Table, read_table, triangle

SEPARATED = "no finite optimum: a plane separates the two classes; a ridge above 0 gives one"


def logistic(
    x: Any,
    y: Any,
    *,
    method: str | Descent = EXACT,
    weights: Any = None,
    ridge: float = 0.0,
    names: Sequence[str] | None = None,
) -> Fit:
    """Fit ``P(y = 1) = 1 / (1 + exp(-(x b + a)))``.

    Parameters
    ----------
    x : array_like, shape (rows, features) or (rows,)
        The features.
    y : array_like, shape (rows,)
        The targets: 0 or 1, or the fraction of the row's weight that is 1.
    method : str or Descent
        "exact" (L-BFGS on standardised features, to a gradient of 1e-10), or the settings of a descent,
        which always uses standardised features (`standardize` is ignored).
    weights : array_like, shape (rows,), optional
        At least 0, not all 0; None weighs all rows equally.
    ridge : float
        The penalty of the squared coefficients, at least 0.
    names : sequence of str, optional
        The names of the features; by default x1, x2, ...

    Raises
    ------
    SettingError
        The rows, the ridge or the method are invalid, or all targets are equal to 0 or to 1.
    """
    problem = _Odds(read_table(x, y, weights, names, ridge=ridge, spare=0), ridge)
    problem.check()
    return by_method(method, problem.exact, problem.descend)


def log_loss(points: Any, penalty: Any, z: Any, y: Any, mass: Any) -> Any:
    """Return the mean log-loss of parameters, plus the ridge term, (slots,).

    Parameters
    ----------
    points : tensor, shape (slots, features + 1)
        The parameters, the intercept last.
    penalty : tensor
        The penalty of each squared parameter.
    z : tensor, shape (rows, features + 1)
        A chunk of standardised features and a column of ones.
    y, mass : tensor, shape (rows,)
        The targets and weights of the chunk. The weights of all chunks add up to 1: the result is the part
        of this chunk.
    """
    margin = ops.matmul(points, ops.transpose(z))
    terms = mass * (ops.softplus(margin) - y * margin)
    ridge = ops.sum(penalty * points * points, axis=1)
    return ops.sum(terms, axis=1) + ops.sum(mass) * ridge


@dataclass(frozen=True)
class _Odds:
    """A logistic problem in standardised units, and the conversion to the units of the data."""

    table: Table
    ridge: float

    def check(self) -> None:
        low, high = np.min(self.table.y), np.max(self.table.y)
        if low < 0 or high > 1:
            raise SettingError(f"Logistic targets run from {low:g} to {high:g}; expected 0 and 1.")
        if self.share in (0.0, 1.0):
            raise SettingError(f"Every logistic target is {self.share:g}; expected both 0 and 1.")

    @property
    def width(self) -> int:
        return len(self.table.names) + 1

    @property
    def share(self) -> float:
        """The weighted share of targets that are 1."""
        return float(self.table.weights @ self.table.y) / self.table.total

    @cached_property
    def penalty(self) -> np.ndarray:
        """The penalty of the standardised parameters (features + 1,), per unit of weight."""
        return np.append(0.5 * self.ridge / self.table.spread[:-1] ** 2, 0.0) / self.table.total

    @cached_property
    def back(self) -> np.ndarray:
        """The matrix that converts standardised parameters to the units of the data."""
        back = np.diag(np.append(1.0 / self.table.spread[:-1], 1.0))
        back[-1, :-1] = -self.table.centre[:-1] / self.table.spread[:-1]
        return back

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        total = self.table.total
        return ((z, y, mass / total) for z, y, mass in self.table.standardized())

    def exact(self) -> Fit:
        losses: list[float] = []
        path: list[np.ndarray] = []

        def watch(points: np.ndarray, values: np.ndarray) -> None:
            path.append(points[0].copy())
            losses.append(float(values[0]))

        (end,) = minimize_rows(
            log_loss,
            [(np.zeros(self.width), (self.penalty,))],
            slots=1,
            steps=1000,
            tolerance=1e-10,
            each=watch,
            pieces=self.pieces,
        )
        return self.fit(end.point, end.status, np.array(losses), np.stack(path))

    def descend(self, how: Descent) -> Fit:
        start = np.zeros(self.width)
        if how.start is not None:
            given = given_start(how.start, self.width)
            start[:-1] = given[:-1] * self.table.spread[:-1]
            start[-1] = given[-1] + given[:-1] @ self.table.centre[:-1]
        # The curvature of the log-loss is at most a quarter of that of the squares.
        factor = triangle(self.table)[:, :-1]
        hessian = 0.25 * factor.T @ factor / self.table.total + 2.0 * np.diag(self.penalty)
        path: list[np.ndarray] = []
        solution = minimize(
            log_loss,
            start[None],
            optimizer=how.optimizer,
            learning_rate=rate_for(how, hessian),
            steps=how.steps,
            data=(self.penalty,),
            rates=how.rates,
            stop=gradient_below(how.tolerance) if how.tolerance > 0 else None,
            each=lambda step: path.append(step.point[0]),
            pieces=self.pieces,
        )
        return self.fit(path[-1], solution.status, solution.history, np.stack(path))

    def fit(self, beta: np.ndarray, status: str, losses: np.ndarray, path: np.ndarray) -> Fit:
        """Make the `Fit`; `losses` (steps + 1,) include the ridge term."""
        information = np.diag(2.0 * self.penalty * self.table.total)
        total, apart = 0.0, True
        for z, y, mass in self.table.standardized():
            margin = z @ beta
            probability = 0.5 * (1.0 + np.tanh(0.5 * margin))
            information += (z * (mass * probability * (1.0 - probability))[:, None]).T @ z
            total += float(mass @ (np.logaddexp(0.0, margin) - y * margin))
            apart &= bool(np.all((margin > 0) == (y > 0.5)) and np.all(np.isin(y, (0.0, 1.0))))
        loss, share = total / self.table.total, self.share
        blank = -(share * math.log(share) + (1.0 - share) * math.log(1.0 - share))
        point = self.back @ beta
        return Fit(
            kind="logistic",
            names=self.table.names,
            coefficients=point[:-1],
            intercept=float(point[-1]),
            loss=loss,
            r2=1.0 - loss / blank,
            covariance=self.back @ np.linalg.pinv(information, hermitian=True) @ self.back.T,
            status=SEPARATED if apart and self.ridge == 0 else status,
            history=losses - np.sum(self.penalty * path * path, axis=1),
            path=path @ self.back.T,
        )


def half_point(fit: Fit, z: float = 1.959963984540054) -> tuple[float, float, float]:
    """Return where a logistic fit of one feature crosses 1/2, with Fieller's interval.

    Parameters
    ----------
    fit : Fit
        A logistic fit of a single feature.
    z : float
        The quantile of the normal distribution; by default that of a 95 % interval.

    Returns
    -------
    tuple of float
        The crossing, and the lower and upper end of its interval; an end is infinite where the interval is
        not bounded, because the slope may be 0.

    Raises
    ------
    SettingError
        The fit is of another kind, or has several features.
    """
    if fit.kind != "logistic" or len(fit.coefficients) != 1:
        raise SettingError(
            f"half_point got a {fit.kind} fit of {len(fit.coefficients)} features; expected a logistic "
            "fit of one."
        )
    a, b = fit.intercept, float(fit.coefficients[0])
    (vb, vab), (_, va) = fit.covariance
    # (a + b x)^2 <= z^2 (va + 2 x vab + x^2 vb), a parabola in x.
    square, linear, level = b * b - z * z * vb, a * b - z * z * vab, a * a - z * z * va
    inside = linear * linear - square * level
    if square <= 0 or inside < 0:
        return -a / b if b else math.nan, -math.inf, math.inf
    root = math.sqrt(inside)
    return -a / b, float((-linear - root) / square), float((-linear + root) / square)
