"""What a run could make of each epsilon: what 8-bit files use of it, and whether an attack could."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from robustness.configuration import epsilons as units
from robustness.reports import wording
from robustness.runs.schema import EpsilonBudget, Manifest

_MOST = 3
_Rate = TypeVar("_Rate")
"""`robustness.reports.summary.summary.Rate` or `ClassRate`."""


@dataclass(frozen=True)
class Budget:
    """An epsilon. `effective_epsilon` is what 8-bit files can use of it: 76.5 acts as 76. `reached` says
    whether an attack of the run could use all of that, `reason` why not; `short` are the attacks that
    could not, by label how far they come. A run that does not say so counts as reached.
    """

    epsilon: float
    effective_epsilon: float
    reached: bool = True
    reason: str = ""
    short: Mapping[str, float] = field(default_factory=dict)


def budgets(manifest: Manifest, norm: str, epsilons: Iterable[float]) -> tuple[Budget, ...]:
    """The budget of each of `epsilons`; one without an entry in the manifest counts as reached."""
    known = {entry.epsilon: entry for entry in manifest.budgets}
    return tuple(_budget(norm, epsilon, known.get(epsilon)) for epsilon in epsilons)


def _budget(norm: str, epsilon: float, entry: EpsilonBudget | None) -> Budget:
    short = {name: float(far) for name, far in entry.short.items()} if entry else {}
    reached = entry is None or entry.reached
    used = units.effective(norm, epsilon)
    return Budget(epsilon, used, reached, "" if reached else _reason(short), short)


def _reason(short: Mapping[str, float]) -> str:
    """`no attack of the run could use it all (bim(steps=4) comes to 4 at most)`."""
    said = [
        f"{wording.shorten(name, 60)} comes to {far:.4g} at most" for name, far in short.items()
    ]
    more = [f"and {len(said) - _MOST} more"] if len(said) > _MOST else []
    listed = "; ".join(said[:_MOST] + more)
    return "no attack of the run could use all of it" + (f" ({listed})" if listed else "")


def at(found: Iterable[Budget], epsilon: float | None) -> Budget | None:
    """The budget of an epsilon, if there is one."""
    return next((one for one in found if one.epsilon == epsilon), None)


def reason(found: Iterable[Budget], epsilon: float | None) -> str:
    """Why nothing is said of robustness at an epsilon; "" where something is."""
    one = at(found, epsilon)
    return one.reason if one else ""


def withheld(rates: Iterable[_Rate], found: Iterable[Budget]) -> tuple[_Rate, ...]:
    """The rates, without a robust accuracy where one attack, or all together, could not use epsilon."""
    by = {one.epsilon: one for one in found}

    def stated(rate: Any) -> Any:
        limit, attack = by.get(rate.epsilon), getattr(rate, "attack", None)
        if limit is None or (limit.reached if attack is None else attack not in limit.short):
            return rate
        return replace(rate, robust_accuracy=None, unreached=True)

    return tuple(stated(rate) for rate in rates)
