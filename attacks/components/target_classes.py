"""Which class a targeted start goes for."""

from __future__ import annotations

from typing import Any

from keras import ops


def ordered(logits: Any, aims: Any) -> Any:
    """The classes of each row, the likeliest first and the aim last, (rows, classes) int32.

    Ties go to the lower class.
    """
    aim = ops.one_hot(aims, logits.shape[-1], dtype=logits.dtype)
    return ops.cast(ops.argsort(-ops.where(aim > 0, -1e30, logits), axis=-1), "int32")


def ranked(logits: Any, aims: Any, rank: Any) -> Any:
    """The class that ranks `rank`-th (0: best) among those that are not the aim, (rows,) int32.

    Ranks beyond the last begin anew; ties go to the lower class.
    """
    classes = logits.shape[-1]
    place = ops.one_hot(rank % (classes - 1), classes, dtype="int32")
    return ops.sum(ordered(logits, aims) * place, axis=-1)
