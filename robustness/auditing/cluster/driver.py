"""Hands the images of an audit to its workers, and takes their rows.

The driver alone writes to the run folder. A worker holds few images more than it attacks at a time, so that
little is lost with it, and images that have not begun can be given to another one when nothing is left.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Protocol, cast

import numpy as np

from robustness.auditing.cluster.messages import (
    Clean,
    Done,
    Failed,
    Fed,
    Hello,
    Packet,
    Pictures,
)
from robustness.auditing.cluster.pool import Event
from robustness.auditing.image_rows import SavePicture
from robustness.auditing.work import AttackedImage, LocalWork
from robustness.contract.attack import Attack
from robustness.engine.model_input import Shape
from robustness.errors import ClusterError, GradientError, PipelineError
from robustness.images import Entry
from robustness.images.cache import AHEAD
from robustness.images.png import from_png
from robustness.models.fixed_size_calls import GROUP, LARGE_BATCH
from robustness.runs.records import FLIPPED, ImageRow, OutcomeRow, Row, UploadRow

CHUNK = 4 * LARGE_BATCH
"""Unchanged images that a worker is given at a time."""
WAIT_SECONDS = 0.5
TAKE_BACK_SECONDS = 0.5
"""The least time between two requests to give images back."""
ALONE_SECONDS, BEGIN_SECONDS = 300.0, 3600.0
"""How long the driver waits for a worker when it has none: where none has room to begin, and while some load
the model and list the images."""


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

    def ask(self, worker: int, method: str, *arguments: object) -> object:
        """Return the result of a method; None if the worker is lost."""

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened."""


@dataclass
class WorkerRecord:
    """A worker as the run records it.

    Attributes
    ----------
    hello : what it said of itself.
    like : whether it computes the same bits as the driver.
    images : the number of images whose outcomes came from it.
    processor_seconds : the processor time that it has used.
    lost : whether it ended before the audit.
    """

    hello: Hello
    like: bool
    images: int = 0
    processor_seconds: float = 0.0
    lost: bool = False


@dataclass
class _Session:
    """The images that a worker has and has not finished."""

    held: dict[str, Fed] = field(default_factory=dict)
    open: bool = False
    """Whether the worker has opened its inbox, so that it can be fed."""

    asked: float = 0.0
    """When it was last asked to give images back."""


