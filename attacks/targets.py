"""Which class a targeted start goes for."""

from __future__ import annotations

from typing import Any

from keras import ops


def ranked(logits: Any, aims: Any, rank: Any) -> Any:
    """The class that ranks `rank`-th (0: best) among those that are not the aim, (rows,) int32.

    Ranks beyond the last begin anew; ties go to the lower class.
    """
    classes = logits.shape[-1]
    aim = ops.one_hot(aims, classes, dtype=logits.dtype)
    order = ops.argsort(-ops.where(aim > 0, -1e30, logits), axis=-1)
    place = ops.one_hot(rank % (classes - 1), classes, dtype="int32")
    return ops.sum(ops.cast(order, "int32") * place, axis=-1)
