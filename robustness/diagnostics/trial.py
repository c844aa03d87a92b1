"""What diagnostics that run attacks again have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustness import engine
from robustness.attack import Attack
from robustness.classifier import Classifier
from robustness.diagnostics.looks import Sample
from robustness.diagnostics.record import WHITE, Record
from robustness.plan import Plan
from robustness.rows import Subject


@dataclass(frozen=True)
class Trial:
    """What the trials share."""

    classifier: Classifier
    plan: Plan
    record: Record
    sample: Sample
    surrogate: Classifier | None = None

    @property
    def eyes(self) -> Classifier:
        """The model that attacks look at."""
        return self.surrogate or self.classifier

    @property
    def top(self) -> float:
        """The largest epsilon."""
        return self.plan.threat.epsilons[-1]

    @property
    def gradient_attacks(self) -> list[Attack]:
        """Those that see gradients."""
        return [a for a in self.plan.attacks if a.knowledge == WHITE]

    def flips(self, attack: Attack, subjects: Sequence[Subject], epsilon: float) -> set[str]:
        """The images of `subjects` that `attack` flips within `epsilon`."""
        threat = replace(self.plan.threat, epsilons=(epsilon,))
        flipped: set[str] = set()

        def settle(subject: Subject, rungs: list[engine.Rung]) -> None:
            if rungs[-1].flip is not None:
                flipped.add(subject.key)

        slots, seed = min(self.plan.slots, 16), self.plan.seed
        engine.search(
            self.classifier,
            attack,
            threat,
            iter(subjects),
            settle,
            slots=slots,
            seed=seed,
            surrogate=self.surrogate,
            draws=self.plan.draws,
        )
        return flipped
