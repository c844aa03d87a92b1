"""Does the work of an audit by its workers: hands out unchanged images, keeps records, judges again.

The driver alone writes to the run folder. `attacking.py` spreads the images of one attack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

import numpy as np

from robustness.auditing.cluster.attacking import Attacking
from robustness.auditing.cluster.chunks import Chunks
from robustness.auditing.cluster.messages import Clean, Done, Hello, Packet, Pictures
from robustness.auditing.cluster.pool import Event
from robustness.auditing.cluster.spread_reruns import spread_reruns
from robustness.auditing.cluster.spread_tasks import spread_tasks
from robustness.auditing.image_queue import ImageQueue
from robustness.auditing.image_rows import SavePicture
from robustness.auditing.step_pictures import ShownFlip
from robustness.auditing.work import AttackedImage, LocalWork
from robustness.contract.attack import Attack
from robustness.diagnostics import Diagnosis
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.errors import ClusterError, PipelineError
from robustness.images import Entry
from robustness.images.png import from_png
from robustness.runs.records import FLIPPED, OutcomeRow, Row, UploadRow
from robustness.text import first_few

WAIT_SECONDS = 0.5
ALONE_SECONDS, BEGIN_SECONDS = 300.0, 3600.0
"""How long the driver waits for a worker when it has none: where none has room to begin, and while some load
the model and list the images."""
STOP_SECONDS = 300.0
"""How long a worker may take to end what nobody waits for, before another process takes its place."""
LOST_IN_VAIN = 5
"""So many workers, each begun after the loss of the one before, may end at work while none sends a result:
then the work itself ends them."""


class Workers(Protocol):
    """What the driver needs of a pool of workers; see `robustness.auditing.cluster.pool.Pool`."""

    @property
    def workers(self) -> list[int]:
        """The workers that have begun."""

    @property
    def beginning(self) -> bool:
        """Whether a worker is alive that has not begun."""

    def stream(self, worker: int, method: str, *arguments: object) -> None:
        """Call a method that yields results."""

    def tell(self, worker: int, method: str, *arguments: object, **named: object) -> None:
        """Call a method whose result does not matter."""

    def end(self, worker: int) -> None:
        """End a worker, which is then lost; another one may take its place."""

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened."""


@dataclass
class WorkerRecord:
    """A worker as the run records it.

    Attributes
    ----------
    hello : what it said of itself.
    like : whether it computes the same bits as the driver.
    seen : the positions of the images whose outcomes came from it, one bit each.
    processor_seconds : the processor time that it has used.
    lost : whether it ended before the audit.
    """

    hello: Hello
    like: bool
    seen: bytearray = field(default_factory=bytearray)
    processor_seconds: float = 0.0
    lost: bool = False

    def finished(self, position: int) -> None:
        """Note that the outcomes of an image, under one more attack, came from this worker."""
        place, bit = divmod(position, 8)
        self.seen.extend(bytes(max(0, place + 1 - len(self.seen))))
        self.seen[place] |= 1 << bit

    @property
    def images(self) -> int:
        """The number of images whose outcomes, under one attack at least, came from this worker."""
        return int.from_bytes(self.seen).bit_count()


