"""Target classes of targeted attacks: the classes of each row in descending order of their logits."""

from __future__ import annotations

from typing import Any

from keras import ops

from robustness.numerics.powers_of_two import HUGE


def ordered(logits: Any, aims: Any) -> Any:
    """The classes of each row in descending order of their logits, the aim last.

    Parameters
    ----------
    logits
        (rows, classes).
    aims
        (rows,) int32.

    Returns
    -------
    (rows, classes) int32. Of equal logits the lower class comes first.
    """
    aim = ops.one_hot(aims, logits.shape[-1], dtype=logits.dtype)
    return ops.cast(ops.argsort(-ops.where(aim > 0, -HUGE, logits), axis=-1), "int32")


def ranked(logits: Any, aims: Any, rank: Any) -> Any:
    """The class at a rank among those that are not the aim.

    Parameters
    ----------
    logits
        (rows, classes).
    aims
        (rows,) int32.
    rank
        (rows,) int32, 0 for the likeliest class; ranks beyond the last start again at 0.

    Returns
    -------
    (rows,) int32. Of equal logits the lower class comes first.
    """
    classes = logits.shape[-1]
    place = ops.one_hot(rank % (classes - 1), classes, dtype="int32")
    return ops.sum(ordered(logits, aims) * place, axis=-1)