class ClusterWork:
    """Does the work of an audit by workers; see `Work`.

    Parameters
    ----------
    pool : the workers.
    local : the same work in this process, for images that only hardware of the driver's kind may judge.
    kind : what the driver's hardware computes.
    save : saves a picture in the run folder.
    records : receives what is known of each worker.
    """

    def __init__(
        self,
        pool: Workers,
        local: LocalWork,
        kind: str,
        save: SavePicture,
        records: dict[int, WorkerRecord] | None = None,
    ) -> None:
        self.pool, self.local, self._kind, self._save = pool, local, kind, save
        self.records = {} if records is None else records
        self._alone, self._looked = 0.0, time.monotonic()

    @property
    def workers(self) -> int:
        """The number of workers that have begun."""
        return len(self.pool.workers)

    def clean(
        self, numbered: Iterable[tuple[int, Entry]], known: Mapping[str, np.ndarray]
    ) -> Generator[Sequence[Row]]:
        """Yield the rows of unchanged images, which only hardware of the driver's kind predicts."""
        waiting = iter(numbered)
        again: deque[tuple[int, Entry]] = deque()
        held: dict[int, dict[str, tuple[int, Entry]]] = {}
        finished = False

        def chunk() -> list[tuple[int, Entry]]:
            some = [again.popleft() for _ in range(min(CHUNK, len(again)))]
            return some + list(islice(waiting, CHUNK - len(some)))

        while True:
            free = [worker for worker in self.like_workers() if worker not in held]
            for worker in free:
                if not (some := chunk()):
                    finished = True
                    break
                held[worker] = {entry.key: (n, entry) for n, entry in some}
                answers = {entry.key: known[entry.key] for _, entry in some if entry.key in known}
                keys = [(n, entry.key) for n, entry in some]
                self.pool.stream(worker, "clean", keys, answers)
            if self.pool.workers and not self.like_workers():
                some = chunk()
                finished = not some
                yield from self.local.clean(some, known)
            if finished and not held and not again:
                return
            for event in self.events():
                if event.kind == "item" and isinstance(event.value, Clean):
                    self.save_all(event.value.pictures)
                    rows = event.value.rows
                    for row in rows:
                        if isinstance(row, ImageRow):
                            held.get(event.worker, {}).pop(row.key, None)
                    yield rows
                elif event.kind in ("end", "lost"):
                    left = held.pop(event.worker, {})
                    again.extend(left.values())
                    finished = finished and not left

    def attack(
        self, attack: Attack, rows: Sequence[ImageRow], standing: Mapping[str, int]
    ) -> Generator[AttackedImage]:
        """Attack images, those of one canvas after those of another; see `Work`."""
        groups: dict[Shape | None, list[ImageRow]] = {}
        for row in rows:
            groups.setdefault(self.local.canvases(attack, row.key), []).append(row)
        sizes = self.local.canvases.sizes
        images = [
            Fed(row, standing.get(row.key), sizes.get(row.key))
            for some in groups.values()
            for row in some
        ]
        yield from _Attacking(self, attack, images).results()

    def like_workers(self) -> list[int]:
        """Return the workers that have begun and compute the same bits as the driver."""
        return [n for n in self.pool.workers if n in self.records and self.records[n].like]

    def events(self) -> Iterator[Event]:
        """Yield what happens next, and keep the records of the workers.

        Raises
        ------
        ClusterError
            There was no worker for `ALONE_SECONDS`.
        """
        for event in self.pool.wait(WAIT_SECONDS):
            if event.kind == "joined":
                like = event.value.kind == self._kind
                self.records[event.worker] = WorkerRecord(event.value, like)
            elif event.kind == "lost" and event.worker in self.records:
                self.records[event.worker].lost = True
            yield event
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


