"""How much of each epsilon could be used: by 8-bit files, and by the attacks of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from robustness.reports import wording
from robustness.runs import smallest_epsilon
from robustness.runs.schema import EpsilonBudget, Manifest
from robustness.threat.norms import described

_MOST = 3
_Rate = TypeVar("_Rate")
"""`robustness.reports.summary.summary.Rate` or `ClassRate`."""


@dataclass(frozen=True)
class Budget:
    """One epsilon of the run. `effective_epsilon` is what 8-bit files can use of it: 76.5 acts as 76.

    `reached` says whether an attack of the run could use all of it, `reason` why not. `short` are the
    attacks that could not, by label, with the distance that they can reach. Older runs, which did not
    store this, count as reached.
    """

    epsilon: float
    effective_epsilon: float
    reached: bool = True
    reason: str = ""
    short: Mapping[str, float] = field(default_factory=dict)


def budgets(manifest: Manifest, norm: str, epsilons: Iterable[float]) -> tuple[Budget, ...]:
    """Return what `run.json` stores about each epsilon; one without an entry counts as reached."""
    known = {entry.epsilon: entry for entry in manifest.budgets}
    return tuple(_budget(norm, epsilon, known.get(epsilon)) for epsilon in epsilons)


def _budget(norm: str, epsilon: float, entry: EpsilonBudget | None) -> Budget:
    short = {name: float(far) for name, far in entry.short.items()} if entry else {}
    reached = entry is None or entry.reached
    used = described(norm).effective(epsilon)
    return Budget(epsilon, used, reached, "" if reached else _reason(short), short)


def _reason(short: Mapping[str, float]) -> str:
    """`no attack of the run could use all of it (bim(steps=4) reaches 4 at most from the image)`."""
    attacks = [
        smallest_epsilon.limited(wording.shorten(name, 60), far) for name, far in short.items()
    ]
    more = [f"and {len(attacks) - _MOST} more"] if len(attacks) > _MOST else []
    listed = "; ".join(attacks[:_MOST] + more)
    return "no attack of the run could use all of it" + (f" ({listed})" if listed else "")


def at(limits: Iterable[Budget], epsilon: float | None) -> Budget | None:
    """Return the budget of an epsilon; None if there is none."""
    return next((budget for budget in limits if budget.epsilon == epsilon), None)


def reason(limits: Iterable[Budget], epsilon: float | None) -> str:
    """Return why no robust accuracy is stated at an epsilon; "" if it is."""
    budget = at(limits, epsilon)
    return budget.reason if budget else ""


def withheld(rates: Iterable[_Rate], limits: Iterable[Budget]) -> tuple[_Rate, ...]:
    """Return the rates, without a robust accuracy where the attack (or all) could not use epsilon."""
    by_epsilon = {budget.epsilon: budget for budget in limits}

    def stated(rate: Any) -> Any:
        limit, attack = by_epsilon.get(rate.epsilon), getattr(rate, "attack", None)
        if limit is None or (limit.reached if attack is None else attack not in limit.short):
            return rate
        return replace(rate, robust_accuracy=None, unreached=True)

    return tuple(stated(rate) for rate in rates)
