"""Threats that no norm measures, and norms whose package is not installed or failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from robustness.errors import SettingError
from robustness.threat.norms.arithmetic import flat_rows, ops
from robustness.threat.norms.norm import Norm


class Free(Norm):
    """No norm: epsilon is in the attack's own unit, degrees of a rotation or the severity of a corruption.

    Every picture that the attack makes is within the threat: there is nothing to project onto, and no
    steepest direction.
    """

    name: ClassVar[str] = "free"
    label: ClassVar[str] = "no norm"
    measure: ClassVar[str] = "degrees or severity, as the attack counts it"
    axis: ClassVar[str] = "degrees or severity"
    unit: ClassVar[tuple[str, str]] = ("", "")
    budget_words: ClassVar[str] = "a budget of {0} (degrees or severity)"
    meaning: ClassVar[str] = "the attack goes no further than {0}, in degrees or severity"
    changes: ClassVar[str] = "turned, shifted or spoiled pictures"

    measures: ClassVar[bool] = False
    convex: ClassVar[bool] = False
    in_counts: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    def distance(self, before: np.ndarray, after: np.ndarray) -> float:
        """Return 0: nothing is measured against epsilon."""
        return 0.0

    def recount(self, before: np.ndarray, after: np.ndarray) -> float:
        """Return 0, as `distance` does."""
        return 0.0

    def largest(self, pixels: int, channels: int) -> float:
        return math.inf

    def is_small(self, epsilon: float, shape: Sequence[float] | None) -> bool:
        """Return False: a rotated or corrupted picture looks different."""
        return False

    def size(self, delta: Any) -> Any:
        return 0.0 * flat_rows(delta)[:, 0]

    def _onto(self, z: Any, radius: Any, low: Any, high: Any, channels: int) -> Any:
        return ops.clip(z, low, high)

    def to_grid(self, delta: Any, radius: Any, low: Any, high: Any) -> Any:
        return ops.clip(ops.round(delta), low, high)

    def steepest(self, gradient: Any) -> Any:
        raise SettingError(
            "Without a norm there is no steepest direction; choose linf, l2, l1 or l0."
        )

    def sample(self, keys: Any, radius: Any, shape: tuple[int, ...]) -> Any:
        raise SettingError("Without a norm there are no random changes; choose linf, l2, l1 or l0.")


class Unregistered(Free):
    """The norm of a run whose package is not installed here, or failed: only its name is known.

    A report on such a run lacks the words and the distances of the norm; `robustness verify` refuses the run.
    """

    measure: ClassVar[str] = ""
    axis: ClassVar[str] = ""
    unit: ClassVar[tuple[str, str]] = ("count", "counts")
    meaning: ClassVar[str] = ""
    changes: ClassVar[str] = "small changes of pixels"
    measures: ClassVar[bool] = True
    in_counts: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = self.label = self.axis = name  # type: ignore[misc]
        self.budget_words = f"a distance of {{0}} in {name}"  # type: ignore[misc]

    @property
    def column(self) -> str:
        """Empty: a name from an untrusted run must not become a column of a table."""
        return ""

    def is_small(self, epsilon: float, shape: Sequence[float] | None) -> bool:
        return True