class _Attacking:
    """One attack on the images of a run, spread over the workers.

    Attributes
    ----------
    waiting : images that nobody has, in the order in which they should begin.
    here : those of them that only hardware of the driver's kind may attack.
    """

    def __init__(self, work: ClusterWork, attack: Attack, images: Sequence[Fed]) -> None:
        self._work, self._pool, self._attack = work, work.pool, attack
        self.waiting, self.here = deque(images), deque[Fed]()
        self._left = {image.row.key for image in images}
        self._only_like: set[str] = set()
        self._sessions: dict[int, _Session] = {}
        batch = max(1, work.local.batch_size // attack.width)
        self._full = 2 * (batch + AHEAD)
        self._drained = False

    def results(self) -> Generator[AttackedImage]:
        """Yield each image when its outcomes are known.

        Raises
        ------
        GradientError
            The attack needs a gradient and the model has none.
        """
        failure: GradientError | None = None
        while self._left and failure is None:
            self._hand_out()
            # Every event is taken: one that is dropped would be missed by the next attack.
            for event in self._work.events():
                try:
                    yield from self._after(event)
                except GradientError as error:
                    failure = failure or error
            if failure is None:
                yield from self._alone()
        self._end()
        if failure is not None:
            raise failure

    def _end(self) -> None:
        """Wait until no worker attacks, so that the next attack begins with free workers."""
        told: set[int] = set()
        while self._sessions:
            for worker, session in self._sessions.items():
                # Before its first packet a worker has no inbox to close.
                if session.open and worker not in told:
                    told.add(worker)
                    self._pool.tell(worker, "close")
            for event in self._work.events():
                session_of = self._sessions.get(event.worker)
                if session_of is not None and event.kind == "item":
                    session_of.open = True
                elif event.kind in ("end", "lost"):
                    self._sessions.pop(event.worker, None)

    def _hand_out(self) -> None:
        """Give every worker as many images as it needs; take back some if nothing else is left."""
        workers = [n for n in self._pool.workers if n in self._work.records]
        # Idle ones first: what was taken back is for them.
        workers.sort(key=lambda n: len(self._sessions[n].held) if n in self._sessions else 0)
        share = -(-(len(self.waiting) + len(self.here)) // max(1, len(workers)))
        for worker in workers:
            session = self._sessions.get(worker)
            if session is not None and not session.open:
                continue
            room = self._full - (len(session.held) if session else 0)
            # Not one image at a time.
            if session is not None and room < self._full // 4:
                continue
            images = self._next(worker, min(room, max(GROUP, share)))
            if images:
                self._give(worker, images)
        drained = not self.waiting and not self.here
        if drained and not self._drained:
            for worker, session in self._sessions.items():
                if session.open:
                    self._pool.tell(worker, "feed", [], last=True)
        self._drained = drained
        if drained:
            self._take_back(workers)

    def _next(self, worker: int, most: int) -> list[Fed]:
        """Take up to `most` images for a worker out of those that wait."""
        like = self._work.records[worker].like
        mine = [self.here.popleft() for _ in range(min(most, len(self.here)))] if like else []
        return mine + [
            self.waiting.popleft() for _ in range(min(most - len(mine), len(self.waiting)))
        ]

    def _give(self, worker: int, images: list[Fed]) -> None:
        session = self._sessions.get(worker)
        if session is None:
            counts = self._work.local.counts(self._attack)
            self._pool.stream(worker, "attack", self._attack.label, counts, images)
            session = self._sessions[worker] = _Session()
        else:
            self._pool.tell(worker, "feed", images)
        session.held |= {image.row.key: image for image in images}

    def _take_back(self, workers: Sequence[int]) -> None:
        """Let the worker with the most images give back half of those that have not begun to an idle one."""
        idle = [
            n
            for n in workers
            if (n not in self._sessions or not self._sessions[n].held)
            and (self._work.records[n].like or not self._only_like)
        ]
        now = time.monotonic()
        held = {
            n: s
            for n, s in self._sessions.items()
            if s.open and len(s.held) > 1 and now - s.asked > TAKE_BACK_SECONDS
        }
        if not idle or not held:
            return
        busiest = max(held, key=lambda n: len(held[n].held))
        session = held[busiest]
        session.asked = now
        keys = self._pool.ask(busiest, "release", len(session.held) // 2)
        for key in cast("list[str]", keys or []):
            if key in session.held:
                self._return(session.held.pop(key))

    def _return(self, image: Fed) -> None:
        """Let an image wait again."""
        (self.here if image.row.key in self._only_like else self.waiting).appendleft(image)

    def _after(self, event: Event) -> Iterator[AttackedImage]:
        """The images that an event finishes."""
        session = self._sessions.get(event.worker)
        if session is None:
            return
        if event.kind == "item" and isinstance(event.value, Failed):
            raise GradientError(event.value.message)
        if event.kind == "item" and isinstance(event.value, Packet):
            session.open = True
            record = self._work.records[event.worker]
            record.processor_seconds = event.value.processor_seconds
            for image in event.value.done:
                yield from self._finished(image, session, record)
        elif event.kind in ("end", "lost"):
            self._sessions.pop(event.worker)
            for given in reversed(session.held.values()):
                self._return(given)

    def _finished(
        self, image: Done, session: _Session, record: WorkerRecord
    ) -> Iterator[AttackedImage]:
        given = session.held.pop(image.key, None)
        if given is None or image.key not in self._left:
            return
        judged = image if record.like else self._work.judged_here(image)
        if judged is None:
            self._only_like.add(image.key)
            self._return(given)
            return
        self._left.discard(image.key)
        record.images += 1
        make = partial(self._rows, judged)
        yield AttackedImage(judged.key, judged.count, judged.status, make)

    def _rows(self, image: Done) -> Sequence[Row]:
        """The rows of an image, whose pictures are saved first."""
        self._work.save_all(image.pictures)
        return image.rows

    def _alone(self) -> Iterator[AttackedImage]:
        """Attack in this process what only hardware of its kind may attack, if no worker has such."""
        if not self.here or self._work.like_workers():
            return
        most = max(GROUP, self._work.local.batch_size)
        images = [self.here.popleft() for _ in range(min(most, len(self.here)))]
        standing = {i.row.key: i.standing for i in images if i.standing is not None}
        rows = [image.row for image in images]
        for result in self._work.local.attack(self._attack, rows, standing):
            self._left.discard(result.key)
            yield result
