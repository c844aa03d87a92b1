"""Spreads the images of one attack over the workers.

A worker holds few images more than it attacks at a time, so that little is lost with it, and images that have
not begun can be given to another one when nothing is left.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

from robustness.auditing.cluster.messages import Done, Failed, Fed, Packet
from robustness.auditing.cluster.pool import Event
from robustness.auditing.work import AttackedImage
from robustness.contract.attack import Attack
from robustness.errors import GradientError
from robustness.images.cache import AHEAD
from robustness.models.fixed_size_calls import GROUP
from robustness.runs.records import Row

if TYPE_CHECKING:
    from robustness.auditing.cluster.driver import ClusterWork, WorkerRecord

TAKE_BACK_SECONDS = 0.5
"""The least time between two requests to give images back."""


@dataclass
class _Session:
    """The images that a worker has and has not finished."""

    held: dict[str, Fed] = field(default_factory=dict)
    open: bool = False
    """Whether the worker has opened its inbox, so that it can be fed."""

    asked: float = 0.0
    """When it was last asked to give images back."""


class Attacking:
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
