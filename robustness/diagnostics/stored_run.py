"""Reads a run folder into the tables that diagnostics use."""

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
    """Return whether an attack of a run is noise, by its knowledge ("none") or its name."""
    return attack.knowledge == "none" or "noise" in str(attack.name)


@dataclass(frozen=True)
class StoredRun:
    """Manifest and tables of a run.

    Attributes
    ----------
    manifest : the manifest.
    images, outcomes : one row per image, and per image x attack x epsilon.
    chance : the labels of attacks that do not use the model's outputs to choose their next point.
    gradients : for each robust outcome the number of steps that computed a gradient (`watched`), and of those
        whose gradient was zero or not finite (`blind`).
    """

    manifest: Manifest
    images: pd.DataFrame
    outcomes: pd.DataFrame
    chance: frozenset[str] = frozenset()
    gradients: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    def of(cls, run: Run, chance: Iterable[str] = ()) -> StoredRun:
        """Read a run; `chance` are the labels of its baselines."""
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
        """Whether the attacks used a surrogate, and the audited model only judged."""
        return self.manifest.surrogate is not None

    def labels(self, *knowledge: str) -> list[str]:
        """Return the labels of the attacks with any of these kinds of knowledge."""
        return [a.title for a in self.attacks if a.knowledge in knowledge]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.manifest.class_names)

    def class_name(self, number: int) -> str:
        """Return the name of a class by its number."""
        names = self.manifest.class_names
        return str(names[number]) if 0 <= number < len(names) else str(number)

    @cached_property
    def last(self) -> float:
        """The largest epsilon."""
        return float(self.outcomes.epsilon.max()) if len(self.outcomes) else 0.0

    @cached_property
    def attacked(self) -> set[str]:
        """The keys of the correctly classified images, which were attacked."""
        return set(self.outcomes[self.outcomes.status.isin(_ATTACKED)].image)

    @cached_property
    def _flips(self) -> pd.DataFrame:
        return self.outcomes[self.outcomes.status == FLIPPED]

    def flipped(self, labels: Iterable[str] | None = None) -> set[str]:
        """Return the images that these attacks (default: all) flip within the largest epsilon."""
        if labels is None:
            return set(self._flips.image)
        return set(self._flips[self._flips.attack.isin(list(labels))].image)

    @cached_property
    def spared(self) -> bool:
        """Whether, in a cascade, some attack did not run on images that earlier ones flip."""
        return bool((self.outcomes.status == SETTLED).any())

    def tried(self, labels: Iterable[str]) -> set[str]:
        """Return the images on which any of these attacks ran up to the largest epsilon or to its flip.

        In a cascade an attack does not run on images that an earlier one flips.
        """
        rows = self.outcomes[self.outcomes.attack.isin(list(labels))]
        last = rows[(rows.epsilon == self.last) & rows.status.isin(_ATTACKED)]
        return set(last.image) | set(rows[rows.status == FLIPPED].image)

    def stood(self, label: str) -> set[str]:
        """Return the images that are robust after this attack at the largest epsilon."""
        rows = self.outcomes[(self.outcomes.attack == label) & (self.outcomes.epsilon == self.last)]
        return set(rows[rows.status == ROBUST].image)

    @property
    def survivors(self) -> set[str]:
        """The correctly classified images that no attack flips."""
        return self.attacked - self.flipped()

    @cached_property
    def held(self) -> set[str]:
        """The images that no attack flips, and on which some attack finished at the largest epsilon."""
        rows = self.outcomes[self.outcomes.epsilon == self.last]
        return set(rows[rows.status == ROBUST].image) - self.flipped()

    @property
    def undecided(self) -> set[str]:
        """The images that no attack flips, and on which every attack that ran failed at the top epsilon."""
        return self.survivors - self.held

    def names(self, keys: Iterable[str], most: int = 10) -> list[str]:
        """Return the names of the images with these keys, at most `most`, as evidence."""
        wanted = set(keys)
        return [str(n) for n in self.images[self.images.key.isin(wanted)].name.head(most)]
