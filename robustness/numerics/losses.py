"""Losses of logits against a class, which are low where the model predicts that class.

Each takes `logits` (rows, classes) float and `classes` (rows,) int and returns (rows,). The goal
(`robustness.threat.goals`) chooses the sign, not the attack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from robustness.numerics.batch_invariant import LANES, batch_invariant
from robustness.numerics.powers_of_two import HUGE

_LOW = -HUGE
"""Replaces a logit that is left out."""

SURE = 60.0
"""The lead of a class, in logits, beyond which its cross-entropy is replaced by a logarithm."""


def _onehot(logits: Any, classes: Any) -> Any:
    return ops.one_hot(classes, logits.shape[-1], dtype=logits.dtype)


def _behind(logits: Any, classes: Any, gathered: Callable[[Any, Any], Any]) -> Any:
    """The other logits, combined into one number, minus the logit of the class; repeated in all lanes.

    `gathered` takes the differences of the other logits from the best one, and a mask without the padding.
    """
    onehot = _onehot(logits, classes)
    own = ops.sum(logits * onehot, axis=-1, keepdims=True)
    # Whole groups of lanes, so that a row's bits do not depend on its position: see `batch_invariant`.
    spare = -logits.shape[-1] % LANES
    others = ops.pad(
        ops.where(onehot > 0, _LOW, logits), ((0, 0), (0, spare)), constant_values=_LOW
    )
    top = ops.stop_gradient(ops.max(others, axis=-1, keepdims=True))
    return gathered(others - top, others > _LOW) + (top - own)


def _summed(apart: Any, _: Any) -> Any:
    return ops.log(ops.sum(ops.exp(apart), axis=-1, keepdims=True) + ops.zeros_like(apart))


def _averaged(apart: Any, there: Any) -> Any:
    # The mean excess keeps digits that the logarithm of the sum would lose where logits are nearly equal.
    excess = ops.sum(ops.where(there, ops.expm1(apart), 0.0), axis=-1, keepdims=True)
    count = ops.sum(ops.cast(there, apart.dtype), axis=-1, keepdims=True)
    return ops.log1p(excess / count + ops.zeros_like(apart))


def log_odds(logits: Any, classes: Any) -> Any:
    """Return the log-odds against the class: ``log mean_{j != c} exp z_j - z_c``.

    Parameters
    ----------
    logits
        (rows, classes) float.
    classes
        (rows,) int: the class of each row that the loss is taken against.

    Returns
    -------
    (rows,) float.

    Notes
    -----
    It rises with cross-entropy, and changes at the rate of the logits: float32 distinguishes two points by it
    whose cross-entropies are zero, or equal to the last digit.
    """
    return _behind(logits, classes, _averaged)[:, 0]


def cross_entropy(logits: Any, classes: Any) -> Any:
    """Return the cross-entropy ``log sum_j exp z_j - z_c``: minus the log-probability of the class.

    Parameters
    ----------
    logits
        (rows, classes) float.
    classes
        (rows,) int: the class of each row that the loss is taken against.

    Returns
    -------
    (rows,) float.

    Notes
    -----
    Computed as ``log(1 + exp(log sum_{j != c} exp z_j - z_c))``, whose gradient keeps its digits where the
    model is nearly certain: the usual form subtracts from one a probability that rounds to one.

    Where the class leads by more than `SURE` logits, the result is ``SURE`` plus the *logarithm* of the
    cross-entropy: exp(-90) and its gradient are zero in float32, while its logarithm is as large as the
    logits. The order of two losses and the direction of the gradient stay the same. Only the length of the
    gradient differs, which no attack of the toolkit uses.
    """
    behind = _behind(logits, classes, _summed)
    return ops.where(behind < -SURE, behind + SURE, ops.softplus(behind))[:, 0]


def margin(logits: Any, classes: Any) -> Any:
    """Return the margin ``max_{j != c} z_j - z_c``: the lead of the best other class.

    Parameters
    ----------
    logits
        (rows, classes) float.
    classes
        (rows,) int: the class of each row that the loss is taken against.

    Returns
    -------
    (rows,) float.

    References
    ----------
    Carlini & Wagner 2017, arXiv:1608.04644, sec. V.
    """
    onehot = _onehot(logits, classes)
    others = ops.max(ops.where(onehot > 0, _LOW, logits), axis=-1)
    return others - ops.sum(logits * onehot, axis=-1)


def _per_spread(logits: Any, last: int) -> Any:
    """The inverse of the denominator of a difference of logits ratio, (rows,) or 1.

    The denominator is the best logit minus the mean of those that rank third to `last`: the ratio does not
    change when all logits are scaled or shifted. With fewer classes than `last` the ratio would be constant
    for a class, and its gradient zero; therefore the difference is not divided, since a margin does not
    saturate.
    """
    if logits.shape[-1] < last:
        return 1.0
    best = ops.top_k(logits, last)[0]
    spread = best[:, 0] - ops.mean(best[:, 2:], axis=-1) + 1e-12
    return batch_invariant(ops.reciprocal, spread)


def dlr(logits: Any, classes: Any) -> Any:
    """Return the DLR loss ``(max_{j != c} z_j - z_c) / (z_(1) - z_(3))``; with two classes the margin.

    Parameters
    ----------
    logits
        (rows, classes) float.
    classes
        (rows,) int: the class of each row that the loss is taken against.

    Returns
    -------
    (rows,) float.

    References
    ----------
    Croce & Hein 2020, arXiv:2003.01690, eq. 6.
    """
    return margin(logits, classes) * _per_spread(logits, 3)


def toward(logits: Any, source: Any, destination: Any) -> Any:
    """Return the targeted DLR loss ``(z_s - z_d) / (z_(1) - (z_(3) + z_(4)) / 2)``.

    It is low where class d leads class s.

    Parameters
    ----------
    logits
        (rows, classes) float.
    source, destination
        (rows,) int: the class to leave and the class to reach.

    Returns
    -------
    (rows,) float.

    Notes
    -----
    With fewer than four classes the difference is not divided: with three, the ratio to the last class is
    always one.

    References
    ----------
    Croce & Hein 2020, arXiv:2003.01690, eq. 7.
    """
    apart = _onehot(logits, source) - _onehot(logits, destination)
    return ops.sum(logits * apart, axis=-1) * _per_spread(logits, 4)


LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
}

LEVELS = LOSSES | {"cross_entropy": log_odds}
"""For each loss a function that rises with it and changes at the rate of the logits, to compare points and to
estimate slopes."""


def stand_in(name: str, classes: int) -> tuple[str, str]:
    """Return the loss that replaces `name` on a model with this number of classes, and the reason.

    Parameters
    ----------
    name
        A key of `LOSSES`.
    classes
        The number of classes of the model.

    Returns
    -------
    The name of the loss to use, and the reason for the replacement; `name` and "" without one.
    """
    if name == "dlr" and classes < 3:
        return "margin", "DLR needs three classes; with two the margin is lowered"
    return name, ""


def toward_says(classes: int) -> str:
    """Return how `toward` differs from its publication for this number of classes; "" if it does not."""
    if classes < 4:
        return (
            f"targeted DLR needs four classes; with {classes} the margin to the target is lowered"
        )
    return ""
