"""The content of a run folder in the form that diagnostics need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from robustness.runs.records import FAILED, FLIPPED, ROBUST, SETTLED
from robustness.runs.schema import AttackEntry, Manifest
from robustness.runs.store import Run

WHITE, SCORE, DECISION = "white-box", "score", "decision"
_ATTACKED = [FLIPPED, ROBUST, FAILED]


def is_noise(attack: AttackEntry) -> bool:
    """Whether an attack of a run is noise."""
    return attack.knowledge == "none" or "noise" in str(attack.name)


@dataclass(frozen=True)
class StoredRun:
    """Manifest and tables of a run; `chance` are the labels of attacks that learn nothing as they go."""

    manifest: Manifest
    images: pd.DataFrame
    outcomes: pd.DataFrame
    chance: frozenset[str] = frozenset()
    gradients: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Of robust outcomes the steps that asked for a gradient (`watched`), and that got none (`blind`)."""

    @classmethod
    def of(cls, run: Run, chance: Iterable[str] = ()) -> StoredRun:
        """Read a run."""
        tables = run.images(), run.outcomes()
        return cls(run.manifest, *tables, frozenset(chance), run.gradients())

    @property
    def attacks(self) -> tuple[AttackEntry, ...]:
        """The attacks with name, label, parameters and knowledge."""
        return self.manifest.config.attacks

    @property
    def learners(self) -> list[AttackEntry]:
        """The attacks that learn from the model's outputs: not noise, grids, or fitted changes."""
        return [a for a in self.attacks if a.title not in self.chance and not is_noise(a)]

    @property
    def transferred(self) -> bool:
        """Whether the attacks looked at another model, and this one only judged."""
        return self.manifest.surrogate is not None

    def labels(self, *knowledge: str) -> list[str]:
        """The labels of the attacks with any of these kinds of knowledge."""
        return [a.title for a in self.attacks if a.knowledge in knowledge]

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.manifest.class_names)

    @cached_property
    def last(self) -> float:
        """The largest epsilon."""
        return float(self.outcomes.epsilon.max()) if len(self.outcomes) else 0.0

    @cached_property
    def attacked(self) -> set[str]:
        """The images that were classified correctly, and so attacked."""
        return set(self.outcomes[self.outcomes.status.isin(_ATTACKED)].image)

    @cached_property
    def _flips(self) -> pd.DataFrame:
        return self.outcomes[self.outcomes.status == FLIPPED]

    def flipped(self, labels: Iterable[str] | None = None) -> set[str]:
        """The images that these attacks (all, if not given) flip within the largest epsilon."""
        if labels is None:
            return set(self._flips.image)
        return set(self._flips[self._flips.attack.isin(list(labels))].image)

    @cached_property
    def spared(self) -> bool:
        """Whether a cascade spared some attack images that earlier ones flip."""
        return bool((self.outcomes.status == SETTLED).any())

    def tried(self, labels: Iterable[str]) -> set[str]:
        """The images that any of these attacks was tried on up to the largest epsilon.

        In a cascade an attack is spared what another one has flipped.
        """
        rows = self.outcomes[self.outcomes.attack.isin(list(labels))]
        last = rows[(rows.epsilon == self.last) & rows.status.isin(_ATTACKED)]
        return set(last.image) | set(rows[rows.status == FLIPPED].image)

    def stood(self, label: str) -> set[str]:
        """The images that an attack was tried on and did not flip."""
        rows = self.outcomes[(self.outcomes.attack == label) & (self.outcomes.epsilon == self.last)]
        return set(rows[rows.status == ROBUST].image)

    @property
    def survivors(self) -> set[str]:
        """The correct images that nothing flipped."""
        return self.attacked - self.flipped()

    @cached_property
    def held(self) -> set[str]:
        """The images that no attack flips, and that some attack completed on at the largest epsilon."""
        rows = self.outcomes[self.outcomes.epsilon == self.last]
        return set(rows[rows.status == ROBUST].image) - self.flipped()

    @property
    def undecided(self) -> set[str]:
        """The images on which every attack that was asked broke down at the largest epsilon."""
        return self.survivors - self.held

    def names(self, keys: Iterable[str], most: int = 10) -> list[str]:
        """The names of some images, as evidence."""
        wanted = set(keys)
        return [str(n) for n in self.images[self.images.key.isin(wanted)].name.head(most)]
