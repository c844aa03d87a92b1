"""Losses of a row of logits against a class: low where the model says that class.

`logits` (rows, classes) float, `classes` (rows,) int; each returns (rows,). Attacks never pick a
sign: the goal does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops


def _onehot(logits: Any, classes: Any) -> Any:
    return ops.one_hot(classes, logits.shape[-1], dtype=logits.dtype)


def cross_entropy(logits: Any, classes: Any) -> Any:
    """``log sum_j exp z_j - z_c``: minus the log-probability of the class."""
    chosen = ops.sum(logits * _onehot(logits, classes), axis=-1)
    return ops.logsumexp(logits, axis=-1) - chosen


def margin(logits: Any, classes: Any) -> Any:
    """``max_{j != c} z_j - z_c``: by how much the best other class wins (Carlini & Wagner 2017)."""
    onehot = _onehot(logits, classes)
    others = ops.max(ops.where(onehot > 0, -1e30, logits), axis=-1)
    return others - ops.sum(logits * onehot, axis=-1)


LOSSES: dict[str, Callable[[Any, Any], Any]] = {"cross_entropy": cross_entropy, "margin": margin}
