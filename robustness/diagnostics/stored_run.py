"""What a run has stored, in the form diagnostics ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from robustness.runs.records import FAILED, FLIPPED, ROBUST, SETTLED
from robustness.runs.store import Run

WHITE, SCORE, DECISION = "white-box", "score", "decision"
_ATTACKED = [FLIPPED, ROBUST, FAILED]


def is_noise(attack: Mapping[str, Any]) -> bool:
    """Whether an attack, as `run.json` describes it, is noise."""
    return attack.get("knowledge") == "none" or "noise" in str(attack["name"])


@dataclass(frozen=True)
class StoredRun:
    """Manifest and tables of a run; `chance` are the labels of attacks that learn nothing as they go."""

    manifest: Mapping[str, Any]
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
    def config(self) -> Mapping[str, Any]:
        """What was asked for."""
        return self.manifest.get("config", {})

    @property
    def attacks(self) -> list[Mapping[str, Any]]:
        """What is known of each attack: name, label, parameters, knowledge."""
        return list(self.config.get("attacks", ()))

    @property
    def learners(self) -> list[Mapping[str, Any]]:
        """The attacks that learn from what they see: not noise, grids, or what was fitted before."""
        return [a for a in self.attacks if a["label"] not in self.chance and not is_noise(a)]

    @property
    def transferred(self) -> bool:
        """Whether the attacks looked at another model, and this one only judged."""
        return bool(self.manifest.get("surrogate"))

    def labels(self, *knowledge: str) -> list[str]:
        """The attacks that know so much."""
        return [a["label"] for a in self.attacks if a.get("knowledge") in knowledge]

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.manifest.get("class_names", ()))

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
