"""The strips: every step of an attack's most striking flips, kept for the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.contract.attack import Attack
from robustness.engine import jobs, search
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.replay import Walk, replay
from robustness.images import Entry
from robustness.images.cache import PictureCache
from robustness.images.png import from_png, to_png
from robustness.models.classifier import Classifier
from robustness.runs.plan import Plan
from robustness.runs.records import FLIPPED, StripRow
from robustness.runs.store import Run

STRIPS = 6
"""Flips an attack whose steps are kept."""


@dataclass(frozen=True)
class _Shown:
    """A flip whose steps are kept: its ends, which are known, and the walk between them."""

    attack: str
    walk: Walk
    last: np.ndarray

    def row(self, store: Run, step: int, picture: np.ndarray, answer: np.ndarray) -> StripRow:
        return StripRow(
            image=self.walk.place.subject.key,
            attack=self.attack,
            epsilon=self.walk.radius,
            step=step,
            png=store.save_png(to_png(picture)),
            probabilities="[" + ", ".join(f"{p:.6f}" for p in answer.tolist()) + "]",
        )


def keep(
    plan: Plan,
    classifier: Classifier,
    shelf: PictureCache,
    entries: Iterable[Entry],
    store: Run,
    rows: Callable[[Attack], CompiledBatch],
) -> None:
    """Keep every step of the most striking flips of a run: all but the ends are walked again.

    `rows`: an attack's compiled rows.
    """
    outcomes, by_key = store.outcomes(), {e.key: e for e in entries}
    classes = {row.key: row.clean_class for row in store.image_rows()}

    def subject(key: str) -> jobs.Example | None:
        pixels, label = shelf.read(by_key[key], classifier.input_shape).pixels, classes[key]
        return None if pixels is None or label is None else jobs.Example(key, pixels, label)

    for attack in plan.attacks:
        shown = []
        for flip in _striking(outcomes[outcomes.attack == attack.label]).itertuples():
            if (image := subject(flip.image)) is None:
                continue
            budget = search.budget(attack, plan.threat, flip.epsilon)
            place = jobs.AttackJob(image, budget, int(flip.restart))
            walk = Walk(place, int(flip.step) - 1, float(flip.epsilon))
            shown.append(_Shown(attack.label, walk, from_png(store.png(flip.png))))
        if not shown:
            continue
        ends = [end for s in shown for end in (s.walk.place.subject.pixels, s.last)]
        answers = iter(classifier.probabilities(np.stack(ends)))
        strips: list[StripRow] = []
        for one in shown:
            strips.append(one.row(store, 0, one.walk.place.subject.pixels, next(answers)))
            strips.append(one.row(store, one.walk.steps + 1, one.last, next(answers)))

        def seen(
            walk: int,
            step: int,
            grid: np.ndarray,
            answer: np.ndarray,
            shown: list[_Shown] = shown,
            strips: list[StripRow] = strips,
        ) -> None:
            strips.append(shown[walk].row(store, step, grid, answer))

        replay(rows(attack), classifier, [one.walk for one in shown], seen)
        store.add(strips)


def _striking(outcomes: Any) -> Any:
    """The flips of one attack to show: surest before and after, no class taking more than its share."""
    flips = outcomes[(outcomes.status == FLIPPED) & outcomes.png.notna() & (outcomes.step > 0)]
    # An image's first rung that flipped; the others carry the same picture.
    flips = flips.sort_values(["epsilon", "image"]).drop_duplicates("image")
    flips = flips.assign(sure=flips.confidence_before * flips.confidence_after)
    flips = flips.sort_values(["sure", "image"], ascending=[False, True])
    share = -(-STRIPS // max(1, flips.adversarial_class.nunique()))
    return flips.groupby("adversarial_class", sort=False).head(share).head(STRIPS)
