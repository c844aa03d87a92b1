"""Logistic regression on the one loop: ``P(y = 1) = 1 / (1 + exp(-(x b + a)))``.

Lowers ``sum w (log(1 + exp m) - y m) + ridge / 2 |b|**2`` with ``m = x b + a`` and y in 0 .. 1;
losses are quoted per unit of weight. Standard errors come from Fisher's information.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from robustness.errors import SettingError
from robustness.optimization.descent import minimize, settled
from robustness.optimization.quasi_newton import minimize_rows
from robustness.optimization.regression import (
    EXACT,
    Descent,
    Fit,
    check_ridge,
    given_start,
    rate_for,
    spare_rows,
)
from robustness.optimization.tables import CHUNK, Table, read_table

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
    """Fit ``P(y = 1) = 1 / (1 + exp(-(x b + a)))``; y is 0 or 1, or a fraction of the weight.

    "exact" is L-BFGS on standardised features down to a gradient of 1e-10. A `Descent` always works
    on standardised features (`standardize` is ignored), chunk by chunk. Standard errors come from
    Fisher's information.
    """
    check_ridge(ridge)
    table = read_table(x, y, weights, names, spare=spare_rows(x, ridge, 0))
    if np.min(table.y) < 0 or np.max(table.y) > 1:
        raise SettingError(
            f"Logistic targets run from {np.min(table.y):g} to {np.max(table.y):g}; expected 0 and 1."
        )
    share = float(table.weights @ table.y) / table.total
    if share in (0.0, 1.0):
        raise SettingError(f"Every logistic target is {share:g}; expected both 0 and 1.")
    z = table.standardized()
    penalty = np.append(0.5 * ridge / table.spread[:-1] ** 2, 0.0) / table.total
    if method == EXACT:
        beta, status, history, path = _quasi_newton(table, z, penalty)
    elif isinstance(method, Descent):
        beta, status, history, path = _descend(table, z, penalty, method)
    else:
        raise SettingError(f"method={method!r}; expected 'exact' or a Descent(...).")
    return _logistic_fit(table, z, ridge, beta, status, history, path, share)


def log_loss(points: Any, z: Any, y: Any, mass: Any, penalty: Any) -> Any:
    """The mean log-loss (slots,) of rows of parameters (slots, features + 1), with the ridge."""
    margin = ops.matmul(z, points[:, :, None])[:, :, 0]
    terms = mass * (ops.softplus(margin) - y * margin)
    return ops.sum(terms, axis=1) + ops.sum(penalty * points * points, axis=1)


def _piece_loss(point: Any, z: Any, y: Any, mass: Any, share: Any, penalty: Any) -> Any:
    """`log_loss` of a chunk; `share` (rows,) adds up to 1 over all chunks, for the ridge."""
    margin = ops.matmul(z, ops.reshape(point, (-1, 1)))[:, 0]
    ridge = ops.sum(penalty[:1] * point * point) * ops.sum(share)
    return ops.sum(mass * (ops.softplus(margin) - y * margin)) + ridge


def _quasi_newton(table: Table, z: np.ndarray, penalty: np.ndarray) -> tuple[Any, ...]:
    mass = table.weights / table.total
    losses: list[float] = []
    path: list[np.ndarray] = []

    def watch(points: np.ndarray, values: np.ndarray) -> None:
        path.append(points[0].copy())
        losses.append(float(values[0] - penalty @ points[0] ** 2))

    start = np.zeros(z.shape[1])
    (end,) = minimize_rows(
        log_loss,
        [(start, (z, table.y, mass, penalty))],
        slots=1,
        steps=1000,
        tolerance=1e-10,
        each=watch,
    )
    return end.point, end.status, np.array(losses), np.stack(path)


def _descend(table: Table, z: np.ndarray, penalty: np.ndarray, how: Descent) -> tuple[Any, ...]:
    mass = table.weights / table.total
    width = z.shape[1]
    start = np.zeros(width)
    if how.start is not None:
        given = given_start(how.start, width)
        start[:-1] = given[:-1] * table.spread[:-1]
        start[-1] = given[-1] + given[:-1] @ table.centre[:-1]
    path: list[np.ndarray] = []
    # The curvature of the log-loss is at most a quarter of that of the squares.
    hessian = 0.25 * (z * mass[:, None]).T @ z + 2.0 * np.diag(penalty)
    share = np.full(table.rows, 1.0 / table.rows)
    solution = minimize(
        _piece_loss,
        start,
        optimizer=how.optimizer,
        learning_rate=rate_for(how, hessian),
        steps=how.steps,
        data=(z, table.y, mass, share, np.broadcast_to(penalty, z.shape)),
        rates=how.rates,
        stop=settled(how.tolerance) if how.tolerance > 0 else None,
        each=lambda step: path.append(step.point),
        chunk=CHUNK if table.rows > CHUNK else None,
    )
    points = np.stack(path)
    history = solution.history - np.sum(penalty * points * points, axis=1)
    return solution.value, solution.status, history, points


def _logistic_fit(
    table: Table,
    z: np.ndarray,
    ridge: float,
    beta: np.ndarray,
    status: str,
    history: np.ndarray,
    path: np.ndarray,
    share: float,
) -> Fit:
    margin = z @ beta
    probability = 0.5 * (1.0 + np.tanh(0.5 * margin))
    mass = table.weights
    apart = np.all((margin > 0) == (table.y > 0.5)) and np.all(np.isin(table.y, (0.0, 1.0)))
    spikes = mass * probability * (1.0 - probability)
    information = (z * spikes[:, None]).T @ z
    information += np.diag(np.append(ridge / table.spread[:-1] ** 2, 0.0))
    back = np.diag(np.append(1.0 / table.spread[:-1], 1.0))
    back[-1, :-1] = -table.centre[:-1] / table.spread[:-1]
    covariance = back @ np.linalg.pinv(information, hermitian=True) @ back.T
    loss = float(mass @ (np.logaddexp(0.0, margin) - table.y * margin)) / table.total
    blank = -(share * math.log(share) + (1.0 - share) * math.log(1.0 - share))
    point = back @ beta
    return Fit(
        kind="logistic",
        names=table.names,
        coefficients=point[:-1],
        intercept=float(point[-1]),
        loss=loss,
        r2=1.0 - loss / blank,
        covariance=covariance,
        status=SEPARATED if apart and ridge == 0 else status,
        history=history,
        path=path @ back.T,
    )


def half_point(fit: Fit, z: float = 1.959963984540054) -> tuple[float, float, float]:
    """Where a logistic fit of one feature crosses 1/2, with Fieller's interval (95 % at z = 1.96).

    An interval that is not bounded on a side is infinite there: the slope could be 0.
    """
    if fit.kind != "logistic" or len(fit.coefficients) != 1:
        raise SettingError("half_point takes a logistic fit of a single feature.")
    a, b = fit.intercept, float(fit.coefficients[0])
    (vb, vab), (_, va) = fit.covariance
    # (a + b x)^2 <= z^2 (va + 2 x vab + x^2 vb), a parabola in x.
    square, linear, level = b * b - z * z * vb, a * b - z * z * vab, a * a - z * z * va
    inside = linear * linear - square * level
    if square <= 0 or inside < 0:
        return -a / b if b else math.nan, -math.inf, math.inf
    root = math.sqrt(inside)
    return -a / b, float((-linear - root) / square), float((-linear + root) / square)
