"""Steps of constant length, given or derived from epsilon."""

from __future__ import annotations

from typing import Any

from robustness.threat.norms import Norm


class Stepping:
    """A mixin for attacks with the parameter `step_size`, the length of every step.

    A recipe overrides `usual`, the default length, and calls `length` in its step.
    """

    steps: int
    step_size: Any

    def usual(self, epsilon: Any) -> Any:
        """The default length of a step, from epsilon: a number or (rows,), in the unit of the norm."""
        return epsilon / 4

    def length(self, epsilon: Any) -> Any:
        """The length of a step, shaped like `epsilon`, a number or (rows,)."""
        return self.usual(epsilon) if self.step_size is None else self.step_size + 0 * epsilon

    def guided(self) -> int:
        """The number of steps that lower the loss: all but those of the start."""
        return self.steps

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        """The total length of all steps in one direction; see `Declarations.farthest`."""
        return float(self.guided() * self.length(epsilon))
