"""What is to be run: resolved, checked, and written down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustness.configuration.choices import EVIDENCE, MAX_SEED, MAX_SLOTS
from robustness.contract.attack import Attack
from robustness.contract.ensembles import Resolved
from robustness.errors import SettingError
from robustness.runs.records import keeps_pictures
from robustness.runs.schema import AttackEntry, EpsilonBudget, GoalEntry, MaskEntry, Settings
from robustness.threat.threat import Threat


@dataclass(frozen=True)
class Plan:
    """The part of an audit that a resumed run must share. SettingError if it cannot be run.

    `evidence` is "flips" (the pictures that flipped stay on disk, and the originals of all that were
    attacked), "all" (and the originals of those that were wrong before), "none", or a number (those of
    the first so many images). In a `cascade` each attack sees only what still stands. `replaced` says, a
    sentence each, what was run in place of what was asked for. `channels` are the images'; `surrogate` is
    the hash of the weights of the model that the attacks look at, None for the target itself; they look at
    it in `precision`. Of a model that answers at random every verdict rests on `draws` answers or more.
    """

    attacks: tuple[Attack, ...]
    threat: Threat
    seed: int
    slots: int
    all_steps: bool
    evidence: str
    cascade: bool = False
    replaced: tuple[str, ...] = ()
    channels: int = 3
    surrogate: str | None = None
    precision: str = "float32"
    draws: int = 1

    def __post_init__(self) -> None:
        if not self.attacks:
            raise SettingError(
                "No attack was given; expected at least one, `robustness attacks` lists them."
            )
        if not 1 <= self.slots <= MAX_SLOTS:
            raise SettingError(
                f"Batch size {self.slots} is not usable; expected 1 to {MAX_SLOTS:,}."
            )
        if abs(self.seed) > MAX_SEED:
            raise SettingError(f"Seed {self.seed} is not usable; expected at most {MAX_SEED:,}.")
        if self.evidence not in EVIDENCE and not re.fullmatch("[0-9]{1,12}", self.evidence):
            raise SettingError(
                f"Evidence {self.evidence!r} is not known; expected {', '.join(EVIDENCE)}, or a "
                "number of images."
            )
        labels = [attack.label for attack in self.attacks]
        if len(set(labels)) < len(labels):
            raise SettingError(f"The same attack was given twice: {', '.join(labels)}.")
        for attack in self.attacks:
            attack.expect_norm(self.threat.norm)

    def running(self, attacks: Resolved) -> Plan:
        """This plan with other attacks."""
        return replace(
            self, attacks=attacks.attacks, cascade=attacks.cascade, replaced=attacks.replaced
        )

    def before(self, attack: Attack) -> tuple[str, ...]:
        """The labels of the attacks that spare `attack` what they flip: those before it in a cascade."""
        labels = tuple(a.label for a in self.attacks)
        return labels[: labels.index(attack.label)] if self.cascade else ()

    def budgets(self, shape: tuple[int, ...]) -> list[EpsilonBudget]:
        """What the attacks can use of each epsilon.

        Parameters
        ----------
        shape : tuple of int
            Of the images, (height, width, channels).

        Returns
        -------
        list of EpsilonBudget
            By epsilon, ascending: `effective_epsilon` is what 8-bit files can use of it; `short` has, by
            label, the largest distance of those attacks that cannot use all of it; `reached` says whether
            an attack that learns from the model (any attack, if there is none) can use all of it.
        """
        norm = self.threat.norm
        counted = [a for a in self.attacks if not a.baseline] or list(self.attacks)
        budgets = []
        for epsilon in self.threat.epsilons:
            far = {a.label: a.farthest(norm, epsilon, shape) for a in self.attacks}
            short = {label: d for label, d in far.items() if not norm.covers(d, epsilon)}
            budgets.append(
                EpsilonBudget(
                    epsilon=epsilon,
                    effective_epsilon=norm.effective(epsilon),
                    reached=any(a.label not in short for a in counted),
                    short=short,
                )
            )
        return budgets

    def reached(self, shape: tuple[int, ...], label: str) -> tuple[float, ...]:
        """The epsilons that the attack called `label` can use, ascending."""
        return tuple(b.epsilon for b in self.budgets(shape) if label not in b.short)

    @property
    def mask(self) -> MaskEntry | None:
        """The threat's mask as it is recorded; None where all pixels may change."""
        mask = self.threat.mask
        return None if mask is None else MaskEntry.model_validate(mask.card(self.channels))

    def keeps(self, position: int) -> bool:
        """Whether the pictures of the image at `position` stay on disk."""
        return keeps_pictures(self.evidence, position)

    @property
    def keeps_all(self) -> bool:
        """Whether the originals of images that are never attacked stay on disk as well."""
        return self.evidence == "all"

    def config(self, class_names: Sequence[str]) -> Settings:
        """Record the plan for `run.json`."""
        target = self.threat.goal.target
        return Settings(
            attacks=tuple(
                AttackEntry(
                    name=a.name,
                    label=a.label,
                    parameters=a.parameters(),
                    knowledge=a.knowledge,
                    seeks=a.seeks,
                    paper=a.paper,
                )
                for a in self.attacks
            ),
            norm=self.threat.norm.name,
            epsilons=self.threat.epsilons,
            goal=GoalEntry(
                target=target, class_name=None if target is None else class_names[target]
            ),
            mask=self.mask,
            surrogate=self.surrogate,
            precision=self.precision,
            seed=self.seed,
            slots=self.slots,
            all_steps=self.all_steps,
            evidence=self.evidence,
            cascade=self.cascade,
            replaced=self.replaced,
            **({"draws": self.draws} if self.draws > 1 else {}),
        )
