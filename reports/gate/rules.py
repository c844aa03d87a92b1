"""The gate of a run: rules, a baseline, and suppressions that expire."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from robustness.errors import RunError
from robustness.runs.schema import GateEntry

AT_LEAST, AT_MOST = "at least", "at most"
METRICS = {"robust_accuracy": AT_LEAST, "clean_accuracy": AT_LEAST, "flip_rate": AT_MOST}
"""What a rule can measure, and on which side of its threshold it must be."""
SCOPES, BOUNDS = ("worst", "attack", "class"), ("lower", "point")


@dataclass(frozen=True)
class Rule:
    """One rule of the gate.

    Attributes
    ----------
    metric, threshold
        One of `METRICS`, and the share it must reach or stay below.
    scope, of
        "worst" for the worst case; "attack" or "class", with the name `of` one, None for each.
    epsilon
        In counts; None for the largest of the run.
    bound
        "lower" judges the unfavourable end of the 95 % interval, "point" the share itself.
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
    """A rule or diagnostic that does not count, the reason, and the last day on which it does not."""

    rule: str
    reason: str
    expires: date


@dataclass(frozen=True)
class Baseline:
    """An earlier run that sets a lower limit: `worst` holds (epsilon, robust images, total)."""

    source: str
    data_sha256: str | None
    norm: str
    goal: str
    attacks: tuple[str, ...]
    worst: tuple[tuple[float, int, int], ...]
    max_drop: float = 0.0


@dataclass(frozen=True)
class Gate:
    """The rules, suppressions and baseline of a run.

    `run.json` holds the result of `to_dict`; `of` reads it.
    """

    rules: tuple[Rule, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    baseline: Baseline | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the gate as JSON-able data."""
        plain = asdict(self)
        for suppression in plain["suppressions"]:
            suppression["expires"] = suppression["expires"].isoformat()
        return plain

    @classmethod
    def of(cls, entry: GateEntry) -> Gate:
        """Return the gate of a manifest.

        Raises
        ------
        RunError
            If a day in it is none.
        """
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
