"""Runs the plan of an audit: the clean pass, each attack, the step pictures; stores every result."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np

from robustness import backend
from robustness.auditing import step_pictures
from robustness.auditing.pixels_read import pixels_read
from robustness.auditing.tally import Tally
from robustness.contract.attack import Attack
from robustness.engine import votes
from robustness.engine.attempts import Result
from robustness.engine.batch_size import bounded, even_batches, rows_on_canvas, whole_groups
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import Example
from robustness.engine.judge import UploadedFile
from robustness.engine.model_input import Shape, canvas_of, example_on
from robustness.engine.outcomes import EpsilonOutcome
from robustness.engine.search import search
from robustness.engine.votes import Vote
from robustness.errors import GradientError, ModelError, PipelineError, RunUsageError
from robustness.images import Entry, Picture
from robustness.images.cache import PictureCache
from robustness.images.png import to_png
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import LARGE_BATCH
from robustness.pipeline.deployment import Deployment
from robustness.runs import smallest_epsilon, stage_times
from robustness.runs.manifest import now
from robustness.runs.median_epsilon import median_epsilons
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Progress
from robustness.runs.records import (
    FAILED,
    FLIPPED,
    ROBUST,
    SETTLED,
    DistanceRow,
    GradientRow,
    ImageRow,
    OutcomeRow,
    Row,
    SizeRow,
    UploadRow,
    data_digest,
    status_before_attack,
)
from robustness.runs.stage_times import StageTimes
from robustness.runs.store import Run
from robustness.runs.writer import Pending
from robustness.threat.norms import has_own_column


class Auditor:
    """One running audit: the clean pass, each attack, the step pictures.

    Parameters
    ----------
    plan : attacks, threat and settings of the run.
    classifier : the user's model, which judges every file.
    cache : decoded pictures.
    entries : images of the run.
    store : the run that receives every result.
    progress : called with the progress of each stage.
    surrogate : model that is attacked in place of `classifier`; None to attack `classifier` itself.
    stages : the clock of the audit's stages.
    """

    def __init__(  # noqa: PLR0917 - an audit has as many parts
        self,
        plan: Plan,
        classifier: Classifier,
        cache: PictureCache,
        entries: list[Entry],
        store: Run,
        progress: Listener,
        surrogate: Classifier | None = None,
        *,
        stages: StageTimes | None = None,
    ) -> None:
        self.plan, self.classifier, self.cache = plan, classifier, cache
        self.entries, self.store, self.progress = entries, store, progress
        self.attacked_model = surrogate or classifier
        self.stages = stages or StageTimes()
        self.pending = Pending(store)
        self.batch_size = bounded(plan.slots, self.attacked_model)
        self._compiled: dict[tuple[Attack, int, Shape | None], CompiledBatch] = {}
        self._attacked_images: Counter[tuple[Attack, Shape | None]] = Counter()
        self._sizes: dict[str, tuple[int, int]] = {}
        self._labelled = all(entry.label is not None for entry in entries)

    def run(self, answers: Mapping[str, np.ndarray]) -> None:
        """Run the audit, or the part of it that has no results yet.

        Parameters
        ----------
        answers : probabilities (classes,) that were computed already, by the image's key.

        Raises
        ------
        ModelError
            A single image does not fit into the memory of the device.
        RunUsageError
            An image has changed since the run first read it.
        """
        try:
            self.stages.start(stage_times.CLEAN)
            with self._preparing(answers):
                self._clean(answers)
            for attack in self.plan.attacks:
                self.stages.start(stage_times.attack_stage(attack.label))
                self._attack(attack)
            self.stages.start(stage_times.STEPS)
            step_pictures.save_step_pictures(
                self.plan,
                self.classifier,
                self.cache,
                self.entries,
                self.store,
                batch=self._batch,
                canvas=self._canvas,
                scaling=self.attacked_model.scaling if self.plan.surrogate is None else None,
                progress=self.progress,
            )
        finally:
            self.pending.close()
        manifest = self.store.manifest
        medians = median_epsilons(
            self.store.outcomes(),
            manifest.config,
            [attack.label for attack in self.plan.attacks],
            smallest_epsilon.unused(self.plan.budgets(self.classifier.input_shape)),
        )
        digest = data_digest(self.store.image_rows())
        self.store.write_manifest(
            manifest.with_changes(
                median_epsilon=medians,
                finished=now(),
                data=manifest.data.with_changes(sha256=digest),
                pixels_read=pixels_read(
                    self.attacked_model,
                    self._sizes.values(),
                    stands_in=self.plan.deployment is not None
                    and self.plan.deployment.function is not None,
                ),
            )
        )

    @contextlib.contextmanager
    def _preparing(self, answers: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Compile the first attack on another thread if `answers` give the number of images."""
        with ThreadPoolExecutor(1, thread_name_prefix="preparing") as executor:
            if answers:
                executor.submit(self._prepare, answers)
            yield

    def _prepare(self, answers: Mapping[str, np.ndarray]) -> None:
        attack, labels = self.plan.attacks[0], {e.key: e.label for e in self.entries}
        right = [labels[key] in (None, int(row.argmax())) for key, row in answers.items()]
        self._attacked_images[attack, None] = round(np.mean(right) * len(self.entries))
        # The same error occurs again in the attack, which reports it.
        with contextlib.suppress(Exception):
            self._batch(attack, None).prepare()

    def _clean(self, answers: Mapping[str, np.ndarray]) -> None:
        """Store the model's prediction for each unchanged image."""
        known = {row.key for row in self.store.image_rows()}
        self._sizes = self.store.sizes()
        todo = [(n, e) for n, e in enumerate(self.entries) if e.key not in known]
        done, total = len(self.entries) - len(todo), len(self.entries)
        pictures = self.cache.stream((e for _, e in todo), self.classifier.picture_shape)
        numbered = zip((n for n, _ in todo), pictures, strict=False)
        with contextlib.closing(pictures):
            while chunk := [pair for _, pair in zip(range(LARGE_BATCH), numbered, strict=False)]:
                pixels = {p.entry.key: p.pixels for _, p in chunk if p.pixels is not None}
                predictions = self._predictions(pixels, answers)
                rows = [self._image_row(n, picture) for n, picture in chunk]
                rows = [predictions[r.key](r) if r.key in predictions else r for r in rows]
                self.pending.add([*rows, *self._size_rows(pixels)])
                done += len(chunk)
                self.progress(Progress("clean", done, total))
        self.pending.flush()

    def _size_rows(self, pixels: Mapping[str, np.ndarray]) -> list[SizeRow]:
        """Keep the sizes of pictures that are attacked at their own size, and return their rows."""
        if self.classifier.deployment is None:
            return []
        sizes = {key: picture.shape[:2] for key, picture in pixels.items()}
        self._sizes |= sizes
        return [SizeRow(image=key, height=h, width=w) for key, (h, w) in sizes.items()]

    def _predictions(
        self, pixels: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]
    ) -> dict[str, Callable[[ImageRow], ImageRow]]:
        """Return a function for each image that puts the model's prediction into its row."""
        refused = self._refused(pixels)
        pixels = {key: picture for key, picture in pixels.items() if key not in refused}
        if self.plan.draws > 1 and pixels:
            names, pictures = self.classifier.class_names, list(pixels.values())
            counted = votes.clean(self.classifier.probabilities, pictures, len(names))
            return refused | {
                k: partial(_voted, vote=v, names=names)
                for k, v in zip(pixels, counted, strict=True)
            }
        new = [key for key in pixels if key not in known]
        fresh = self.classifier.probabilities([pixels[k] for k in new]) if new else ()
        probabilities = {**known, **dict(zip(new, fresh, strict=True))}
        return refused | {
            key: partial(_predicted, probabilities=probabilities[key]) for key in pixels
        }

    def _refused(
        self, pixels: Mapping[str, np.ndarray]
    ) -> dict[str, Callable[[ImageRow], ImageRow]]:
        """Return a function for each picture that the input pipeline cannot process: it states the reason."""
        deployment = self.classifier.deployment
        reasons: dict[str, Callable[[ImageRow], ImageRow]] = {}
        if not isinstance(deployment, Deployment):
            return reasons
        for key, picture in pixels.items():
            try:
                deployment.image(picture)
            except PipelineError as error:
                reasons[key] = partial(replace, reason=str(error))
        return reasons

    def _image_row(self, position: int, picture: Picture) -> ImageRow:
        entry = picture.entry
        return ImageRow(
            key=entry.key,
            position=position,
            name=entry.name,
            label=entry.label,
            digest=picture.digest,
            note=picture.note,
            reason=picture.reason,
            png=self._everything(picture),
        )

    def _everything(self, picture: Picture) -> str | None:
        """Save the picture if the run keeps every picture; return the file's name or None."""
        if not self.plan.keeps_all or picture.pixels is None:
            return None
        return self.store.save_png(to_png(picture.pixels))

    def _attack(self, attack: Attack) -> None:
        """Run one attack on every correctly classified image that has no outcome yet."""
        epsilons = self.plan.threat.epsilons
        tally = Tally(
            attack.label,
            Counter(self.store.count(attack.label, epsilons[-1])),
            place=self.plan.attacks.index(attack) + 1,
            places=len(self.plan.attacks),
            epsilon=epsilons[-1] if self.plan.threat.norm.measures else None,
        )

        def report() -> None:
            self.progress(tally.progress(len(self.entries), self._labelled))

        first = self.store.first_flips(self.plan.before(attack))
        # The number of epsilons below the smallest flip by an earlier attack.
        standing = {key: sum(e < flip for e in epsilons) for key, flip in first.items()}
        rows = self._to_attack(attack, standing, tally)

        report()
        while rows:
            try:
                with contextlib.closing(self._search(attack, rows, standing)) as results:
                    for example, outcomes in results:
                        row = rows.pop(example.key)
                        self.pending.make(self._outcomes, row, example, attack.label, outcomes)
                        beyond = epsilons[len(outcomes) :]
                        self.pending.add(_spared_rows(row, attack.label, beyond, SETTLED))
                        tally.add(SETTLED if beyond else _status(outcomes[-1]))
                        report()
            except GradientError as error:
                # Go on: later attacks may need no gradient.
                reason = f"{error} {self.attacked_model.without_gradient}".strip()
                for row in rows.values():
                    count = standing.get(row.key, len(epsilons))
                    failed = replace(row, reason=reason)
                    self.pending.add(_spared_rows(failed, attack.label, epsilons[:count], FAILED))
                    self.pending.add(_spared_rows(row, attack.label, epsilons[count:], SETTLED))
                    tally.add(FAILED)
                rows.clear()
                report()
            except backend.OutOfMemory as error:
                if self.batch_size == 1:
                    raise ModelError(
                        "A single image does not fit into the memory of the device. Use a device with "
                        "more memory, or end other programs that use it."
                    ) from error
                self.batch_size = whole_groups(self.batch_size // 2)
        self.pending.flush()

    def _search(
        self, attack: Attack, rows: Mapping[str, ImageRow], standing: dict[str, int]
    ) -> Generator[Result]:
        """Attack the images of `rows`, those of one canvas together; yield each with its outcomes."""
        groups: dict[Shape | None, list[ImageRow]] = {}
        for row in _hardest_first(rows.values()):
            groups.setdefault(self._canvas(attack, row.key), []).append(row)
        for canvas, some in groups.items():
            yield from self._search_on(canvas, attack, some, standing)

    def _canvas(self, attack: Attack, key: str) -> Shape | None:
        """The canvas of an image whose picture is attacked at its own size, else None."""
        if self.classifier.deployment is None:
            return None
        channels = self.classifier.input_shape[-1]
        return canvas_of(self._sizes[key], channels, exact=not attack.padded)

    def _search_on(
        self,
        canvas: Shape | None,
        attack: Attack,
        rows: list[ImageRow],
        standing: dict[str, int],
    ) -> Generator[Result]:
        examples = self._examples(rows, standing, canvas)
        with contextlib.closing(examples):
            results = search(
                self._batch(attack, canvas),
                examples,
                judged_by=self.classifier,
                draws=self.plan.draws,
                all_steps=self.plan.all_steps,
            )
            with contextlib.closing(results):
                yield from results

    def _to_attack(
        self, attack: Attack, standing: dict[str, int], tally: Tally
    ) -> dict[str, ImageRow]:
        """Return the images that an attack runs on, by key; store outcomes for the others."""
        epsilons = self.plan.threat.epsilons
        settled = self.store.settled(attack.label, len(epsilons))
        todo: dict[str, ImageRow] = {}
        for known in [pair for pair in self._attacked_images if pair[0] == attack]:
            del self._attacked_images[known]
        for row in self.store.image_rows():
            status = status_before_attack(row) or (SETTLED if standing.get(row.key) == 0 else "")
            # Count images with outcomes too: a resumed run must use the same batch size.
            if not status:
                self._attacked_images[attack, self._canvas(attack, row.key)] += 1
            if row.key in settled:
                tally.done += 1
            elif status:
                self.pending.add(_spared_rows(row, attack.label, epsilons, status))
                tally.add(status)
            else:
                todo[row.key] = row
        self.pending.flush()
        return todo

    def _batch(self, attack: Attack, canvas: Shape | None) -> CompiledBatch:
        """Return the compiled attack at the batch size that fits now; cached, since tracing takes seconds."""
        most = self.batch_size
        if canvas is not None:
            most = min(most, rows_on_canvas(self.attacked_model, canvas))
        # The batch fits the number of images: a cascade leaves few to its last attacks.
        size = even_batches(most // attack.width, self._attacked_images[attack, canvas])
        if (attack, size, canvas) not in self._compiled:
            threat, seed = self.plan.threat, self.plan.seed
            self._compiled[attack, size, canvas] = CompiledBatch(
                self.attacked_model, attack, threat, batch_size=size, seed=seed, canvas=canvas
            )
        return self._compiled[attack, size, canvas]

    def _examples(
        self, rows: list[ImageRow], standing: dict[str, int], canvas: Shape | None
    ) -> Generator[Example]:
        entries = {e.key: e for e in self.entries}
        pictures = self.cache.stream((entries[r.key] for r in rows), self.classifier.picture_shape)
        with contextlib.closing(pictures):
            for row, picture in zip(rows, pictures, strict=True):
                if picture.digest != row.digest:
                    raise RunUsageError(
                        f"{row.name} has changed since this run first read it"
                        f"{': ' + picture.reason if picture.reason else ''}. Expected the same "
                        "file during the whole run; restore it, or audit into a new folder."
                    )
                if picture.pixels is None or row.clean_class is None:
                    raise RunUsageError(
                        f"{row.name} can no longer be read ({picture.reason}). Expected the same file "
                        "during the whole run; restore it, or audit into a new folder."
                    )
                yield example_on(
                    canvas, row.key, picture.pixels, row.clean_class, standing.get(row.key)
                )

    def _upload_rows(self, stored: OutcomeRow, outcome: EpsilonOutcome) -> list[UploadRow]:
        """Save the uploaded file of a flip in a lossy format, if its pictures are kept."""
        deployment = self.classifier.deployment
        if outcome.flip is None or outcome.flip.upload is None or stored.png is None:
            return []
        suffix = deployment.upload.suffix if isinstance(deployment, Deployment) else ""
        upload = outcome.flip.upload
        return [_upload_row(stored, upload, self.store.save_png(upload.data, suffix))]

    def _outcomes(
        self, row: ImageRow, example: Example, label: str, outcomes: list[EpsilonOutcome]
    ) -> list[Row]:
        """Save the pictures of one image, and return its rows."""
        written: list[Row] = []
        kept = self.plan.keeps(row.position)
        if kept and row.png is None:
            # Also of a robust image, which the report shows.
            original = self.store.save_png(to_png(example.cropped(example.pixels)))
            written.append(replace(row, png=original))
        for outcome in outcomes:
            stored = OutcomeRow(
                image=row.key,
                attack=label,
                epsilon=outcome.epsilon,
                status=_status(outcome),
                confidence_before=row.confidence,
                step=outcome.step,
                restart=outcome.restart,
                forward=outcome.forward,
                backward=outcome.backward,
                float_flip=int(outcome.flips_in_float_only),
                reason=outcome.reason,
            )
            if outcome.flip:
                stored = replace(
                    stored,
                    adversarial_class=outcome.flip.adversarial_class,
                    confidence_after=outcome.flip.confidence,
                    **outcome.flip.distances.columns,
                    png=self.store.save_png(outcome.flip.png) if kept else None,
                )
            written.append(stored)
            written += self._upload_rows(stored, outcome)
            norm = self.plan.threat.norm
            if outcome.flip and has_own_column(norm):
                written.append(
                    DistanceRow(
                        image=row.key,
                        attack=label,
                        epsilon=outcome.epsilon,
                        norm=norm.column,
                        distance=outcome.flip.distances.own,
                    )
                )
            if outcome.watched and stored.status == ROBUST:
                written.append(
                    GradientRow(
                        image=row.key,
                        attack=label,
                        epsilon=outcome.epsilon,
                        watched=outcome.watched,
                        blind=outcome.blind,
                    )
                )
        return written


def _upload_row(stored: OutcomeRow, upload: UploadedFile, file: str) -> UploadRow:
    """The row of the uploaded file of a flip."""
    return UploadRow(
        image=stored.image,
        attack=stored.attack,
        epsilon=stored.epsilon,
        file=file,
        linf=upload.distances.linf,
        l2=upload.distances.l2,
    )


def _predicted(row: ImageRow, probabilities: np.ndarray) -> ImageRow:
    """Return `row` with the model's prediction, or with a reason if the output is not finite."""
    if not np.isfinite(probabilities).all():
        return replace(row, reason="the model's output is not finite")
    predicted = int(probabilities.argmax())
    return replace(row, clean_class=predicted, confidence=float(probabilities[predicted]))


def _voted(row: ImageRow, vote: Vote, names: Sequence[str]) -> ImageRow:
    """Return `row` with the class of most draws, and a reason if its majority is not significant."""
    if not vote.counts.any():
        return _predicted(row, np.full(len(names), np.nan))
    first = vote.first
    share = f"{names[first]} in {vote.counts[first]} of {vote.draws} draws"
    reason = "" if vote.steady else f"the model's class for it changes from draw to draw ({share})"
    sure = vote.confidence(first)
    return replace(row, clean_class=first, confidence=sure, reason=reason)


def _hardest_first(rows: Iterable[ImageRow]) -> list[ImageRow]:
    """Sort by descending confidence: images that take many steps start first and end with the others."""
    return sorted(rows, key=lambda row: -(row.confidence or 0.0))


def _status(outcome: EpsilonOutcome) -> str:
    return FAILED if outcome.reason else FLIPPED if outcome.flip else ROBUST


def _spared_rows(
    row: ImageRow, label: str, epsilons: Sequence[float], status: str
) -> list[OutcomeRow]:
    return [
        OutcomeRow(
            image=row.key,
            attack=label,
            epsilon=epsilon,
            status=status,
            confidence_before=row.confidence,
            reason=row.reason,
        )
        for epsilon in epsilons
    ]