class ClusterWork:
    """Does the work of an audit by workers; see `Work`.

    Parameters
    ----------
    pool : the workers.
    local : the same work in this process, for images that only hardware of the driver's kind may judge.
    kind : what the driver's hardware computes.
    save : saves a picture in the run folder.
    records : receives what is known of each worker.
    changed : called after `records` may have changed; with True when a worker joined or was lost.
    """

    def __init__(
        self,
        pool: Workers,
        local: LocalWork,
        kind: str,
        save: SavePicture,
        records: dict[int, WorkerRecord] | None = None,
        changed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.pool, self.local, self._kind, self._save = pool, local, kind, save
        self.records = {} if records is None else records
        self._changed = changed
        self._numbers = count(1)
        self._running: dict[int, int] = {}
        """The number of the call that each worker runs."""
        self._stopping: dict[int, float] = {}
        """Since when a worker has been asked to end its call."""
        self._alone, self._looked = 0.0, time.monotonic()
        self._in_vain = 0
        """The workers lost at work, one after the other, since the last result."""
        self._begun_after: dict[int, int] = {}
        """By worker that joined since the last result: what `_in_vain` was."""
        self.names_held: Callable[[int], Sequence[str]] = lambda worker: ()
        """The names of the images that a worker attacks."""

    @property
    def workers(self) -> int:
        """The number of workers that have begun."""
        return len(self.pool.workers)

    def clean(
        self, numbered: Iterable[tuple[int, Entry]], known: Mapping[str, np.ndarray]
    ) -> Generator[Sequence[Row]]:
        """Yield the rows of unchanged images, which only hardware of the driver's kind predicts."""
        chunks = Chunks(numbered)
        while not chunks.finished:
            for worker in self.free(()):
                if self.records[worker].like and (some := chunks.next(worker)):
                    answers = {e.key: known[e.key] for _, e in some if e.key in known}
                    self.start(worker, "clean", [(n, e.key) for n, e in some], answers)
            if self.pool.workers and not self.like_workers() and (some := chunks.next(None)):
                for rows in self.local.clean(some, known):
                    yield chunks.new(None, rows)
            for event in self.events():
                if event.kind == "item" and isinstance(event.value, Clean):
                    self.save_all(event.value.pictures)
                    yield chunks.new(event.worker, event.value.rows)
                elif event.kind in ("end", "lost"):
                    chunks.ended(event.worker)
        for worker in list(self._running):
            self.stop(worker)

    def attack(
        self, attack: Attack, images: ImageQueue, standing: Mapping[str, int]
    ) -> Generator[AttackedImage]:
        """Attack images, those of one canvas after those of another; see `Work`."""
        groups = self.local.canvases.groups(attack, images).values()
        in_order = images.of([key for some in groups for key in some.keys])
        yield from Attacking(self, attack, in_order, standing).results()

    def steps(
        self, flips: Mapping[Attack, Sequence[ShownFlip]]
    ) -> Generator[tuple[Attack, Sequence[Row]]]:
        """Run the steps of flips again by workers, an attack each; see `Work`."""
        attacks = list(flips)

        def start(worker: int, number: int) -> None:
            attack = attacks[number]
            counts = self.local.counts(attack)
            self.start(worker, "steps", number, attack.label, counts, flips[attack])

        def here(number: int) -> tuple[Sequence[Row], Pictures]:
            ((_, rows),) = self.local.steps({attacks[number]: flips[attacks[number]]})
            return rows, {}

        tasks = spread_tasks(self, range(len(attacks)), start, here)
        for number, (rows, pictures) in tasks:
            self.save_all(pictures)
            yield attacks[number], rows

    def reruns(self, setup: RerunSetup, progress: Callable[[str], None], /) -> list[Diagnosis]:
        """Make the diagnoses that run attacks again by workers; see `Work`."""
        return spread_reruns(self, setup, progress)

    def like_workers(self) -> list[int]:
        """Return the workers that have begun and compute the same bits as the driver."""
        return [n for n in self.pool.workers if n in self.records and self.records[n].like]

    def free(self, mine: Collection[int]) -> list[int]:
        """Return the workers that have begun, and that run nothing but what the caller started (`mine`)."""
        begun = [n for n in self.pool.workers if n in self.records]
        return [n for n in begun if n in mine or n not in self._running]

    def start(self, worker: int, method: str, *arguments: object) -> int:
        """Call a method of a free worker that yields results; return the number of the call."""
        number = self._running[worker] = next(self._numbers)
        self.pool.stream(worker, method, number, *arguments)
        return number

    def stop(self, worker: int) -> None:
        """Tell a worker that nobody waits for the results of what it runs; it is free when it has ended."""
        if worker in self._running and worker not in self._stopping:
            self._stopping[worker] = time.monotonic()
            self.pool.tell(worker, "stop", self._running[worker])

    def events(self) -> list[Event]:
        """Return what happens next; keeps the records of the workers, and notes which are free.

        Raises
        ------
        ClusterError
            There was no worker for `ALONE_SECONDS`, or the work itself ends the workers.
        """
        events = self.pool.wait(WAIT_SECONDS)
        for event in events:
            self._count_in_vain(event)
            self._note(event)
        self._changed(any(event.kind in ("joined", "lost") for event in events))
        for worker, since in list(self._stopping.items()):
            if time.monotonic() - since > STOP_SECONDS:
                self._stopping[worker] = time.monotonic()
                self.pool.end(worker)
        # Time that this process spent otherwise does not count.
        now = time.monotonic()
        self._alone += min(now - self._looked, 2 * WAIT_SECONDS)
        self._looked = now
        if self.pool.workers:
            self._alone = 0.0
        elif self._alone > (BEGIN_SECONDS if self.pool.beginning else ALONE_SECONDS):
            raise ClusterError(
                f"There was no worker for {self._alone / 60:.0f} minutes; expected at least one. Finished "
                "results are kept: resume the run when there are workers, or without a cluster."
            )
        return events

    def _note(self, event: Event) -> None:
        """Keep in mind what an event says of a worker."""
        if event.kind == "joined":
            like = event.value.kind == self._kind
            self.records[event.worker] = WorkerRecord(event.value, like)
        elif event.kind == "item" and isinstance(event.value, Packet):
            self.records[event.worker].processor_seconds = event.value.processor_seconds
        elif event.kind in ("end", "lost"):
            self._running.pop(event.worker, None)
            self._stopping.pop(event.worker, None)
            if event.kind == "lost" and event.worker in self.records:
                self.records[event.worker].lost = True

    def _count_in_vain(self, event: Event) -> None:
        """Count the workers that are lost at work while none sends a result.

        Machines that are taken away end many workers at the same time, so only a worker that joined after the
        loss of the last counted one counts.
        """
        worker, result = event.worker, event.value
        if event.kind == "joined":
            self._begun_after[worker] = self._in_vain
        elif event.kind == "item" and not (isinstance(result, Packet) and not result.done):
            self._in_vain = 0
            self._begun_after.clear()
        elif event.kind == "lost" and worker in self._running and worker not in self._stopping:
            self._in_vain += self._begun_after.get(worker, 0) >= self._in_vain
            if self._in_vain >= LOST_IN_VAIN:
                names = self.names_held(worker)
                its = f" The last one attacked {first_few(names)}." if names else ""
                raise ClusterError(
                    f"{self._in_vain} workers in a row ended at work, and none sent a result ({result})."
                    f"{its} Something in the work ends the process; most often the memory of a machine is "
                    "too small for its workers. Finished results are kept: resume the run with fewer "
                    "workers, or without a cluster."
                )

    def save_all(self, pictures: Pictures) -> None:
        """Save pictures that a worker sent; ClusterError if one has not the hash in its name."""
        for name, (data, suffix) in pictures.items():
            if self._save(data, suffix) != name:
                raise ClusterError(
                    f"A worker sent a picture whose bytes do not have the hash in its name ({name}); "
                    "expected its own file. Check the memory and the network of the workers, and resume."
                )

    def judged_here(self, image: Done) -> Done | None:
        """Judge the flips of a worker of another kind again; None if one is no flip on this hardware."""
        judge = self.local.classifier
        if self.local.plan.draws > 1:
            return None
        files = {(r.attack, r.epsilon): r.file for r in image.rows if isinstance(r, UploadRow)}
        rows: list[Row] = []
        for row in image.rows:
            if not (isinstance(row, OutcomeRow) and row.status == FLIPPED):
                rows.append(row)
                continue
            name = files.get((row.attack, row.epsilon), row.png)
            if name not in image.pictures:
                return None
            data = image.pictures[name][0]
            if judge.deployment is None:
                answer = judge.probabilities(from_png(data)[None])[0]
            else:
                try:
                    answer = judge.probabilities_of_files([data])[0]
                except PipelineError:
                    return None
            if int(answer.argmax()) != row.adversarial_class:
                return None
            rows.append(replace(row, confidence_after=float(answer.max())))
        return replace(image, rows=rows)
