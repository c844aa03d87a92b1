"""Planes between classes, as an attack sees them: the nearest one, and the way to it."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from robustness.attacks.components.target_classes import ordered
from robustness.contract.look import Evaluation
from robustness.contract.task import Task
from robustness.numerics.hyperplanes import PLANES
from robustness.numerics.powers_of_two import TINY, binade
from robustness.threat.norms import NORMS

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""The norm that a slope is divided by: how much a change of size one can gain."""


def steepness(task: Task, slope: Any) -> Any:
    """How much a change of size one can gain along `slope` (rows, h, w, c), (rows,)."""
    # In units of its own: squares of a gradient may underflow, or overflow.
    unit = binade(slope)
    size = NORMS[DUAL[task.norm.name]].size(slope / task.per_row(unit))
    return ops.maximum(unit * size, TINY)


def likeliest(task: Task, seen: Evaluation, most: int) -> list[Any]:
    """The classes (rows,) whose boundaries may be crossed, the likeliest first, at most so many."""
    count = min(most, task.goal.destinations(seen.logits.shape[-1]))
    order = ordered(seen.logits, task.aims)
    return [order[:, k] for k in range(count)]


def nearest(task: Task, seen: Evaluation, others: list[Any]) -> tuple[Any, Any]:
    """Normal (rows, h, w, c) and gap (rows,) of the nearest plane between the classes.

    The gap falls against the normal, and is below zero where the plane is crossed.
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
            normal = ops.where(task.per_row(nearer), slope, normal)
            gap, least = ops.where(nearer, ahead, gap), ops.minimum(far, least)
    return normal, gap


def onto(task: Task, normal: Any, gain: Any, point: Any) -> Any:
    """From `point` to the nearest picture on the plane where the gap has grown by `gain`."""
    size, unit = math.prod(point.shape[1:]), binade(normal)
    normal, gain = normal / task.per_row(unit), gain / unit
    normal, low, high = (ops.reshape(x, (-1, size)) for x in (normal, *task.room(point)))
    return ops.reshape(PLANES[task.norm.name](normal, gain, low, high), ops.shape(point))
