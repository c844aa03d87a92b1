"""A worker: one process with the model, which predicts and attacks the images that the driver sends."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from robustness import backend
from robustness.auditing.cluster.inbox import Inbox
from robustness.auditing.cluster.messages import (
    Answers,
    Assignment,
    Clean,
    Done,
    Failed,
    Fed,
    Hello,
    Packet,
    Pictures,
)
from robustness.auditing.cluster.outbox import Outbox
from robustness.auditing.cluster.probe import kind_of
from robustness.auditing.cluster.sent_model import model_here
from robustness.auditing.cluster.spread_reruns import RerunMaterial
from robustness.auditing.cluster.spread_tasks import TaskResult
from robustness.auditing.decisions import Decisions
from robustness.auditing.setup import set_up
from robustness.auditing.step_pictures import ShownFlip
from robustness.auditing.work import AttackedImage, Canvases, LocalWork
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.diagnostics.reruns import RERUNS
from robustness.errors import GradientError
from robustness.images import Entry
from robustness.models.classifier import Classifier
from robustness.runs.manifest import expect_same
from robustness.runs.records import ImageRow, png_name
from robustness.runs.run_json import manifest_of


class Collected:
    """Pictures that are to be sent: `save` keeps one, `take` returns those kept since the last time."""

    def __init__(self) -> None:
        self._kept: Pictures = {}

    def save(self, data: bytes, suffix: str = ".png") -> str:
        """Keep a picture; return the path that it will have within the run folder."""
        name = png_name(sha256(data).hexdigest(), suffix)
        self._kept[name] = (data, suffix)
        return name

    def take(self) -> Pictures:
        """Return the pictures that were saved, and forget them."""
        kept, self._kept = self._kept, {}
        return kept


@dataclass
class _Loaded:
    """What a worker has after it began."""

    work: LocalWork
    attacks: Mapping[str, Any]
    entries: Mapping[str, Entry]
    pictures: Collected
    surrogate: Classifier | None
    material: RerunMaterial | None = None


class Worker:
    """Does the work of an audit on the images that it is given. Several threads call its methods."""

    def __init__(self) -> None:
        self._inbox, self._outbox = Inbox(), Outbox()
        self._stopped = 0
        self._loaded: _Loaded | None = None

    def begin(self, assignment: Assignment) -> Hello:
        """Load the model and list the images, as the driver did.

        Raises
        ------
        RunUsageError
            The model, the images or a setting differs from those of the driver.
        RobustnessError
            The model or the images cannot be used on this machine.
        """
        started = time.monotonic()
        with contextlib.suppress(OSError):
            os.chdir(assignment.directory)
        sys.path += [p for p in assignment.import_path if p not in sys.path and Path(p).exists()]
        manifest = manifest_of(assignment.manifest, "the manifest of the driver")
        config = assignment.config
        with model_here(config.model, assignment.model) as model:
            setup = set_up(
                model,
                assignment.images,
                assignment.labels,
                config,
                decided=Decisions.of(manifest),
            )
            plan = setup.planned(setup.decided.findings, resumed=True)
            # This reads the file again.
            expect_same(manifest, setup.manifest(plan))
        pictures, entries = Collected(), {entry.key: entry for entry in setup.entries}
        work = LocalWork(
            plan,
            setup.classifier,
            setup.attacked,
            setup.cache,
            save=pictures.save,
            canvases=Canvases(setup.classifier),
        )
        attacks = {attack.label: attack for attack in plan.attacks}
        self._loaded = _Loaded(work, attacks, entries, pictures, setup.models.attacked)
        return Hello(
            socket.gethostname(),
            backend.device(),
            kind_of(setup.classifier, setup.attacked, draws=plan.draws),
            time.monotonic() - started,
        )

    @property
    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise RuntimeError("the worker has not begun")
        return self._loaded

    def stay(self, seconds: float) -> None:
        """Return after some time: whoever waits for it notices the end of this process."""
        time.sleep(seconds)

    def clean(
        self, number: int, numbered: Sequence[tuple[int, str]], known: Answers
    ) -> Iterator[Clean]:
        """Yield the rows of unchanged images, by position and key, until `stop`; `number` as for `attack`."""
        mine = self._ready
        entries = ((position, mine.entries[key]) for position, key in numbered)
        with contextlib.closing(mine.work.clean(entries, known)) as results:
            for rows in results:
                if number <= self._stopped:
                    return
                yield Clean(rows, mine.pictures.take())

    def steps(
        self,
        call: int,
        number: int,
        label: str,
        counts: Mapping[Any, int],
        flips: Sequence[ShownFlip],
    ) -> Iterator[TaskResult]:
        """Yield the rows and the pictures of every step of the flips of one attack.

        Parameters
        ----------
        call : the number of this call.
        number : that of the task.
        label, counts : as for `attack`.
        flips : the flips.
        """
        mine = self._ready
        attack = mine.attacks[label]
        mine.work.expect(attack, counts)
        sizes = {flip.row.key: flip.size for flip in flips if flip.size is not None}
        mine.work.canvases.sizes.update(sizes)
        ((_, rows),) = mine.work.steps({attack: flips})
        yield TaskResult(number, (rows, mine.pictures.take()), time.process_time())

    def rerun(self, call: int, number: int, material: RerunMaterial | None) -> Iterator[TaskResult]:
        """Yield the diagnoses of one rerun.

        Parameters
        ----------
        call : the number of this call.
        number : the place of the rerun in `RERUNS`.
        material : comes with the first.
        """
        mine = self._ready
        mine.material = given = material or mine.material
        if given is None:
            raise RuntimeError("the worker has no images to run attacks on again")
        work = mine.work
        setup = RerunSetup(work.classifier, work.plan, given.record, given.sample, mine.surrogate)
        yield TaskResult(number, RERUNS[number](setup), time.process_time())

    def feed(self, number: int, images: Sequence[Fed], *, last: bool = False) -> None:
        """Add images to those that the attack with this number takes, if it runs."""
        if self._inbox.number == number:
            self._inbox.feed(images, last=last)

    def release(self, number: int, most: int) -> None:
        """Give back up to `most` images that have not begun; their keys are sent with the next packet."""
        if self._inbox.number == number:
            self._outbox.give_back(self._inbox.release(most))

    def stop(self, number: int) -> None:
        """End the attack, or the predictions, with this number, also if it has not begun."""
        self._stopped = max(self._stopped, number)
        if self._inbox.number <= number:
            self._inbox.stop()

    def attack(
        self,
        number: int,
        label: str,
        counts: Mapping[Any, int],
        images: Sequence[Fed],
    ) -> Iterator[Packet | Failed]:
        """Attack images until `stop`, and yield them as they are finished.

        Parameters
        ----------
        number : of this call; later calls have larger ones.
        label : of the attack.
        counts : the number of images of the whole run by canvas, from which the batch size follows.
        images : the first ones; `feed` adds others.
        """
        mine = self._ready
        attack, inbox, outbox = mine.attacks[label], Inbox(number), Outbox()
        self._outbox, self._inbox = outbox, inbox
        if number <= self._stopped:
            inbox.stop()
        mine.work.expect(attack, counts)
        inbox.feed(images)
        # An empty packet says that the inbox is there to be fed.
        yield Packet((), time.process_time())
        with ThreadPoolExecutor(1, thread_name_prefix="attack") as executor:
            running = executor.submit(self._run, attack, inbox, outbox)
            try:
                yield from outbox.packets()
                running.result()
            except GradientError as error:
                yield Failed(str(error))
            finally:
                inbox.stop()

    def _run(self, attack: Any, inbox: Inbox, outbox: Outbox) -> None:
        """Attack the images of the inbox, and make their rows on a thread while the model continues."""
        mine = self._ready

        def done(image: AttackedImage) -> Done:
            rows = image.rows()
            return Done(image.row.key, image.count, image.status, rows, mine.pictures.take())

        try:
            with ThreadPoolExecutor(1, thread_name_prefix="rows") as executor:
                while inbox.wait():
                    standing: dict[str, int] = {}
                    rows = _rows(inbox, standing, mine.work.canvases.sizes)
                    for image in self._attacked(attack, rows, standing, inbox):
                        outbox.put(executor.submit(done, image))
        finally:
            outbox.close()

    def _attacked(
        self, attack: Any, rows: Iterator[ImageRow], standing: dict[str, int], inbox: Inbox
    ) -> Iterator[AttackedImage]:
        """Attack images; those of one canvas together as long as they follow each other."""
        work = self._ready.work
        held: list[ImageRow] = []

        def of_canvas(canvas: Any) -> Iterator[ImageRow]:
            while held:
                if work.canvases(attack, held[0].key) != canvas:
                    return
                yield held.pop()
                held.extend([row for _, row in zip(range(1), rows, strict=False)])

        held.extend([row for _, row in zip(range(1), rows, strict=False)])
        while held:
            canvas = work.canvases(attack, held[0].key)
            yield from work.attack_on(canvas, attack, of_canvas(canvas), standing, inbox)


def _rows(
    inbox: Inbox, standing: dict[str, int], sizes: dict[str, tuple[int, int]]
) -> Iterator[ImageRow]:
    """The rows of the images in the inbox; what else is known of them goes into `standing` and `sizes`."""
    for image in inbox.images():
        if image.size is not None:
            sizes[image.row.key] = image.size
        if image.standing is not None:
            standing[image.row.key] = image.standing
        yield image.row
