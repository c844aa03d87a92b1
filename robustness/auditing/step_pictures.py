"""Saves the pictures of every step of an attack's most confident flips, for the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.contract.attack import Attack
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.model_input import Shape, example_on
from robustness.engine.replay import Replay, replay_pictures
from robustness.engine.search import starting_epsilon
from robustness.errors import PipelineError
from robustness.images.cache import PictureCache
from robustness.images.png import from_png, to_png
from robustness.models.classifier import Classifier
from robustness.models.scalings import Scaling
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.views import view
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Progress
from robustness.runs.records import StripRow, ViewRow
from robustness.runs.store import Run

SHOWN_FLIPS = 6
"""The largest number of flips of each attack whose steps are saved."""


@dataclass(frozen=True)
class _Shown:
    """A flip whose steps are saved: its last picture, and the replay that computes the steps before it."""

    attack: str
    replay: Replay
    last: np.ndarray

    @property
    def original(self) -> np.ndarray:
        """The unchanged picture, (h, w, c) uint8."""
        example = self.replay.job.example
        return example.cropped(example.pixels)

    def row(self, store: Run, step: int, picture: np.ndarray, answer: np.ndarray) -> StripRow:
        return StripRow(
            image=self.replay.job.example.key,
            attack=self.attack,
            epsilon=self.replay.radius,
            step=step,
            png=store.save_png(to_png(picture)),
            probabilities="[" + ", ".join(f"{p:.6f}" for p in answer.tolist()) + "]",
        )

    def views(self, store: Run, deployment: Deployment, scaling: Scaling | None) -> list[ViewRow]:
        """The row of what the model sees of both pictures; none if the pipeline refuses one."""
        try:
            images = [view(deployment, one, scaling) for one in (self.original, self.last)]
        except PipelineError:
            return []
        before, after = (store.save_png(to_png(image)) for image in images)
        return [
            ViewRow(
                image=self.replay.job.example.key,
                attack=self.attack,
                epsilon=self.replay.radius,
                before=before,
                after=after,
            )
        ]


def save_step_pictures(
    plan: Plan,
    classifier: Classifier,
    cache: PictureCache,
    store: Run,
    *,
    batch: Callable[[Attack, Shape | None], CompiledBatch],
    canvas: Callable[[Attack, str], Shape | None] = lambda attack, key: None,
    scaling: Scaling | None = None,
    progress: Listener = lambda _: None,
) -> None:
    """Save every step of the most confident flips of a run; the steps between first and last run again.

    Parameters
    ----------
    plan, classifier, cache, store : the audit's, as for `Auditor`.
    batch : returns the compiled attack for pictures of a canvas.
    canvas : returns the canvas of an image, by its key.
    scaling : from counts to the model's inputs, where the user's own function makes these; None if it is
        not known.
    progress : called with the number of attacks whose steps are saved.
    """
    flips = store.pictured_flips()
    striking = {a: _striking(flips[flips.attack == a.label]) for a in plan.attacks}
    striking_rows = store.images_of(
        sorted({key for some in striking.values() for key in some.image})
    )

    def example_of(attack: Attack, key: str) -> Example | None:
        row = striking_rows[key]
        pixels, label = cache.read(row.entry, classifier.picture_shape).pixels, row.clean_class
        if pixels is None or label is None:
            return None
        return example_on(canvas(attack, key), key, pixels, label)

    for place, attack in enumerate(plan.attacks):
        progress(Progress("step pictures", place, len(plan.attacks), part=attack.label))
        shown = []
        for flip in striking[attack].itertuples():
            if (example := example_of(attack, flip.image)) is None:
                continue
            epsilon = starting_epsilon(attack, plan.threat, flip.epsilon)
            job = AttackJob(example, epsilon, int(flip.restart))
            replay = Replay(job, int(flip.step) - 1, float(flip.epsilon))
            shown.append(_Shown(attack.label, replay, from_png(store.png(flip.png))))
        if not shown:
            continue
        ends = [picture for s in shown for picture in (s.original, s.last)]
        answers = iter(classifier.probabilities(ends))
        rows: list[StripRow | ViewRow] = []
        deployment = classifier.deployment
        if isinstance(deployment, Deployment):
            rows += [row for one in shown for row in one.views(store, deployment, scaling)]
        for end in shown:
            rows.append(end.row(store, 0, end.original, next(answers)))
            rows.append(end.row(store, end.replay.steps + 1, end.last, next(answers)))
        groups: dict[Shape | None, list[_Shown]] = {}
        for end in shown:
            groups.setdefault(canvas(attack, end.replay.job.example.key), []).append(end)
        for place_of_rows, some in groups.items():
            steps = replay_pictures(
                batch(attack, place_of_rows), classifier, [s.replay for s in some]
            )
            for number, step, picture, answer in steps:
                rows.append(some[number].row(store, step, picture, answer))
        store.add(rows)
    progress(Progress("step pictures", len(plan.attacks), len(plan.attacks)))


def _striking(flips: Any) -> Any:
    """Return the flips of one attack with the highest confidences before and after, balanced by class."""
    flips = flips[flips.step > 0]
    # The smallest epsilon of each image; the larger ones have the same picture.
    flips = flips.sort_values(["epsilon", "image"]).drop_duplicates("image")
    flips = flips.assign(sure=flips.confidence_before * flips.confidence_after)
    flips = flips.sort_values(["sure", "image"], ascending=[False, True])
    share = -(-SHOWN_FLIPS // max(1, flips.adversarial_class.nunique()))
    return flips.groupby("adversarial_class", sort=False).head(share).head(SHOWN_FLIPS)
