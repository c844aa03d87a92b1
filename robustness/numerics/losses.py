"""Losses of a row of logits against a class: low where the model says that class.

`logits` (rows, classes) float, `classes` (rows,) int; each returns (rows,). Attacks never pick a
sign: the goal does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from robustness.numerics.batch_invariant import LANES, batch_invariant

_LOW = -1e30
"""A logit that plays no part."""

SURE = 60.0
"""The lead of a class, in logits, beyond which its cross-entropy is continued as a logarithm."""


def _onehot(logits: Any, classes: Any) -> Any:
    return ops.one_hot(classes, logits.shape[-1], dtype=logits.dtype)


def _behind(logits: Any, classes: Any, gathered: Callable[[Any, Any], Any]) -> Any:
    """The other logits, `gathered` into one beside the best of them, less the class's; in all lanes.

    `gathered` takes the others less the best, and which of them there are.
    """
    onehot = _onehot(logits, classes)
    own = ops.sum(logits * onehot, axis=-1, keepdims=True)
    # Whole groups of lanes throughout, so that no row's bits hang on its place: see `lanes`.
    spare = -logits.shape[-1] % LANES
    others = ops.pad(
        ops.where(onehot > 0, _LOW, logits), ((0, 0), (0, spare)), constant_values=_LOW
    )
    top = ops.stop_gradient(ops.max(others, axis=-1, keepdims=True))
    return gathered(others - top, others > _LOW) + (top - own)


def _summed(apart: Any, _: Any) -> Any:
    return ops.log(ops.sum(ops.exp(apart), axis=-1, keepdims=True) + ops.zeros_like(apart))


def _averaged(apart: Any, there: Any) -> Any:
    # Digits that the logarithm of two or more would not hold, where logits are nearly equal.
    excess = ops.sum(ops.where(there, ops.expm1(apart), 0.0), axis=-1, keepdims=True)
    count = ops.sum(ops.cast(there, apart.dtype), axis=-1, keepdims=True)
    return ops.log1p(excess / count + ops.zeros_like(apart))


def log_odds(logits: Any, classes: Any) -> Any:
    """``log mean_{j != c} exp z_j - z_c``: the logarithm of the odds against the class, of the mean other.

    It rises with cross-entropy, and changes as logits do: float32 tells two points apart by it where
    their cross-entropies are zero, or equal to the last digit.
    """
    return _behind(logits, classes, _averaged)[:, 0]


def cross_entropy(logits: Any, classes: Any) -> Any:
    """``log sum_j exp z_j - z_c``: minus the log-probability of the class.

    Written as ``log(1 + exp(log sum_{j != c} exp z_j - z_c))``, whose gradient keeps its digits where
    the model is all but sure: the plain form takes a probability that rounds to one from one. Where the
    class leads by more than `SURE` logits, it is ``SURE`` plus the *logarithm* of that: a cross-entropy of
    exp(-90) and its gradient are zero in float32, their logarithm and its gradient are as large as the
    logits. Which of two points has the larger loss, and the direction of the gradient, stay the same;
    only its size is another, which no attack of ours uses.
    """
    behind = _behind(logits, classes, _summed)
    return ops.where(behind < -SURE, behind + SURE, ops.softplus(behind))[:, 0]


def margin(logits: Any, classes: Any) -> Any:
    """``max_{j != c} z_j - z_c``: by how much the best other class wins (Carlini & Wagner 2017)."""
    onehot = _onehot(logits, classes)
    others = ops.max(ops.where(onehot > 0, _LOW, logits), axis=-1)
    return others - ops.sum(logits * onehot, axis=-1)


def _per_spread(logits: Any, last: int) -> Any:
    """The inverse of what a difference of logits ratio divides by, (rows,) or 1.

    The best logit less the mean of those that rank third to `last`: the ratio does not change when
    all logits are scaled or shifted. With fewer classes than `last` it would be constant for some
    class or all, and its gradient nothing, so that the difference stands undivided: a margin cannot
    saturate.
    """
    if logits.shape[-1] < last:
        return 1.0
    best = ops.top_k(logits, last)[0]
    spread = best[:, 0] - ops.mean(best[:, 2:], axis=-1) + 1e-12
    return batch_invariant(ops.reciprocal, spread)


def dlr(logits: Any, classes: Any) -> Any:
    """Difference of logits ratio ``(max_{j != c} z_j - z_c) / (z_(1) - z_(3))``; with two classes the margin.

    Croce & Hein 2020, arXiv:2003.01690, eq. 6.
    """
    return margin(logits, classes) * _per_spread(logits, 3)


def toward(logits: Any, source: Any, destination: Any) -> Any:
    """Targeted ratio ``(z_s - z_d) / (z_(1) - (z_(3) + z_(4)) / 2)``: low where d beats s.

    Croce & Hein 2020, arXiv:2003.01690, eq. 7. With fewer than four classes nothing is divided: with
    three the ratio to the last of them is always one.
    """
    apart = _onehot(logits, source) - _onehot(logits, destination)
    return ops.sum(logits * apart, axis=-1) * _per_spread(logits, 4)


LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
}

LEVELS = LOSSES | {"cross_entropy": log_odds}
"""For each loss what rises with it and changes as logits do: to compare points, or to estimate slopes."""


def stand_in(name: str, classes: int) -> tuple[str, str]:
    """The loss that stands in for `name` on a model of so many classes, and why; "" if none need."""
    if name == "dlr" and classes < 3:
        return "margin", "DLR needs three classes; with two the margin is lowered"
    return name, ""


def toward_says(classes: int) -> str:
    """What `toward` leaves out on a model of so many classes; "" if nothing."""
    if classes < 4:
        return (
            f"targeted DLR needs four classes; with {classes} the margin to the target is lowered"
        )
    return ""
