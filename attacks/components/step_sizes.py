"""How APGD sets its step: halving in linf and l2, growing sparser in l1.

A pace has three parts: what it keeps (`begin`), what it decides after a look (`turn`), and how far a
row then goes (`move`). All are per row; lengths are in counts, as epsilon is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from keras import ops

from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.threat.norms import Norm


def checkpoints(steps: int) -> list[int]:
    """Steps at which `HalvingSteps` decides (Croce & Hein 2020, sec. 3.1): ceil(p_j steps), from 0 on.

    p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06).
    """
    shares = [0, 22]
    while shares[-1] < 100:
        # In hundredths: sums of 0.06 would drift across whole numbers.
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    return sorted({math.ceil(p * steps / 100) for p in shares if p <= 100})


def _per_step(values: dict[int, int], steps: int, step: Any) -> Any:
    """The number that belongs to each row's step, 0 where none does."""
    table = np.zeros(steps + 1, np.float32)
    table[list(values)] = list(values.values())
    return ops.take(ops.convert_to_tensor(table), ops.clip(step, 0, steps), axis=0)


class StepSchedule(ABC):
    """How long a step is and where it starts."""

    @abstractmethod
    def begin(self, task: Task) -> State:
        """What is kept, beside what APGD itself keeps."""

    @abstractmethod
    def turn(
        self, task: Task, state: State, loss: Any, steps: int, rho: float
    ) -> tuple[State, Any]:
        """What is kept now, and which rows go back to their best point.

        `state` has the best point and its loss, this look included, and the `loss` of the look
        before; `loss` is this look's.
        """

    @abstractmethod
    def move(self, task: Task, state: State, kept: State, momentum: float) -> Any:
        """The next point from ``state["point"]`` along ``state["gradient"]``."""


class HalvingSteps(StepSchedule):
    """Half the step, from the best point, where a stretch brought too little.

    Croce & Hein 2020, arXiv:2003.01690, alg. 1: where fewer than rho of its steps gained, or neither
    step nor best loss changed. As in the paper, the second rule holds at the first checkpoint too.
    """

    def begin(self, task: Task) -> State:
        zero = 0 * task.epsilon
        return {"length": 2 * task.epsilon, "gains": zero, "before": zero + 1e30, "halved": zero}

    def turn(
        self, task: Task, state: State, loss: Any, steps: int, rho: float
    ) -> tuple[State, Any]:
        marks = checkpoints(steps)
        spans = dict(zip(marks[1:], np.diff(marks).tolist(), strict=True))
        gains = state["gains"] + ops.cast(loss < state["loss"], "float32")
        slow = gains < rho * _per_step(spans, steps, task.step)
        stuck = ops.logical_and(state["halved"] == 0, state["best_loss"] >= state["before"])
        here = _per_step(dict.fromkeys(marks, 1), steps, task.step) > 0
        back = ops.logical_and(here, ops.logical_or(slow, stuck))
        kept = {
            "length": ops.where(back, state["length"] / 2, state["length"]),
            "gains": ops.where(here, 0.0, gains),
            "before": ops.where(here, state["best_loss"], state["before"]),
            "halved": ops.where(here, ops.cast(back, "float32"), state["halved"]),
        }
        return kept, back

    def move(self, task: Task, state: State, kept: State, momentum: float) -> Any:
        point, share = state["point"], ops.where(task.step > 0, momentum, 1.0)
        step = task.per_row(kept["length"]) * task.norm.steepest(state["gradient"])
        ahead = task.project(point - step) - point
        drift = point - state["previous"]
        return task.project(point + task.per_row(share) * ahead + task.per_row(1 - share) * drift)


class SparseSteps(StepSchedule):
    """Sparse steps, as many components as the best change has, less a third; no momentum.

    Croce & Hein 2021, arXiv:2103.01208, alg. 1: every 4 % of the steps. Where the change has become
    sparser by 5 %, the full step from the best point; else a step shorter by 1.5, to a tenth at least.
    """

    def begin(self, task: Task) -> State:
        zero = 0 * task.epsilon
        size = float(np.prod(task.images.shape[1:]))
        return {"length": task.epsilon, "dense": zero + 0.2 * size, "support": zero + size}

    def turn(
        self, task: Task, state: State, loss: Any, steps: int, rho: float
    ) -> tuple[State, Any]:
        every = max(int(0.04 * steps), 1)
        here = ops.logical_and(task.step > 0, task.step % every == 0)
        changed = ops.abs(state["best"] - task.images) > 0
        support = ops.sum(ops.cast(changed, "float32"), axis=(1, 2, 3))
        back = ops.logical_and(here, support < 0.95 * state["support"])
        shorter = ops.maximum(state["length"] / 1.5, task.epsilon / 10)
        kept = {
            "length": ops.where(here, ops.where(back, task.epsilon, shorter), state["length"]),
            "dense": ops.where(here, ops.maximum(support / 1.5, 1.0), state["dense"]),
            "support": ops.where(here, support, state["support"]),
        }
        return kept, back

    def move(self, task: Task, state: State, kept: State, momentum: float) -> Any:
        signs = ops.sign(largest(state["gradient"], kept["dense"]))
        total = ops.maximum(ops.sum(ops.abs(signs), axis=(1, 2, 3)), 1.0)
        return task.project(state["point"] - task.per_row(kept["length"] / total) * signs)


def largest(values: Any, count: Any) -> Any:
    """`values` with all but each row's `count` largest components zero, and those tied with the last.

    The threshold is found by halving: sorting as many numbers costs more than a look.
    """
    size, axes = ops.abs(values), (1, 2, 3)

    def halve(below: Any, above: Any) -> tuple[Any, Any]:
        middle = (below + above) / 2
        many = ops.sum(ops.cast(size >= middle, "float32"), axis=axes, keepdims=True) > wanted
        return ops.where(many, middle, below), ops.where(many, above, middle)

    wanted = ops.reshape(ops.maximum(ops.floor(count), 1.0), (-1, 1, 1, 1))
    top = ops.max(size, axis=axes, keepdims=True)
    # The largest stays whatever happens: the bound from above is never passed.
    below, above = ops.while_loop(
        lambda *_: True, halve, (ops.zeros_like(top), top), maximum_iterations=26
    )
    few = ops.sum(ops.cast(size >= above, "float32"), axis=axes, keepdims=True) <= wanted
    return ops.where(size >= ops.where(few, above, below), values, 0.0)


def schedule_for(norm: Norm) -> StepSchedule:
    """Sparse steps in norms whose steepest direction is sparse, halving ones in the others."""
    return SparseSteps() if norm.sparse else HalvingSteps()
