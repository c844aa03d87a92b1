"""Steps of one length: given, or following from epsilon; and how far all of them lead."""

from __future__ import annotations

from typing import Any

from robustness.threat.norms import Norm


class Stepping:
    """For attacks whose steps all have one length, the parameter `step_size`.

    A recipe says what that length is unless given (`usual`), and asks for `length` in its step.
    """

    steps: int
    step_size: Any

    def usual(self, epsilon: Any) -> Any:
        """The length of a step that is not given, from epsilon, a number or (rows,)."""
        return epsilon / 4

    def length(self, epsilon: Any) -> Any:
        """The length of a step, shaped like `epsilon`, a number or (rows,)."""
        return self.usual(epsilon) if self.step_size is None else self.step_size + 0 * epsilon

    def guided(self) -> int:
        """How many steps lower the loss; those of a start do not."""
        return self.steps

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        """All steps one way; see `Attack.farthest`."""
        return float(self.guided() * self.length(epsilon))
