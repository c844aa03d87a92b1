"""What a run is held against: rules, a baseline, and what does not count for a while."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from robustness.errors import RunError
from robustness.runs.schema import GateEntry

AT_LEAST, AT_MOST = "at least", "at most"
METRICS = {"robust_accuracy": AT_LEAST, "clean_accuracy": AT_LEAST, "flip_rate": AT_MOST}
"""What a rule can measure, and on which side of its threshold it must lie."""
SCOPES, BOUNDS = ("worst", "attack", "class"), ("lower", "point")


@dataclass(frozen=True)
class Rule:
    """One demand. `of` is an attack or a class by name, None for each; `epsilon` None the largest.

    `bound` "lower" judges on the unfavourable end of the interval (for a flip rate the upper one).
    """

    name: str
    metric: str
    threshold: float
    scope: str = "worst"
    of: str | None = None
    epsilon: float | None = None
    bound: str = "lower"


@dataclass(frozen=True)
class Suppression:
    """A rule or diagnostic that does not count, why, and until which day (that day included)."""

    rule: str
    reason: str
    expires: date


@dataclass(frozen=True)
class Baseline:
    """An earlier run to be no worse than: its worst case by epsilon, (epsilon, count, total) each."""

    source: str
    data_sha256: str | None
    norm: str
    goal: str
    attacks: tuple[str, ...]
    worst: tuple[tuple[float, int, int], ...]
    max_drop: float = 0.0


@dataclass(frozen=True)
class Gate:
    """Everything a run is held against. `to_dict` goes into `run.json`, `of` comes out."""

    rules: tuple[Rule, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    baseline: Baseline | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = asdict(self)
        for one in plain["suppressions"]:
            one["expires"] = one["expires"].isoformat()
        return plain

    @classmethod
    def of(cls, entry: GateEntry) -> Gate:
        """The gate of a manifest; RunError if a day in it is none."""
        try:
            suppressions = tuple(
                Suppression(s.rule, s.reason, date.fromisoformat(s.expires))
                for s in entry.suppressions
            )
        except ValueError as error:
            raise RunError(
                f"The gate of this run cannot be read ({error}); run.json is damaged."
            ) from None
        base = entry.baseline
        return cls(
            tuple(Rule(**dict(rule)) for rule in entry.rules),
            suppressions,
            None
            if base is None
            else Baseline(
                source=base.source,
                data_sha256=base.data_sha256,
                norm=base.norm,
                goal=base.goal,
                attacks=base.attacks,
                worst=tuple((float(e), int(k), int(n)) for e, k, n in base.worst),
                max_drop=base.max_drop,
            ),
        )
