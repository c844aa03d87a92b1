"""Makes the pictures of the steps of an attack's most confident flips, for the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.auditing.image_rows import SavePicture, expect_size
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
from robustness.runs.records import ImageRow, StripRow, ViewRow
from robustness.runs.store import Run

SHOWN_FLIPS = 6
"""The largest number of flips of each attack whose steps are saved."""
KEPT_STEPS = 64
"""The largest number of steps of a flip whose pictures are saved; a report shows fewer."""


@dataclass(frozen=True)
class ShownFlip:
    """A flip whose steps are shown.

    Attributes
    ----------
    row : its image.
    size : height and width of a picture that is attacked at its own size.
    epsilon, restart, step : of its outcome.
    picture : its file, whose pixels are those of the last step.
    """

    row: ImageRow
    size: tuple[int, int] | None
    epsilon: float
    restart: int
    step: int
    picture: bytes


def shown_flips(
    plan: Plan, store: Run, sizes: Mapping[str, tuple[int, int]]
) -> dict[Attack, list[ShownFlip]]:
    """Return the most confident flips of each attack, balanced by class.

    Parameters
    ----------
    plan, store : of the run.
    sizes : height and width of pictures that are attacked at their own size, by the image's key.
    """
    flips = store.pictured_flips()
    striking = {a: _striking(flips[flips.attack == a.label]) for a in plan.attacks}
    rows = store.images_of(sorted({key for some in striking.values() for key in some.image}))
    return {
        attack: [
            ShownFlip(
                rows[flip.image],
                sizes.get(flip.image),
                float(flip.epsilon),
                int(flip.restart),
                int(flip.step),
                store.png(flip.png),
            )
            for flip in some.itertuples()
        ]
        for attack, some in striking.items()
    }


@dataclass(frozen=True)
class StepPictures:
    """Runs the steps of flips again and makes their rows.

    Parameters
    ----------
    plan, classifier, cache : those of the audit.
    batch : returns the compiled attack for pictures of a canvas.
    canvas : returns the canvas of an image, by its key.
    save : saves a picture.
    scaling : from counts to the model's inputs, where the user's own function makes these; None if it is
        not known.
    """

    plan: Plan
    classifier: Classifier
    cache: PictureCache
    batch: Callable[[Attack, Shape | None], CompiledBatch]
    canvas: Callable[[Attack, str], Shape | None]
    save: SavePicture
    scaling: Scaling | None = None

    def rows(self, attack: Attack, flips: Sequence[ShownFlip]) -> list[StripRow | ViewRow]:
        """Return the rows of the steps of the flips of one attack, and of what the model sees."""
        shown = [one for flip in flips if (one := self._shown(attack, flip)) is not None]
        if not shown:
            return []
        ends = [picture for s in shown for picture in (s.original, s.last)]
        answers = iter(self.classifier.probabilities(ends))
        deployment = self.classifier.deployment
        rows: list[StripRow | ViewRow] = []
        if isinstance(deployment, Deployment):
            rows += [r for one in shown for r in one.views(self.save, deployment, self.scaling)]
        for end in shown:
            rows.append(end.row(self.save, 0, end.original, next(answers)))
            rows.append(end.row(self.save, end.replay.steps + 1, end.last, next(answers)))
        groups: dict[Shape | None, list[_Shown]] = {}
        for end in shown:
            groups.setdefault(self.canvas(attack, end.replay.job.example.key), []).append(end)
        for canvas, some in groups.items():
            replays = [s.replay for s in some]
            steps = replay_pictures(
                self.batch(attack, canvas), self.classifier, replays, KEPT_STEPS
            )
            for number, step, picture, answer in steps:
                rows.append(some[number].row(self.save, step, picture, answer))
        return rows

    def _shown(self, attack: Attack, flip: ShownFlip) -> _Shown | None:
        if (example := self._example(attack, flip)) is None:
            return None
        epsilon = starting_epsilon(attack, self.plan.threat, flip.epsilon)
        job = AttackJob(example, epsilon, flip.restart)
        replay = Replay(job, flip.step - 1, flip.epsilon)
        return _Shown(attack.label, replay, from_png(flip.picture))

    def _example(self, attack: Attack, flip: ShownFlip) -> Example | None:
        row = flip.row
        pixels = self.cache.read(row.entry, self.classifier.picture_shape).pixels
        if pixels is None or row.clean_class is None:
            return None
        canvas = self.canvas(attack, row.key)
        if canvas is not None:
            expect_size(row, pixels, flip.size)
        return example_on(canvas, row.key, pixels, row.clean_class)


@dataclass(frozen=True)
class _Shown:
    """A flip with the replay that computes the steps before its last picture."""

    attack: str
    replay: Replay
    last: np.ndarray

    @property
    def original(self) -> np.ndarray:
        """The unchanged picture, (h, w, c) uint8."""
        example = self.replay.job.example
        return example.cropped(example.pixels)

    def row(
        self, save: SavePicture, step: int, picture: np.ndarray, answer: np.ndarray
    ) -> StripRow:
        return StripRow(
            image=self.replay.job.example.key,
            attack=self.attack,
            epsilon=self.replay.radius,
            step=step,
            png=save(to_png(picture), ".png"),
            probabilities="[" + ", ".join(f"{p:.6f}" for p in answer.tolist()) + "]",
        )

    def views(
        self, save: SavePicture, deployment: Deployment, scaling: Scaling | None
    ) -> list[ViewRow]:
        """The row of what the model sees of both pictures; none if the pipeline refuses one."""
        try:
            images = [view(deployment, one, scaling) for one in (self.original, self.last)]
        except PipelineError:
            return []
        before, after = (save(to_png(image), ".png") for image in images)
        return [
            ViewRow(
                image=self.replay.job.example.key,
                attack=self.attack,
                epsilon=self.replay.radius,
                before=before,
                after=after,
            )
        ]


def _striking(flips: Any) -> Any:
    """Return the flips of one attack with the highest confidences before and after, balanced by class."""
    flips = flips[flips.step > 0]
    # The smallest epsilon of each image; the larger ones have the same picture.
    flips = flips.sort_values(["epsilon", "image"]).drop_duplicates("image")
    flips = flips.assign(sure=flips.confidence_before * flips.confidence_after)
    flips = flips.sort_values(["sure", "image"], ascending=[False, True])
    share = -(-SHOWN_FLIPS // max(1, flips.adversarial_class.nunique()))
    return flips.groupby("adversarial_class", sort=False).head(share).head(SHOWN_FLIPS)
