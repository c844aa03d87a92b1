"""Holds what diagnostics need to run attacks again: models, plan, outcomes and sample images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustness.contract.attack import Attack
from robustness.diagnostics.model_queries import Sample
from robustness.diagnostics.stored_run import WHITE, StoredRun
from robustness.engine.batch_size import bounded
from robustness.engine.jobs import Example
from robustness.engine.search import run_attack
from robustness.models.classifier import Classifier
from robustness.runs.plan import Plan


@dataclass(frozen=True)
class RerunSetup:
    """Shared input of the diagnostics that run attacks again.

    Attributes
    ----------
    classifier : the user's model.
    plan : the plan of the run.
    record : the stored content of the run.
    sample : correctly classified images to run on.
    surrogate : the model that attacks use, if it is not the user's.
    """

    classifier: Classifier
    plan: Plan
    record: StoredRun
    sample: Sample
    surrogate: Classifier | None = None

    @property
    def attacked_model(self) -> Classifier:
        """The model whose gradients attacks use: the surrogate if there is one."""
        return self.surrogate or self.classifier

    @property
    def top(self) -> float:
        """The largest epsilon."""
        return self.plan.threat.epsilons[-1]

    @property
    def gradient_attacks(self) -> list[Attack]:
        """The attacks that use gradients."""
        return [a for a in self.plan.attacks if a.knowledge == WHITE]

    def flips(self, attack: Attack, examples: Sequence[Example], epsilon: float) -> set[str]:
        """Run `attack` and return the keys of the examples that it flips within `epsilon`."""
        results = run_attack(
            self.classifier,
            attack,
            replace(self.plan.threat, epsilons=(epsilon,)),
            examples,
            batch_size=bounded(min(self.plan.slots, 16), self.attacked_model),
            seed=self.plan.seed,
            surrogate=self.surrogate,
            draws=self.plan.draws,
        )
        return {example.key for example, outcomes in results if outcomes[-1].flip is not None}
