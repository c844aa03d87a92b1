"""What diagnostics that run attacks again have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustness.contract.attack import Attack
from robustness.diagnostics.model_queries import Sample
from robustness.diagnostics.stored_run import WHITE, StoredRun
from robustness.engine import outcomes, search
from robustness.engine.batch_size import bounded
from robustness.engine.jobs import Example
from robustness.models.classifier import Classifier
from robustness.runs.plan import Plan


@dataclass(frozen=True)
class RerunSetup:
    """What the trials share."""

    classifier: Classifier
    plan: Plan
    record: StoredRun
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

    def flips(self, attack: Attack, subjects: Sequence[Example], epsilon: float) -> set[str]:
        """The images of `subjects` that `attack` flips within `epsilon`."""
        threat = replace(self.plan.threat, epsilons=(epsilon,))
        flipped: set[str] = set()

        def settle(subject: Example, rungs: list[outcomes.EpsilonOutcome]) -> None:
            if rungs[-1].flip is not None:
                flipped.add(subject.key)

        slots = bounded(min(self.plan.slots, 16), self.eyes)
        seed = self.plan.seed
        search.search(
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
