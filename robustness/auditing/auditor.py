"""Runs the plan of an audit: the clean pass, each attack, the step pictures; stores every result."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd

from robustness.auditing.image_queue import ImageQueue
from robustness.auditing.image_rows import spared_rows
from robustness.auditing.pixels_read import pixels_read
from robustness.auditing.remaining import Remaining, remaining
from robustness.auditing.setup import AuditSetup
from robustness.auditing.step_pictures import shown_flips
from robustness.auditing.tally import Tally
from robustness.auditing.work import AttackedImage, Canvases, LocalWork, Work
from robustness.contract.attack import Attack
from robustness.environment import without_garbage_collection
from robustness.errors import GradientError
from robustness.images import Entry
from robustness.images.entries import labels_of
from robustness.runs import smallest_epsilon, stage_times
from robustness.runs.manifest import now
from robustness.runs.median_epsilon import median_epsilons
from robustness.runs.plan import Plan
from robustness.runs.progress import Listener, Pace, Progress
from robustness.runs.records import (
    FAILED,
    SETTLED,
    ImageRow,
    SizeRow,
)
from robustness.runs.stage_times import StageTimes
from robustness.runs.store import Run
from robustness.runs.writer import Pending
from robustness.threat.norms import has_own_column


class Auditor:
    """One running audit: the clean pass, each attack, the step pictures.

    Parameters
    ----------
    setup : the models and images.
    plan : attacks, threat and settings of the run.
    store : the run that receives every result.
    progress : called with the progress of each stage.
    work_of : returns what does the work on images, given what does it in this process.
    stages : the clock of the audit's stages.
    """

    def __init__(
        self,
        setup: AuditSetup,
        plan: Plan,
        store: Run,
        progress: Listener,
        work_of: Callable[[LocalWork], Work] = lambda local: local,
        *,
        stages: StageTimes | None = None,
    ) -> None:
        self.setup, self.plan, self.store, self.progress = setup, plan, store, progress
        self.entries = setup.part
        self.stages = stages or StageTimes()
        self.pending = Pending(store)
        self.canvases = Canvases(setup.classifier)
        self.local = LocalWork(
            plan,
            setup.classifier,
            setup.attacked,
            setup.cache,
            save=store.save_png,
            canvases=self.canvases,
        )
        self.work = work_of(self.local)
        self._labelled = None not in labels_of(self.entries)

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
            self._save_step_pictures()
        finally:
            self.pending.close()
        manifest = self.store.manifest
        medians = median_epsilons(
            self._outcomes(),
            manifest.config,
            [attack.label for attack in self.plan.attacks],
            smallest_epsilon.unused(self.plan.budgets(self.setup.classifier.input_shape)),
        )
        self.store.write_manifest(
            manifest.with_changes(
                median_epsilon=medians,
                finished=now(),
                data=manifest.data.with_changes(sha256=self.store.data_digest()),
                pixels_read=pixels_read(
                    self.setup.attacked,
                    self.canvases.sizes.values(),
                    stands_in=self.plan.deployment is not None
                    and self.plan.deployment.function is not None,
                ),
            )
        )

    def _outcomes(self) -> pd.DataFrame:
        """The columns of outcomes from which medians follow."""
        norm = self.plan.threat.norm
        if has_own_column(norm):
            return self.store.outcomes()
        distance = [norm.column] if norm.measures and norm.column else []
        return self.store.columns_of(
            "outcomes", *("image", "attack", "epsilon", "status"), *distance
        )

    @contextlib.contextmanager
    def _preparing(self, answers: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Compile the first attack on another thread if `answers` give the number of images."""
        with ThreadPoolExecutor(1, thread_name_prefix="preparing") as executor:
            if answers:
                executor.submit(self._prepare, answers)
            yield

    def _prepare(self, answers: Mapping[str, np.ndarray]) -> None:
        attack, labels = self.plan.attacks[0], {e.key: e.label for e in self.setup.entries}
        right = [labels[key] in (None, int(row.argmax())) for key, row in answers.items()]
        self.local.expect(attack, {None: round(np.mean(right) * len(self.entries))})
        # The same error occurs again in the attack, which reports it.
        with contextlib.suppress(Exception):
            self.local.batch(attack, None).prepare()

    def _clean(self, answers: Mapping[str, np.ndarray]) -> None:
        """Store the model's prediction for each unchanged image."""
        self.canvases.sizes |= self.store.sizes()
        todo = self._unseen()
        done, total = len(self.entries) - len(todo), len(self.entries)
        pace = Pace(done)
        with contextlib.closing(self.work.clean(todo, answers)) as results:
            for rows in results:
                self.pending.add(rows)
                sizes = [row for row in rows if isinstance(row, SizeRow)]
                self.canvases.sizes |= {row.image: (row.height, row.width) for row in sizes}
                done += sum(isinstance(row, ImageRow) for row in rows)
                self.progress(
                    Progress("clean", done, total, workers=self.work.workers, rate=pace.rate(done))
                )
        self.pending.flush()

    def _unseen(self) -> list[tuple[int, Entry]]:
        """The images without a row, with their positions."""
        # A resumed run has been repaired: it has rows of its own images only.
        if self.store.image_count() == len(self.entries):
            return []
        known, first = set(self.store.columns_of("images", "key")["key"]), self.setup.first
        with without_garbage_collection():
            return [(first + n, e) for n, e in enumerate(self.entries) if e.key not in known]

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
            progress = tally.progress(len(self.entries), self._labelled)
            rate = pace.rate(tally.done)
            self.progress(replace(progress, workers=self.work.workers, rate=rate))

        first = self.store.first_flips(self.plan.before(attack))
        # The number of epsilons below the smallest flip by an earlier attack.
        standing = {key: sum(e < flip for e in epsilons) for key, flip in first.items()}
        images = self._to_attack(attack, standing, tally)
        pace = Pace(tally.done)
        report()
        try:
            for image in self._attacked(attack, images, standing):
                self.pending.make(image.rows)
                beyond = epsilons[image.count :]
                self.pending.add(spared_rows(image.row, attack.label, beyond, SETTLED))
                tally.add(SETTLED if beyond else image.status)
                report()
        except GradientError as error:
            # Go on: later attacks may need no gradient.
            reason = f"{error} {self.setup.attacked.without_gradient}".strip()
            self.pending.flush()
            for row in self._remaining(attack, standing).to_attack:
                count = standing.get(row.key, len(epsilons))
                failed = replace(row, reason=reason)
                self.pending.add(spared_rows(failed, attack.label, epsilons[:count], FAILED))
                self.pending.add(spared_rows(row, attack.label, epsilons[count:], SETTLED))
                tally.add(FAILED)
            report()
        self.pending.flush()

    def _attacked(
        self, attack: Attack, images: ImageQueue, standing: Mapping[str, int]
    ) -> Iterator[AttackedImage]:
        """Attack images, and yield each with its outcomes."""
        if not images:
            return
        with contextlib.closing(self.work.attack(attack, images, standing)) as results:
            yield from results

    def _to_attack(self, attack: Attack, standing: Mapping[str, int], tally: Tally) -> ImageQueue:
        """Return the images that an attack runs on; store outcomes for the others."""
        left = self._remaining(attack, standing)
        tally.done += left.done
        for row, status in zip(left.spared, left.statuses, strict=True):
            self.pending.add(spared_rows(row, attack.label, self.plan.threat.epsilons, status))
            tally.add(status)
        # Images with outcomes too: a resumed run must use the same batch size.
        self.local.expect(attack, self.canvases.counts(attack, left.attacked))
        self.pending.flush()
        return left.to_attack

    def _save_step_pictures(self) -> None:
        """Run the steps of the most confident flips again, and store their pictures."""
        flips = shown_flips(self.plan, self.store, self.canvases.sizes)
        steps = self.work.steps({attack: some for attack, some in flips.items() if some})
        total = len(self.plan.attacks)
        done = total - sum(map(bool, flips.values()))
        self.progress(Progress("step pictures", done, total))
        with contextlib.closing(steps):
            for attack, rows in steps:
                done += 1
                self.store.add(rows)
                self.progress(Progress("step pictures", done, total, part=attack.label))

    @without_garbage_collection()
    def _remaining(self, attack: Attack, standing: Mapping[str, int]) -> Remaining:
        return remaining(self.store, attack.label, len(self.plan.threat.epsilons), standing)
