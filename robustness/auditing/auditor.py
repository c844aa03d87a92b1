"""An audit under way: the clean pass, each attack, the strips; every result kept as it comes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from robustness import backend
from robustness.auditing import step_pictures
from robustness.contract.attack import Attack
from robustness.engine import jobs, outcomes, search, votes
from robustness.engine.batch_size import waves, whole
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.votes import Vote
from robustness.errors import GradientError, ModelError, RunUsageError
from robustness.images import Entry, Picture
from robustness.images.cache import PictureCache
from robustness.images.png import to_png
from robustness.models.classifier import LARGE_BATCH, Classifier
from robustness.runs import thresholds
from robustness.runs.manifest import now
from robustness.runs.median_epsilon import median_epsilons
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Progress
from robustness.runs.records import (
    FAILED,
    FLIPPED,
    MISCLASSIFIED,
    ROBUST,
    SETTLED,
    GradientRow,
    ImageRow,
    OutcomeRow,
    Row,
    data_digest,
    status_before_attack,
)
from robustness.runs.store import Run
from robustness.runs.writer import Pending


@dataclass
class _Tally:
    """How far an attack has come: images done, and how many have each status at the largest epsilon."""

    stage: str
    counts: Counter[str]
    done: int = 0

    def add(self, status: str) -> None:
        """One more image is done."""
        self.counts[status] += 1
        self.done += 1

    def progress(self, total: int, labelled: bool) -> Progress:
        told = {"flipped": FLIPPED, "robust": ROBUST, "wrong": MISCLASSIFIED, "settled": SETTLED}
        found = {name: self.counts[status] for name, status in told.items()}
        return Progress(self.stage, self.done, total, **found, labelled=labelled)


class Auditor:
    """One audit under way: the clean pass, each attack, the strips."""

    def __init__(
        self,
        plan: Plan,
        classifier: Classifier,
        shelf: PictureCache,
        entries: list[Entry],
        store: Run,
        progress: Listener,
        surrogate: Classifier | None = None,
    ) -> None:
        self.plan, self.classifier, self.shelf = plan, classifier, shelf
        self.entries, self.store, self.progress = entries, store, progress
        self.eyes = surrogate or classifier
        self.pending = Pending(store)
        self.slots = plan.slots
        self._compiled: dict[tuple[Attack, int], CompiledBatch] = {}
        self._sees: dict[Attack, int] = {}
        self._labelled = all(entry.label is not None for entry in entries)

    def run(self, answers: Mapping[str, np.ndarray]) -> None:
        """All of it, or what is left; `answers` are probabilities that are known already, by image."""
        started = time.monotonic()
        try:
            with self._preparing(answers):
                self._clean(answers)
            for attack in self.plan.attacks:
                self._attack(attack)
            step_pictures.keep(
                self.plan, self.classifier, self.shelf, self.entries, self.store, self._rows
            )
        finally:
            self.pending.flush()
        manifest = self.store.manifest
        seconds = (manifest.timing.seconds or 0.0) + time.monotonic() - started
        medians = median_epsilons(
            self.store.outcomes(),
            manifest.config,
            [attack.label for attack in self.plan.attacks],
            thresholds.unused(self.plan.budgets(self.classifier.input_shape)),
        )
        digest = data_digest(self.store.image_rows())
        self.store.write_manifest(
            manifest.with_changes(
                median_epsilon=medians,
                finished=now(),
                timing=manifest.timing.with_changes(seconds=round(seconds, 3)),
                data=manifest.data.with_changes(sha256=digest),
            )
        )

    @contextlib.contextmanager
    def _preparing(self, answers: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Meanwhile the first attack is compiled on another thread, as far as `answers` tell for how many.

        Not where that sets layers to another precision, which the model must not be asked in.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="preparing") as hand:
            if answers and self.plan.precision == "float32":
                hand.submit(self._prepare, answers)
            yield

    def _prepare(self, answers: Mapping[str, np.ndarray]) -> None:
        attack, labels = self.plan.attacks[0], {e.key: e.label for e in self.entries}
        right = [labels[key] in (None, int(row.argmax())) for key, row in answers.items()]
        self._sees[attack] = round(np.mean(right) * len(self.entries))
        # What goes wrong here goes wrong again in the attack, which says so.
        with contextlib.suppress(Exception):
            self._rows(attack).prepare()

    def _clean(self, answers: Mapping[str, np.ndarray]) -> None:
        """What the model says of each image unchanged."""
        known = {row.key for row in self.store.image_rows()}
        todo = [(n, e) for n, e in enumerate(self.entries) if e.key not in known]
        done, total = len(self.entries) - len(todo), len(self.entries)
        pictures = self.shelf.stream((e for _, e in todo), self.classifier.input_shape)
        numbered = zip((n for n, _ in todo), pictures, strict=False)
        with contextlib.closing(pictures):
            while chunk := [pair for _, pair in zip(range(LARGE_BATCH), numbered, strict=False)]:
                pixels = {p.entry.key: p.pixels for _, p in chunk if p.pixels is not None}
                said = self._said(pixels, answers)
                rows = [self._image_row(n, picture) for n, picture in chunk]
                rows = [said[r.key](r) if r.key in said else r for r in rows]
                self.pending.add(rows)
                done += len(chunk)
                self.progress(Progress("clean", done, total))
        self.pending.flush()

    def _said(
        self, pixels: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]
    ) -> dict[str, Callable[[ImageRow], ImageRow]]:
        """What the model says of each of these, put into its row; it is asked of those not known."""
        if self.plan.draws > 1 and pixels:
            names, some = self.classifier.class_names, np.stack(list(pixels.values()))
            heard = votes.clean(self.classifier.probabilities, some, len(names))
            return {
                k: partial(_voted, vote=v, names=names) for k, v in zip(pixels, heard, strict=True)
            }
        new = [key for key in pixels if key not in known]
        asked = self.classifier.probabilities(np.stack([pixels[k] for k in new])) if new else ()
        said = {**known, **dict(zip(new, asked, strict=True))}
        return {key: partial(_predicted, probabilities=said[key]) for key in pixels}

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
        """The picture's file, where all that the model sees stays on disk."""
        if not self.plan.keeps_all or picture.pixels is None:
            return None
        return self.store.save_png(to_png(picture.pixels))

    def _attack(self, attack: Attack) -> None:
        """Run one attack over every correct image that is not settled yet."""
        epsilons = self.plan.threat.epsilons
        tally = _Tally(attack.label, Counter(self.store.count(attack.label, epsilons[-1])))

        def report() -> None:
            self.progress(tally.progress(len(self.entries), self._labelled))

        first = self.store.first_flips(self.plan.before(attack))
        # How many epsilons of each image still stand, where an earlier attack has flipped it.
        standing = {key: sum(e < flip for e in epsilons) for key, flip in first.items()}
        rows = self._to_attack(attack, standing, tally)

        def settle(subject: jobs.Example, rungs: list[outcomes.EpsilonOutcome]) -> None:
            row = rows.pop(subject.key)
            self.pending.make(self._outcomes, row, subject, attack.label, rungs)
            beyond = epsilons[len(rungs) :]
            self.pending.add(_spared_rows(row, attack.label, beyond, SETTLED))
            tally.add(SETTLED if beyond else _status(rungs[-1]))
            report()

        report()
        while rows:
            subjects = self._subjects(_hardest_first(rows.values()), standing)
            try:
                with contextlib.closing(subjects):
                    search.search(
                        self.classifier,
                        attack,
                        self.plan.threat,
                        subjects,
                        settle,
                        seed=self.plan.seed,
                        all_steps=self.plan.all_steps,
                        rows=self._rows(attack),
                        draws=self.plan.draws,
                    )
            except GradientError as error:
                # The attacks after it may need none: a model that hides its gradient is what they are for.
                reason = f"{error} {self.eyes.without_gradient}".strip()
                for row in rows.values():
                    rungs = standing.get(row.key, len(epsilons))
                    failed = replace(row, reason=reason)
                    self.pending.add(_spared_rows(failed, attack.label, epsilons[:rungs], FAILED))
                    self.pending.add(_spared_rows(row, attack.label, epsilons[rungs:], SETTLED))
                    tally.add(FAILED)
                rows.clear()
                report()
            except backend.OutOfMemory as error:
                if self.slots == 1:
                    raise ModelError(
                        "A single image does not fit into the memory of the device; use a machine "
                        "with more, or close what else runs on it."
                    ) from error
                self.slots = whole(self.slots // 2)
        self.pending.flush()

    def _to_attack(
        self, attack: Attack, standing: dict[str, int], tally: _Tally
    ) -> dict[str, ImageRow]:
        """The images that wait for an attack, by key; rows are written for those it is spared."""
        epsilons = self.plan.threat.epsilons
        settled = self.store.settled(attack.label, len(epsilons))
        todo: dict[str, ImageRow] = {}
        self._sees[attack] = 0
        for row in self.store.image_rows():
            status = status_before_attack(row) or (SETTLED if standing.get(row.key) == 0 else "")
            # Those of an interrupted run as well: the batch must be the same when it goes on.
            self._sees[attack] += not status
            if row.key in settled:
                tally.done += 1
            elif status:
                self.pending.add(_spared_rows(row, attack.label, epsilons, status))
                tally.add(status)
            else:
                todo[row.key] = row
        self.pending.flush()
        return todo

    def _rows(self, attack: Attack) -> CompiledBatch:
        """The attack's compiled rows, for as many images as fit now: tracing takes seconds."""
        # For the images that there are: a cascade leaves few to its last attacks.
        slots = waves(self.slots // attack.width, self._sees[attack])
        if (attack, slots) not in self._compiled:
            self._compiled[attack, slots] = CompiledBatch(
                self.eyes, attack, self.plan.threat, slots=slots, seed=self.plan.seed
            )
        return self._compiled[attack, slots]

    def _subjects(self, rows: list[ImageRow], standing: dict[str, int]) -> Generator[jobs.Example]:
        entries = {e.key: e for e in self.entries}
        pictures = self.shelf.stream((entries[r.key] for r in rows), self.classifier.input_shape)
        with contextlib.closing(pictures):
            for row, picture in zip(rows, pictures, strict=True):
                if picture.digest != row.digest:
                    raise RunUsageError(
                        f"{row.name} has changed since this run looked at it first"
                        f"{': ' + picture.reason if picture.reason else ''}. Expected the same "
                        "pictures throughout; put it back, or audit into a new folder."
                    )
                if picture.pixels is None or row.clean_class is None:
                    raise RunUsageError(f"{row.name} cannot be read any more: {picture.reason}")
                rungs = standing.get(row.key)
                yield jobs.Example(row.key, picture.pixels, row.clean_class, rungs)

    def _outcomes(
        self, row: ImageRow, subject: jobs.Example, label: str, rungs: list[outcomes.EpsilonOutcome]
    ) -> list[Row]:
        """The rows of one image, its pictures saved first."""
        written: list[Row] = []
        kept = self.plan.keeps(row.position)
        if kept and row.png is None:
            # Of one that held, too: a reader of the report wants to see what it was that held.
            original = self.store.save_png(to_png(subject.pixels))
            written.append(replace(row, png=original))
        for rung in rungs:
            outcome = OutcomeRow(
                image=row.key,
                attack=label,
                epsilon=rung.epsilon,
                status=_status(rung),
                confidence_before=row.confidence,
                step=rung.step,
                restart=rung.restart,
                forward=rung.forward,
                backward=rung.backward,
                float_flip=int(rung.floated),
                reason=rung.reason,
            )
            if rung.flip:
                outcome = replace(
                    outcome,
                    adversarial_class=rung.flip.adversarial_class,
                    confidence_after=rung.flip.confidence,
                    **asdict(rung.flip.distances),
                    png=self.store.save_png(rung.flip.png) if kept else None,
                )
            written.append(outcome)
            if rung.watched and outcome.status == ROBUST:
                written.append(
                    GradientRow(
                        image=row.key,
                        attack=label,
                        epsilon=rung.epsilon,
                        watched=rung.watched,
                        blind=rung.blind,
                    )
                )
        return written


def _predicted(row: ImageRow, probabilities: np.ndarray) -> ImageRow:
    """`row` with the model's answer; an image the model answers with NaN is not readable to it."""
    if not np.isfinite(probabilities).all():
        return replace(row, reason="the model answers with numbers that are not finite")
    predicted = int(probabilities.argmax())
    return replace(row, clean_class=predicted, confidence=float(probabilities[predicted]))


def _voted(row: ImageRow, vote: Vote, names: Sequence[str]) -> ImageRow:
    """`row` with the class that most draws name; a reason where it is not named more often than not."""
    if not vote.counts.any():
        return _predicted(row, np.full(len(names), np.nan))
    first = vote.first
    said = f"{names[first]} in {vote.counts[first]} of {vote.draws} draws"
    reason = "" if vote.steady else f"the model's class for it changes from draw to draw ({said})"
    sure = vote.confidence(first)
    return replace(row, clean_class=first, confidence=sure, reason=reason)


def _hardest_first(rows: Iterable[ImageRow]) -> list[ImageRow]:
    """Those the model is surest of first: what takes many steps is not left alone in its slots at last."""
    return sorted(rows, key=lambda row: -(row.confidence or 0.0))


def _status(rung: outcomes.EpsilonOutcome) -> str:
    return FAILED if rung.reason else FLIPPED if rung.flip else ROBUST


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
