"""Findings: one per kind of weakness and epsilon at which something flipped, the gravest first."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from robustness.reports import wording
from robustness.reports.intervals import Share
from robustness.reports.summary import taxonomy
from robustness.reports.summary.summary import Summary
from robustness.reports.summary.taxonomy import Severity, Weakness

_ORDER = ("critical", "high", "medium", "low")


@dataclass(frozen=True)
class Finding:
    """A weakness within a budget. `fingerprint` is the same for the same weakness of a same-named
    model at the same epsilon, whatever the run; `epsilon` is None where no budget is meant.
    """

    weakness: Weakness
    epsilon: float | None
    severity: Severity
    sentence: str
    rate: Share | None
    attacks: tuple[str, ...]
    fingerprint: str

    @property
    def id(self) -> str:
        """The rule and the epsilon: unique in a report."""
        return self.weakness.rule + ("" if self.epsilon is None else f"-{self.epsilon:g}")


def findings(summary: Summary) -> tuple[Finding, ...]:
    """Every finding of a run, the gravest first, then the smallest budget."""
    found = [*_evaluation(summary), *_flips(summary)]
    return tuple(
        sorted(found, key=lambda f: (_ORDER.index(f.severity.name), f.epsilon or 0.0, f.id))
    )


def _evaluation(summary: Summary) -> list[Finding]:
    failed = [d for d in summary.diagnostics if d.status == "fail"]
    if not failed:
        return []
    weakness = taxonomy.weaknesses()["unreliable"]
    said = "; ".join(f"{d.id} {d.title}: {d.sentence}" for d in failed)
    return [
        Finding(weakness, None, Severity("high", 7.5), said, None, (), _print(summary, weakness))
    ]


def _flips(summary: Summary) -> list[Finding]:
    """The union over the attacks of one kind, image by image, at each epsilon."""
    shape = summary.manifest.model.input_shape
    goal = summary.config.aim
    found = []
    for group in summary.groups:
        rate, epsilon = group.flip_rate, group.epsilon
        if not rate.count or rate.low is None:
            continue
        weakness = taxonomy.weaknesses()[group.kind]
        found.append(
            Finding(
                weakness=weakness,
                epsilon=epsilon,
                severity=taxonomy.severity(rate.low, summary.norm, epsilon, shape),
                sentence=wording.sentence(
                    rate,
                    summary.norm,
                    epsilon,
                    group.attacks,
                    goal,
                    summary.labelled,
                    bool(group.spared),
                ),
                rate=rate,
                attacks=group.attacks,
                fingerprint=_print(summary, weakness, epsilon),
            )
        )
    return found


def _print(summary: Summary, weakness: Weakness, epsilon: float | None = None) -> str:
    name = summary.manifest.model.name or "model"
    text = f"{weakness.rule}\x1f{name}\x1f{summary.norm}\x1f{epsilon}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def levels(found: tuple[Finding, ...]) -> dict[str, int]:
    """How many findings have each severity, the gravest first."""
    counted = Counter(f.severity.name for f in found)
    return {name: counted[name] for name in _ORDER if counted[name]}
