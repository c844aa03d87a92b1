"""Decision boundaries of the linearised model: the nearest one, and the shortest change onto it."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from robustness.attacks.components.target_classes import ordered
from robustness.contract.look import Evaluation
from robustness.contract.task import Task, where_rows
from robustness.numerics.powers_of_two import TINY, binade


def steepness(task: Task, slope: Any) -> Any:
    """The dual norm of a slope: the largest gain of a change of norm one.

    Parameters
    ----------
    task
        The rows; the norm is that of their threat.
    slope
        (rows, h, w, c).

    Returns
    -------
    (rows,), above zero.
    """
    # Scaled by a power of two, since squares of a gradient may underflow or overflow.
    unit = binade(slope)
    size = task.norm.dual_size(slope / task.per_row(unit))
    return ops.maximum(unit * size, TINY)


def likeliest(task: Task, seen: Evaluation, most: int) -> list[Any]:
    """The classes whose boundaries may be crossed, in descending order of their logits.

    Returns
    -------
    At most `most` arrays (rows,).
    """
    count = min(most, task.goal.destinations(seen.logits.shape[-1]))
    order = ordered(seen.logits, task.aims)
    return [order[:, k] for k in range(count)]


def nearest(task: Task, seen: Evaluation, others: list[Any]) -> tuple[Any, Any]:
    """The nearest decision boundary of the linearised model.

    Parameters
    ----------
    task, seen
        The rows, and the evaluation of the model at their points.
    others
        Classes (rows,) each, as from `likeliest`; each costs one backward pass.

    Returns
    -------
    normal
        (rows, h, w, c): the gradient of the gap.
    gap
        (rows,): the logit of the class to leave minus that of the class to reach; below zero where the
        boundary is crossed.
    """
    classes = seen.logits.shape[-1]
    normal, gap, least = None, None, None
    for other in others:
        source, destination = task.goal.route(task.aims, other)
        apart = ops.one_hot(source, classes) - ops.one_hot(destination, classes)
        ahead, slope = ops.sum(seen.logits * apart, axis=-1), seen.pull(apart)
        far = ops.abs(ahead) / steepness(task, slope)
        if normal is None:
            normal, gap, least = slope, ahead, far
        else:
            nearer = far < least
            normal = where_rows(nearer, slope, normal)
            gap, least = ops.where(nearer, ahead, gap), ops.minimum(far, least)
    return normal, gap


def onto(task: Task, normal: Any, gain: Any, point: Any) -> Any:
    """The shortest change from `point` onto the plane where the gap has grown by `gain`.

    Parameters
    ----------
    normal, point
        (rows, h, w, c).
    gain
        (rows,), of either sign.

    Returns
    -------
    (rows, h, w, c): the change, within the pixel range and the mask, in the threat's norm.

    Raises
    ------
    SettingError
        The norm has no projection onto planes.
    """
    size, unit = math.prod(point.shape[1:]), binade(normal)
    normal, gain = normal / task.per_row(unit), gain / unit
    normal, low, high = (ops.reshape(x, (-1, size)) for x in (normal, *task.room(point)))
    return ops.reshape(task.norm.onto_plane(normal, gain, low, high), ops.shape(point))
