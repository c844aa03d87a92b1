"""Findings: one for each kind of weakness and epsilon at which an image flipped."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from robustness.numerics.intervals import Share
from robustness.reports import wording
from robustness.reports.summary import taxonomy
from robustness.reports.summary.summary import Summary
from robustness.reports.summary.taxonomy import Severity, Weakness

_ORDER = ("critical", "high", "medium", "low")


@dataclass(frozen=True)
class Finding:
    """A weakness at one epsilon; `epsilon` is None for a finding about the audit itself.

    `fingerprint` depends only on the weakness, the name of the model, the norm and epsilon, so it is the
    same in every run.
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
        return self.weakness.rule + ("" if self.epsilon is None else f"-{self.epsilon:.12g}")


def findings(summary: Summary) -> tuple[Finding, ...]:
    """Return every finding of a run, the most severe first, then by epsilon."""
    every = [*_evaluation(summary), *_flips(summary)]
    return tuple(
        sorted(every, key=lambda f: (_ORDER.index(f.severity.name), f.epsilon or 0.0, f.id))
    )


def _evaluation(summary: Summary) -> list[Finding]:
    failed = [d for d in summary.diagnostics if d.status == "fail"]
    if not failed:
        return []
    weakness = taxonomy.weaknesses()["unreliable"]
    sentence = "; ".join(f"{d.id} {d.title}: {d.sentence}" for d in failed)
    return [
        Finding(
            weakness,
            None,
            Severity("high", 7.5),
            sentence,
            None,
            (),
            _fingerprint(summary, weakness),
        )
    ]


def _flips(summary: Summary) -> list[Finding]:
    """The union over the attacks of one kind, image by image, at each epsilon."""
    shape = summary.picture_shape
    goal = summary.aim
    flips = []
    for group in summary.groups:
        rate, epsilon = group.flip_rate, group.epsilon
        if not rate.count or rate.low is None:
            continue
        weakness = taxonomy.weaknesses()[group.kind]
        flips.append(
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
                    (group.failed, group.partly_failed),
                ),
                rate=rate,
                attacks=group.attacks,
                fingerprint=_fingerprint(summary, weakness, epsilon),
            )
        )
    return flips


def _fingerprint(summary: Summary, weakness: Weakness, epsilon: float | None = None) -> str:
    name = summary.manifest.model.name or "model"
    text = f"{weakness.rule}\x1f{name}\x1f{summary.norm}\x1f{epsilon}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def levels(every: tuple[Finding, ...]) -> dict[str, int]:
    """Return how many findings have each severity, the most severe first."""
    counted = Counter(f.severity.name for f in every)
    return {name: counted[name] for name in _ORDER if counted[name]}
