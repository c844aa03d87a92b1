"""The resolved and checked settings of an audit, as `run.json` records them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from robustness.configuration.choices import EVIDENCE, MAX_SEED, MAX_SLOTS
from robustness.contract.attack import Attack
from robustness.contract.ensembles import Resolved
from robustness.contract.foreign_code import farthest
from robustness.errors import SettingError
from robustness.runs.plugin_code import plugin_code
from robustness.runs.records import keeps_pictures
from robustness.runs.schema import (
    AttackEntry,
    DeploymentEntry,
    EpsilonBudget,
    GoalEntry,
    MaskEntry,
    Settings,
)
from robustness.threat.norms import Norm
from robustness.threat.threat import Threat


@dataclass(frozen=True)
class Plan:
    """The settings of an audit that a resumed run must share.

    Parameters
    ----------
    attacks : tuple of Attack
        At least one, with different labels.
    threat : Threat
        Norm, epsilons, goal and mask.
    seed : int
        Of all random numbers.
    slots : int
        The batch size.
    all_steps : bool
        Whether attacks take all their steps after a flip.
    evidence : str
        Which pictures stay on disk: "flips" (the flips, and the originals of all attacked images), "all"
        (also the originals of misclassified images), "none", or a number n (as "flips", for the first n
        images).
    cascade : bool
        Whether each attack runs only on the images that no earlier one flips.
    replaced : tuple of str
        A sentence for each attack that runs in place of another one that was requested.
    channels : int
        Of the images.
    surrogate : str, optional
        The hash of the weights of the surrogate; None if attacks evaluate the target itself.
    precision : str
        In which the model is evaluated by attacks.
    draws : int
        The fewest outputs behind each verdict on a model with random outputs; else 1.
    deployment : DeploymentEntry, optional
        The input pipeline, if one is stated.
    shard : str, optional
        The part of the images that this run attacks, such as "3/16"; None for all.

    Raises
    ------
    SettingError
        There is no attack, two attacks have one label, an attack does not support the norm, or the batch
        size, the seed or `evidence` is not usable.
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
    deployment: DeploymentEntry | None = None
    shard: str | None = None

    def __post_init__(self) -> None:
        if not self.attacks:
            raise SettingError(
                "No attack was given; expected at least one. `robustness attacks` lists them."
            )
        if not 1 <= self.slots <= MAX_SLOTS:
            raise SettingError(
                f"Batch size {self.slots} is not usable; expected 1 to {MAX_SLOTS:,}."
            )
        if abs(self.seed) > MAX_SEED:
            raise SettingError(
                f"Seed {self.seed} is not usable; expected {-MAX_SEED:,} to {MAX_SEED:,}."
            )
        if self.evidence not in EVIDENCE and not re.fullmatch("[0-9]{1,12}", self.evidence):
            raise SettingError(
                f"Evidence {self.evidence!r} is not known; expected {', '.join(EVIDENCE)}, or a "
                "number of images."
            )
        labels = [attack.label for attack in self.attacks]
        if len(set(labels)) < len(labels):
            raise SettingError(
                f"Two attacks have the same label: {', '.join(labels)}; expected different ones."
            )
        for attack in self.attacks:
            attack.expect_norm(self.threat.norm)

    def running(self, attacks: Resolved) -> Plan:
        """Return this plan with other attacks."""
        return replace(
            self, attacks=attacks.attacks, cascade=attacks.cascade, replaced=attacks.replaced
        )

    def before(self, attack: Attack) -> tuple[str, ...]:
        """Return the labels of the attacks before `attack` in a cascade, whose flips it does not see."""
        labels = tuple(a.label for a in self.attacks)
        return labels[: labels.index(attack.label)] if self.cascade else ()

    def budgets(self, shape: tuple[int, ...]) -> list[EpsilonBudget]:
        """Compute how much of each epsilon the attacks can use.

        Parameters
        ----------
        shape : tuple of int
            (height, width, channels) of the images.

        Returns
        -------
        list of EpsilonBudget
            One per epsilon, ascending. `effective_epsilon` is the part that 8-bit files can use; `short`
            maps the label of each attack that cannot use all of it to its largest distance; `reached` is
            whether any attack that learns from the model can use all of it (any attack, if all are
            baselines).
        """
        norm = self.threat.norm
        counted = [a for a in self.attacks if not a.baseline] or list(self.attacks)
        budgets = []
        for epsilon in self.threat.epsilons:
            far = {a.label: farthest(a, norm, epsilon, shape) for a in self.attacks}
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
        """Return the epsilons that the attack with this label can use fully, ascending."""
        return tuple(b.epsilon for b in self.budgets(shape) if label not in b.short)

    @property
    def mask(self) -> MaskEntry | None:
        """The threat's mask as it is recorded; None where all pixels may change."""
        mask = self.threat.mask
        return None if mask is None else MaskEntry.model_validate(mask.card(self.channels))

    def keeps(self, position: int) -> bool:
        """Whether the pictures of the image at `position` (from 0) stay on disk."""
        return keeps_pictures(self.evidence, position)

    @property
    def keeps_all(self) -> bool:
        """Whether the originals of images that are never attacked stay on disk as well."""
        return self.evidence == "all"

    def config(self, class_names: Sequence[str]) -> Settings:
        """Return the plan as `run.json` records it."""
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
                    **_coded("code", a),
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
            **self._stated(),
        )

    def _stated(self) -> dict[str, Any]:
        """Settings that most runs do not have, which a resumed run of an earlier version must not miss."""
        stated: dict[str, Any] = {"draws": self.draws} if self.draws > 1 else {}
        stated |= {"shard": self.shard} if self.shard else {}
        stated |= {"deployment": self.deployment} if self.deployment else {}
        return stated | _coded("norm_code", self.threat.norm)


def _coded(key: str, part: Attack | Norm) -> dict[str, Any]:
    """The hash of the code of an attack or a norm that is not the toolkit's, under a key."""
    code = plugin_code(part)
    return {} if code is None else {key: code}
