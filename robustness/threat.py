"""The threat: what the attacker may do (norm, epsilons) and wants (goal)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from robustness.errors import SettingError
from robustness.goals import Goal, Untargeted
from robustness.norms import Linf, Norm


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


def parse_epsilon(value: float | str) -> float:
    """A budget in counts from a number, `"4"` or `"4/255"`.

    SettingError for anything else, and below 1, where no 8-bit image can change.
    """
    text = str(value).strip()
    number, _, divisor = text.partition("/")
    try:
        epsilon = float(number)
        if divisor and float(divisor) != 255:
            raise ValueError
    except ValueError:
        raise SettingError(
            f'Epsilon {text!r} is not a budget; expected counts such as 4, or "4/255".'
        ) from None
    if not math.isfinite(epsilon) or epsilon < 1:
        raise SettingError(
            f"Epsilon {text} is below 1 count, so no 8-bit image can change; expected counts in "
            f"0..255 (4 means 4/255){_as_counts(epsilon)}."
        )
    return epsilon


def _as_counts(epsilon: float) -> str:
    if not (0 < epsilon < 1):
        return ""
    return f"; if {epsilon:g} is a share of 1, write {max(1, round(epsilon * 255))}"


def parse_epsilons(values: str | Iterable[float | str]) -> tuple[float, ...]:
    """A ladder from `"1,2,4"` or an iterable of budgets."""
    parts = values.split(",") if isinstance(values, str) else values
    return tuple(parse_epsilon(part) for part in parts)
