"""The common part of C&W and EAD: minimise a distance plus c times the margin, for several c in turn."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from keras import ops

from robustness.attacks.components.boundary import steepness
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task, where_rows
from robustness.contract.types import State
from robustness.errors import SettingError
from robustness.numerics.batch_invariant import batch_invariant
from robustness.numerics.powers_of_two import TINY


@dataclass(frozen=True, kw_only=True)
class Penalty(Attack):
    """Lower ``size(change) + c * max(margin, -confidence)`` from the image, then again with another c.

    All searches have the same number of steps. If a search flips, the next c is the mean of this one and the
    largest that did not flip; as long as none has flipped, c is multiplied by ten. Changes are in units of
    the distance at which the linearised model crosses the boundary (at most epsilon), and margins in units
    of the image's own margin, so that a linear model needs c = 1: no constant depends on the scale of logits
    or pixels, or on the size of the images.

    Parameters
    ----------
    loss
        The loss in place of the margin; one that is zero at the boundary.
    steps
        Number of steps of all searches together.
    binary_search_steps
        Number of searches, each with its own c.
    initial_const
        The first c.
    confidence
        The margin beyond the boundary up to which the loss counts.

    References
    ----------
    Carlini & Wagner 2017, arXiv:1608.04644, sec. V.
    """

    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    # Cross-entropy is not zero at the boundary, where the penalty must end.
    loss: str = setting("margin", "loss that is lowered", choices=("margin", "dlr"))
    steps: int = setting(900, "number of steps of all searches together", low=2, high=1_000_000)
    binary_search_steps: int = setting(
        9, "number of searches, each with its own c", low=1, high=100
    )
    initial_const: float = setting(2.0, "first c; a linear model needs 1", low=1e-6, high=1e6)
    confidence: float = setting(
        0.0, "margin beyond the boundary up to which the loss counts", low=0, high=1000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2 * self.binary_search_steps:
            raise SettingError(
                f"steps={self.steps} is too small for binary_search_steps={self.binary_search_steps}; "
                f"expected at least {2 * self.binary_search_steps}, two for each search."
            )

    @property
    def share(self) -> int:
        """The number of steps of each search."""
        return self.steps // self.binary_search_steps

    @abstractmethod
    def memory(self, task: Task) -> State:
        """The state of `descend` at the start of a search."""

    @abstractmethod
    def descend(
        self, change: Any, slope: Any, constant: Any, count: Any, rate: Any, memory: State
    ) -> tuple[Any, State]:
        """Take one step of the minimisation.

        Parameters
        ----------
        change, slope
            (rows, h, w, c): the change, and the gradient of the margin (0 beyond the confidence), in the
            units of the class.
        constant, count, rate
            (rows, 1, 1, 1): c, the steps done in this search, and the rate, which falls to 0 in each search.
        memory
            As `memory` returns it.

        Returns
        -------
        The next change and memory.
        """

    def unit(self, linear: Any) -> Any:
        """The unit of changes, (rows,), if the linearised model flips at the distance `linear` (rows,)."""
        return linear

    def pace(self, gradient: Any) -> Any:
        """A factor of the rates, (rows,), from the margin's gradient (rows, h, w, c) at the image."""
        return ops.ones_like(gradient[:, 0, 0, 0])

    def init(self, task: Task) -> State:
        zero = 0 * task.epsilon
        search = {"low": zero, "high": zero + 1e30, "constant": zero + self.initial_const}
        return (
            {"point": task.images, "flipped": zero}
            | {"linear": zero + 1.0, "margin": zero + 1.0, "pace": zero + 1.0}
            | search
            | self.memory(task)
        )

    def step(self, task: Task, state: State, look: Look) -> State:
        seen = look(state["point"])
        first, count = task.step == 0, task.step % self.share
        margin = ops.where(first, ops.maximum(seen.loss, TINY), state["margin"])
        now = ops.minimum(margin / steepness(task, seen.gradient), task.epsilon)
        linear = ops.where(first, now, state["linear"])
        pace = ops.where(first, self.pace(seen.gradient), state["pace"])
        gains = ops.cast(seen.loss > -self.confidence, "float32")
        slope = seen.gradient * task.per_row(gains * linear / margin)
        wide = task.per_row(self.unit(linear))
        rate = (
            pace
            * (1 + batch_invariant(ops.cos, math.pi * ops.cast(count, "float32") / self.share))
            / 2
        )
        memory = {name: state[name] for name in self.memory(task)}
        change, memory = self.descend(
            (state["point"] - task.images) / wide,
            slope,
            task.per_row(state["constant"]),
            task.per_row(ops.cast(count, "float32")),
            task.per_row(rate),
            memory,
        )
        point = task.clip(task.images + wide * change)
        flipped = ops.maximum(state["flipped"], ops.cast(seen.hit, "float32"))
        return self._searched(task, count, flipped, state, {"point": point} | memory) | {
            "linear": linear,
            "margin": margin,
            "pace": pace,
        }

    def _searched(self, task: Task, count: Any, flipped: Any, state: State, after: State) -> State:
        """The state after a step; after the last step of a search, the first state of the next."""
        ends = count == self.share - 1
        low, high, constant = state["low"], state["high"], state["constant"]
        high = ops.where(flipped > 0, ops.minimum(high, constant), high)
        low = ops.where(flipped > 0, low, ops.maximum(low, constant))
        nearer = ops.where(high < 1e29, (low + high) / 2, 10 * constant)
        fresh = {"point": task.images} | self.memory(task)
        return where_rows(ends, fresh, after) | {
            "low": ops.where(ends, low, state["low"]),
            "high": ops.where(ends, high, state["high"]),
            "constant": ops.where(ends, nearer, constant),
            "flipped": ops.where(ends, 0.0, flipped),
        }
