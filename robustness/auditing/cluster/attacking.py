"""Spreads the images of one attack over the workers.

A worker holds few images more than it attacks at a time, so that little is lost with it. When nothing is left
to hand out, idle workers get images that others have not begun, and then copies of those that others run: the
first result counts. So the end of an attack waits for no slow worker.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from robustness.auditing.cluster.messages import Done, Failed, Fed, Packet
from robustness.auditing.cluster.pool import Event
from robustness.auditing.image_queue import ImageQueue
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
COPY_SECONDS = 2.0
"""How long a worker is idle before it gets copies of images that others run."""


@dataclass
class _Session:
    """The images that a worker has and has not finished."""

    number: int
    held: dict[str, Fed] = field(default_factory=dict)
    open: bool = False
    """Whether the worker has opened its inbox, so that it can be fed."""

    asked: float = 0.0
    """When it was last asked to give images back."""

    answers: bool = True
    """Whether it has answered that."""


class Waiting:
    """Images that nobody has: those that were given back, then those that nobody has had.

    Parameters
    ----------
    fresh : yields the images that nobody has had.
    count : the number of these.
    """

    def __init__(self, fresh: Iterator[Fed], count: int) -> None:
        self._fresh, self._count, self._again = fresh, count, deque[Fed]()

    def __len__(self) -> int:
        return len(self._again) + self._count

    def popleft(self) -> Fed:
        """Take the first image."""
        if self._again:
            return self._again.popleft()
        self._count -= 1
        return next(self._fresh)

    def appendleft(self, image: Fed) -> None:
        """Put an image first."""
        self._again.appendleft(image)


class Attacking:
    """One attack on the images of a run, spread over the workers.

    Attributes
    ----------
    waiting : images that nobody has, in the order in which they should begin.
    here : those of them that only hardware of the driver's kind may attack.
    """

    def __init__(
        self, work: ClusterWork, attack: Attack, images: ImageQueue, standing: Mapping[str, int]
    ) -> None:
        self._work, self._pool, self._attack = work, work.pool, attack
        self._images, self._standing, sizes = images, standing, work.local.canvases.sizes
        self.waiting = Waiting(
            (Fed(row, standing.get(row.key), sizes.get(row.key)) for row in images), len(images)
        )
        self.here = deque[Fed]()
        self._left = set(images.keys)
        self._only_like: set[str] = set()
        self._sessions: dict[int, _Session] = {}
        self._idle_since: dict[int, float] = {}
        self._batch = max(1, work.local.batch_size // attack.width)
        self._full = 2 * (self._batch + AHEAD)
        self._drained = False
        work.names_held = self._names_held

    def results(self) -> Generator[AttackedImage]:
        """Yield each image when its outcomes are known.

        Raises
        ------
        GradientError
            The attack needs a gradient and the model has none.
        """
        try:
            while self._left:
                self._hand_out()
                for event in self._work.events():
                    yield from self._after(event)
                yield from self._alone()
        finally:
            # Those that still run lose nothing: every image has its result, or there is none to be had.
            for worker in self._sessions:
                self._work.stop(worker)

    def _hand_out(self) -> None:
        """Give every worker as many images as it needs; take back or copy some if nothing else is left."""
        workers = self._work.free(self._sessions)
        self._notice_idle(workers)
        # Those with the fewest first: what was taken back is for them.
        workers.sort(key=lambda n: len(self._held(n)))
        count = sum(len(self._held(n)) for n in workers) + len(self.waiting) + len(self.here)
        share = -(-count // max(1, len(workers)))
        for worker in workers:
            session, has = self._sessions.get(worker), len(self._held(worker))
            if session is not None and not session.open:
                continue
            room = self._full - has
            # Not one image at a time.
            if has >= share or (session is not None and room < self._full // 4):
                continue
            self._give(worker, self._next(worker, min(room, max(GROUP, share - has))))
        drained = not self.waiting and not self.here
        if drained and not self._drained:
            for worker, session in self._sessions.items():
                if session.open:
                    self._pool.tell(worker, "feed", session.number, [], last=True)
        self._drained = drained
        if drained:
            idle = [n for n in workers if n in self._idle_since and not self._held(n)]
            self._take_back(workers)
            self._copy(idle)

    def _held(self, worker: int) -> dict[str, Fed]:
        """The images that a worker has."""
        session = self._sessions.get(worker)
        return session.held if session else {}

    def _names_held(self, worker: int) -> list[str]:
        """The names of the images that a worker has."""
        return [image.row.name for image in self._held(worker).values()]

    def _notice_idle(self, workers: Sequence[int]) -> None:
        """Note since when workers have no image."""
        now = time.monotonic()
        self._idle_since = {n: self._idle_since.get(n, now) for n in workers if not self._held(n)}

    def _next(self, worker: int, most: int) -> list[Fed]:
        """Take up to `most` images for a worker out of those that wait."""
        like = self._work.records[worker].like
        mine = [self.here.popleft() for _ in range(min(most, len(self.here)))] if like else []
        return mine + [
            self.waiting.popleft() for _ in range(min(most - len(mine), len(self.waiting)))
        ]

    def _give(self, worker: int, images: Sequence[Fed]) -> None:
        if not images:
            return
        session = self._sessions.get(worker)
        if session is None:
            counts = self._work.local.counts(self._attack)
            number = self._work.start(worker, "attack", self._attack.label, counts, images)
            session = self._sessions[worker] = _Session(number)
        else:
            self._pool.tell(worker, "feed", session.number, images)
        session.held |= {image.row.key: image for image in images}

    def _take_back(self, workers: Sequence[int]) -> None:
        """Ask the worker with the most images to give some back, as far as they have not begun.

        They are for the one with the fewest, also if it is not idle: empty slots of a batch cost time too.
        """
        now = time.monotonic()
        held = {
            n: s
            for n, s in self._sessions.items()
            if s.open and s.answers and len(s.held) > 1 and now - s.asked > TAKE_BACK_SECONDS
        }
        takers = [n for n in workers if self._work.records[n].like or not self._only_like]
        if not takers or not held:
            return
        busiest = max(held, key=lambda n: len(held[n].held))
        session, fewest = held[busiest], min(len(self._held(n)) for n in takers)
        more = len(session.held) - fewest
        if fewest and (more < 2 * GROUP or len(session.held) <= self._batch):
            return
        session.asked, session.answers = now, False
        self._pool.tell(busiest, "release", session.number, more // 2)

    def _copy(self, idle: Sequence[int]) -> None:
        """Give workers that have long been idle copies of images that one other worker runs.

        A copy has the same rows, since it runs on hardware of the same kind. Hardware of another kind gets no
        copy of what hardware of the driver's kind runs: its flips would be judged again.
        """
        now = time.monotonic()
        idle = [n for n in idle if now - self._idle_since[n] > COPY_SECONDS]
        if not idle:
            return
        sessions, records = self._sessions.items(), self._work.records
        holders = Counter(key for _, session in sessions for key in session.held)
        # The images that were given last end last.
        running = [
            (image, records[n].like or key in self._only_like)
            for n, session in sessions
            for key, image in reversed(session.held.items())
            if key in self._left and holders[key] == 1
        ]
        for place, worker in enumerate(idle):
            like = records[worker].like
            share = max(GROUP, -(-len(running) // (len(idle) - place)))
            some = [one for one in running if like or not one[1]][: min(share, self._batch)]
            running = [one for one in running if one not in some]
            self._give(worker, [image for image, _ in some])

    def _holders(self, key: str) -> list[int]:
        """The workers that have an image."""
        return [n for n, session in self._sessions.items() if key in session.held]

    def _return(self, image: Fed) -> None:
        """Let an image wait again, unless its result is known or another worker has it."""
        key = image.row.key
        only_like = key in self._only_like
        holders = [n for n in self._holders(key) if self._work.records[n].like or not only_like]
        if key in self._left and not holders:
            (self.here if only_like else self.waiting).appendleft(image)

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
            for image in event.value.done:
                yield from self._finished(image, session, record)
            if event.value.released is not None:
                session.answers = True
                given = [session.held.pop(key, None) for key in event.value.released]
                for image_given in given:
                    if image_given is not None:
                        self._return(image_given)
        elif event.kind in ("end", "lost"):
            self._sessions.pop(event.worker)
            for image_given in reversed(session.held.values()):
                self._return(image_given)

    def _finished(
        self, image: Done, session: _Session, record: WorkerRecord
    ) -> Iterator[AttackedImage]:
        given = session.held.pop(image.key, None)
        # The result of a copy may be known.
        if given is None or image.key not in self._left:
            return
        judged = image if record.like else self._work.judged_here(image)
        if judged is None:
            self._only_like.add(image.key)
            self._return(given)
            return
        self._left.discard(image.key)
        record.finished(given.row.position)
        make = partial(self._rows, judged)
        yield AttackedImage(given.row, judged.count, judged.status, make)

    def _rows(self, image: Done) -> Sequence[Row]:
        """The rows of an image, whose pictures are saved first."""
        self._work.save_all(image.pictures)
        return image.rows

    def _alone(self) -> Iterator[AttackedImage]:
        """Attack in this process what only hardware of its kind may attack, if no worker has such."""
        if not self.here or self._work.like_workers():
            return
        most = max(GROUP, self._work.local.batch_size)
        keys = [self.here.popleft().row.key for _ in range(min(most, len(self.here)))]
        images = self._images.of(keys)
        for result in self._work.local.attack(self._attack, images, self._standing):
            self._left.discard(result.row.key)
            yield result
