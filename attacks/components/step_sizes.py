"""The step schedules of APGD: halving steps in linf and l2, sparser steps in l1.

A schedule has three parts: its initial state (`begin`), its decision after each gradient (`turn`), and the
next point (`move`). Everything is per row; lengths are in the unit of epsilon.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from keras import ops

from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.powers_of_two import HUGE
from robustness.threat.norms import Norm


def checkpoints(steps: int) -> list[int]:
    """The steps at which `HalvingSteps` decides: ceil(p_j steps), from 0 on.

    p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06).

    References
    ----------
    Croce & Hein 2020, arXiv:2003.01690, sec. 3.1.
    """
    shares = [0, 22]
    while shares[-1] < 100:
        # In hundredths, since sums of 0.06 would accumulate rounding errors.
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    return sorted({math.ceil(p * steps / 100) for p in shares if p <= 100})


def _per_step(values: dict[int, int], steps: int, step: Any) -> Any:
    """The value for each row's step, 0 where `values` has none."""
    table = np.zeros(steps + 1, np.float32)
    table[list(values)] = list(values.values())
    return ops.take(ops.convert_to_tensor(table), ops.clip(step, 0, steps), axis=0)


class StepSchedule(ABC):
    """The step size of APGD, and the point from which a step starts."""

    @abstractmethod
    def begin(self, task: Task) -> State:
        """The state of the schedule before the first step, besides that of APGD itself."""

    @abstractmethod
    def turn(
        self, task: Task, state: State, loss: Any, steps: int, rho: float
    ) -> tuple[State, Any]:
        """Decide on the next step.

        Parameters
        ----------
        task
            The rows.
        state
            The attack's state, with the best point and its loss, this step included, and the `loss` of the
            step before.
        loss
            (rows,), of this step.
        steps
            Number of steps of the whole attack.
        rho
            The share of steps that must lower the loss.

        Returns
        -------
        The state of the schedule, and a mask (rows,) of the rows that return to their best point.
        """

    @abstractmethod
    def move(self, task: Task, state: State, kept: State, momentum: float) -> Any:
        """The next point from ``state["point"]`` along ``state["gradient"]``."""


class HalvingSteps(StepSchedule):
    """Halve the step and return to the best point if the steps since the last checkpoint gained too little.

    This is so if fewer than the share rho of them lowered the loss, or if neither the step nor the best loss
    has changed. As in the paper, the second rule holds at the first checkpoint too.

    References
    ----------
    Croce & Hein 2020, arXiv:2003.01690, alg. 1.
    """

    def begin(self, task: Task) -> State:
        zero = 0 * task.epsilon
        return {"length": 2 * task.epsilon, "gains": zero, "before": zero + HUGE, "halved": zero}

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
    """Sparse steps without momentum: two thirds as many components as the best change has.

    The schedule decides every 4 % of the steps. If the change has become sparser by 5 %, it takes the full
    step from the best point; otherwise it divides the step by 1.5, down to a tenth of epsilon.

    References
    ----------
    Croce & Hein 2021, arXiv:2103.01208, alg. 1.
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
    """Set all but the largest components of each row to zero.

    Parameters
    ----------
    values
        (rows, h, w, c).
    count
        (rows,): how many components to keep. Those equal to the last one are zero too.

    Notes
    -----
    The threshold is found by bisection: sorting all components costs more than a pass of the model.
    """
    size, axes = ops.abs(values), (1, 2, 3)

    def halve(below: Any, above: Any) -> tuple[Any, Any]:
        middle = (below + above) / 2
        many = ops.sum(ops.cast(size >= middle, "float32"), axis=axes, keepdims=True) > wanted
        return ops.where(many, middle, below), ops.where(many, above, middle)

    wanted = ops.reshape(ops.maximum(ops.floor(count), 1.0), (-1, 1, 1, 1))
    top = ops.max(size, axis=axes, keepdims=True)
    # The largest component is always kept: the upper bound is never exceeded.
    below, above = ops.while_loop(
        lambda *_: True, halve, (ops.zeros_like(top), top), maximum_iterations=26
    )
    few = ops.sum(ops.cast(size >= above, "float32"), axis=axes, keepdims=True) <= wanted
    return ops.where(size >= ops.where(few, above, below), values, 0.0)


def schedule_for(norm: Norm) -> StepSchedule:
    """Sparse steps in norms whose steepest direction is sparse, halving ones in the others."""
    return SparseSteps() if norm.sparse else HalvingSteps()
