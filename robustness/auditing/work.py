"""The work of an audit on its images: predicts unchanged pictures, and attacks those that are classified.

`Auditor` says what is to be done and stores the results; a `Work` does it: `LocalWork` in this process.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Protocol

import numpy as np

from robustness import backend
from robustness.auditing.image_queue import ImageQueue
from robustness.auditing.image_rows import RowMaker, SavePicture, expect_size, status_of
from robustness.auditing.step_pictures import ShownFlip, StepPictures
from robustness.contract.attack import Attack
from robustness.diagnostics import Diagnosis
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.diagnostics.reruns import diagnose_reruns
from robustness.engine.batch_size import bounded, even_batches, rows_on_canvas, whole_groups
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import Example
from robustness.engine.model_input import Shape, canvas_of, example_on
from robustness.engine.search import search
from robustness.errors import ModelError, RunUsageError
from robustness.images import Entry
from robustness.images.cache import PictureCache
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import LARGE_BATCH, CallError
from robustness.runs.plan import Plan
from robustness.runs.records import ImageRow, Row
from robustness.text import first_few, plural


@dataclass(frozen=True)
class AttackedImage:
    """An image whose outcomes under an attack are known.

    Attributes
    ----------
    row : the image.
    count : the number of epsilons with an outcome, from the smallest on.
    status : the outcome at the largest of them.
    rows : makes the rows, which may take as long as compressing pictures.
    """

    row: ImageRow
    count: int
    status: str
    rows: Callable[[], Sequence[Row]]


class Work(Protocol):
    """Does the work of an audit on images, here or elsewhere."""

    @property
    def workers(self) -> int:
        """The number of workers at the moment; 0 if this process does the work itself."""

    def clean(
        self, numbered: Iterable[tuple[int, Entry]], known: Mapping[str, np.ndarray]
    ) -> Generator[Sequence[Row]]:
        """Yield the rows of unchanged images, some at a time, in any order.

        Parameters
        ----------
        numbered : positions and entries.
        known : probabilities (classes,) that were computed already, by the image's key.
        """

    def attack(
        self, attack: Attack, images: ImageQueue, standing: Mapping[str, int]
    ) -> Generator[AttackedImage]:
        """Attack images and yield each when its outcomes are known, in any order.

        Parameters
        ----------
        attack : the attack.
        images : the images, in the order in which they should begin.
        standing : by key, the number of epsilons, from the smallest on, that need an outcome; all if absent.

        Raises
        ------
        GradientError
            The attack needs a gradient and the model has none.
        """

    def steps(
        self, flips: Mapping[Attack, Sequence[ShownFlip]]
    ) -> Generator[tuple[Attack, Sequence[Row]]]:
        """Run the steps of flips again, and yield the rows of each attack, in any order."""

    def reruns(self, setup: RerunSetup, progress: Callable[[str], None], /) -> list[Diagnosis]:
        """Make the diagnoses that run attacks again; see `robustness.diagnostics.reruns`."""


class Wanted(Protocol):
    """Which images of an attack are still wanted, while others already run."""

    @property
    def stopped(self) -> bool:
        """Whether none is."""

    def begins(self, row: ImageRow) -> bool:
        """Return whether an image that has its place in the batch is still wanted; it then begins."""


class _All:
    """Every image is wanted."""

    stopped = False

    def begins(self, row: ImageRow) -> bool:
        return True


@dataclass
class Canvases:
    """The canvas of each image whose picture is attacked at its own size."""

    classifier: Classifier
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Height and width of the pictures, by the image's key."""

    def __call__(self, attack: Attack, key: str) -> Shape | None:
        """Return the canvas of an image; None if the model's image is attacked."""
        if self.classifier.deployment is None:
            return None
        channels = self.classifier.input_shape[-1]
        return canvas_of(self.sizes[key], channels, exact=not attack.padded)

    def counts(self, attack: Attack, keys: Collection[str]) -> dict[Shape | None, int]:
        """Return how many of the images have each canvas."""
        if self.classifier.deployment is None:
            return {None: len(keys)}
        return Counter(self(attack, key) for key in keys)

    def groups(self, attack: Attack, images: ImageQueue) -> dict[Shape | None, ImageQueue]:
        """Return the images of each canvas, in the order in which the first of each came."""
        if self.classifier.deployment is None:
            return {None: images}
        found: dict[Shape | None, list[str]] = {}
        for key in images.keys:
            found.setdefault(self(attack, key), []).append(key)
        return {canvas: images.of(keys) for canvas, keys in found.items()}


