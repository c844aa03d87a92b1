"""The threat: what the attacker may do (norm, epsilons) and wants (goal)."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.errors import SettingError
from robustness.goals import Goal, Untargeted
from robustness.norms import Linf, Norm
from robustness.units import parse_epsilon


@dataclass(frozen=True)
class Threat:
    """A norm, a ladder of budgets in counts (ascending), and a goal."""

    epsilons: tuple[float, ...]
    norm: Norm = Linf()  # noqa: RUF009 - norms have no state
    goal: Goal = Untargeted()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if not self.epsilons:
            raise SettingError("No epsilon was given; expected at least one budget in counts.")
        ladder = tuple(sorted({parse_epsilon(e) for e in self.epsilons}))
        object.__setattr__(self, "epsilons", ladder)