class LocalWork:
    """Does the work in this process.

    Parameters
    ----------
    plan : the settings of the run.
    classifier : the user's model, which judges every file.
    attacked : the model that attacks evaluate.
    cache : the pictures.
    save : saves a picture.
    canvases : the canvases of the images.
    """

    def __init__(
        self,
        plan: Plan,
        classifier: Classifier,
        attacked: Classifier,
        cache: PictureCache,
        *,
        save: SavePicture,
        canvases: Canvases,
    ) -> None:
        self.plan, self.classifier, self.attacked_model = plan, classifier, attacked
        self.cache, self.canvases = cache, canvases
        self.make = RowMaker(plan, classifier, save)
        self.batch_size = bounded(plan.slots, attacked)
        self._compiled: dict[tuple[Attack, int, Shape | None], CompiledBatch] = {}
        self._counts: dict[Attack, Mapping[Shape | None, int]] = {}

    workers = 0
    reruns = staticmethod(diagnose_reruns)

    def counts(self, attack: Attack) -> Mapping[Shape | None, int]:
        """Return what `expect` set for an attack."""
        return self._counts.get(attack, {})

    def expect(self, attack: Attack, counts: Mapping[Shape | None, int]) -> None:
        """Set the number of images that an attack runs on, by canvas, from which batch sizes follow."""
        self._counts[attack] = dict(counts)

    def clean(
        self, numbered: Iterable[tuple[int, Entry]], known: Mapping[str, np.ndarray]
    ) -> Generator[Sequence[Row]]:
        """Yield the rows of unchanged images; see `Work`."""
        waiting: deque[int] = deque()

        def entries() -> Iterator[Entry]:
            for position, entry in numbered:
                waiting.append(position)
                yield entry

        pictures = self.cache.stream(entries(), self.classifier.picture_shape)
        with contextlib.closing(pictures):
            while chunk := [
                picture for _, picture in zip(range(LARGE_BATCH), pictures, strict=False)
            ]:
                yield self.make.clean([(waiting.popleft(), p) for p in chunk], known)

    def attack(
        self, attack: Attack, images: ImageQueue, standing: Mapping[str, int]
    ) -> Generator[AttackedImage]:
        """Attack images, those of one canvas together; see `Work`."""
        for canvas, some in self.canvases.groups(attack, images).items():
            yield from self.attack_on(canvas, attack, some, standing)

    def attack_on(
        self,
        canvas: Shape | None,
        attack: Attack,
        rows: Iterable[ImageRow],
        standing: Mapping[str, int],
        wanted: Wanted | None = None,
    ) -> Generator[AttackedImage]:
        """Attack images of one canvas; `rows` are read lazily, a few ahead of the batch.

        Images that are no longer `wanted` when there is room for them do not begin.

        Raises
        ------
        ModelError
            A single image does not fit into the memory of the device.
        RunUsageError
            An image has changed since the run first read it.
        """
        fresh, taken = iter(rows), dict[str, ImageRow]()
        again: list[ImageRow] = []
        asked = wanted or _All()

        def begins(row: ImageRow) -> bool:
            if asked.begins(row):
                return True
            # It may have been given back and have come again since.
            if taken.get(row.key) is row:
                del taken[row.key]
            return False

        def supply() -> Iterator[ImageRow]:
            for row in fresh:
                taken[row.key] = row
                yield row

        while True:
            examples = self._examples(chain(again, supply()), standing, canvas, begins)
            results = search(
                self.batch(attack, canvas),
                examples,
                judged_by=self.classifier,
                draws=self.plan.draws,
                all_steps=self.plan.all_steps,
                stopped=lambda: asked.stopped,
            )
            try:
                with contextlib.closing(examples), contextlib.closing(results):
                    for example, outcomes in results:
                        row = taken.pop(example.key)
                        make = partial(self.make.outcomes, row, example, attack.label, outcomes)
                        status = status_of(outcomes[-1])
                        yield AttackedImage(row, len(outcomes), status, make)
            except CallError as error:
                # Pictures that the attack has made of these images.
                held = first_few([row.name for row in taken.values()])
                raise ModelError(
                    f"{error} {attack.label} was attacking {plural(len(taken), 'image')}: {held}."
                ) from error.__cause__
            except backend.OutOfMemory as error:
                if self.batch_size == 1:
                    raise ModelError(
                        "A single image does not fit into the memory of the device. Use a device with "
                        "more memory, or end other programs that use it."
                    ) from error
                self.batch_size = whole_groups(self.batch_size // 2)
                again = list(taken.values())
            else:
                return

    def steps(
        self, flips: Mapping[Attack, Sequence[ShownFlip]]
    ) -> Generator[tuple[Attack, Sequence[Row]]]:
        """Run the steps of flips again; see `Work`."""
        made = StepPictures(
            self.plan,
            self.classifier,
            self.cache,
            self.batch,
            self.canvases,
            self.make.save,
            self.attacked_model.scaling if self.plan.surrogate is None else None,
        )
        for attack, some in flips.items():
            yield attack, made.rows(attack, some)

    def batch(self, attack: Attack, canvas: Shape | None) -> CompiledBatch:
        """Return the compiled attack at the batch size that fits now; cached, since tracing takes seconds."""
        most = self.batch_size
        if canvas is not None:
            most = min(most, rows_on_canvas(self.attacked_model, canvas))
        # The batch fits the number of images: a cascade leaves few to its last attacks.
        size = even_batches(most // attack.width, self.counts(attack).get(canvas, 0))
        if (attack, size, canvas) not in self._compiled:
            threat, seed = self.plan.threat, self.plan.seed
            self._compiled[attack, size, canvas] = CompiledBatch(
                self.attacked_model,
                attack,
                threat,
                batch_size=size,
                seed=seed,
                canvas=canvas,
            )
        return self._compiled[attack, size, canvas]

    def _examples(
        self,
        rows: Iterable[ImageRow],
        standing: Mapping[str, int],
        canvas: Shape | None,
        begins: Callable[[ImageRow], bool],
    ) -> Generator[Example]:
        waiting: deque[ImageRow] = deque()

        def entries() -> Iterator[Entry]:
            for row in rows:
                waiting.append(row)
                yield row.entry

        pictures = self.cache.stream(entries(), self.classifier.picture_shape)
        with contextlib.closing(pictures):
            for picture in pictures:
                row = waiting.popleft()
                if not begins(row):
                    continue
                if picture.digest != row.digest:
                    raise RunUsageError(
                        f"{row.name} has changed since this run first read it"
                        f"{': ' + picture.reason.rstrip('.') if picture.reason else ''}. Expected the same "
                        "file during the whole run; restore it, or audit into a new folder."
                    )
                if picture.pixels is None or row.clean_class is None:
                    raise RunUsageError(
                        f"{row.name} can no longer be read ({picture.reason.rstrip('.')}). Expected the "
                        "same file during the whole run; restore it, or audit into a new folder."
                    )
                if canvas is not None:
                    expect_size(row, picture.pixels, self.canvases.sizes[row.key])
                yield example_on(
                    canvas, row.key, picture.pixels, row.clean_class, standing.get(row.key)
                )
