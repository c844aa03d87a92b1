"""Does the work of an audit by its workers: hands out unchanged images, keeps records, judges again.

The driver alone writes to the run folder. `attacking.py` spreads the images of one attack.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np

from robustness.auditing.cluster.attacking import Attacking
from robustness.auditing.cluster.messages import (
    Clean,
    Done,
    Fed,
    Hello,
    Pictures,
)
from robustness.auditing.cluster.pool import Event
from robustness.auditing.cluster.spread_reruns import spread_reruns
from robustness.auditing.image_rows import SavePicture
from robustness.auditing.work import AttackedImage, LocalWork
from robustness.contract.attack import Attack
from robustness.diagnostics import Diagnosis
from robustness.diagnostics.rerun_setup import RerunSetup
from robustness.errors import ClusterError, PipelineError
from robustness.images import Entry
from robustness.images.png import from_png
from robustness.models.fixed_size_calls import LARGE_BATCH
from robustness.runs.records import FLIPPED, ImageRow, OutcomeRow, Row, UploadRow

CHUNK = 4 * LARGE_BATCH
"""Unchanged images that a worker is given at a time."""
WAIT_SECONDS = 0.5
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
        canvases = self.local.canvases
        images = [
            Fed(row, standing.get(row.key), canvases.sizes.get(row.key))
            for some in canvases.groups(attack, rows).values()
            for row in some
        ]
        yield from Attacking(self, attack, images).results()

    def reruns(self, setup: RerunSetup, progress: Callable[[str], None], /) -> list[Diagnosis]:
        """Make the diagnoses that run attacks again by workers; see `Work`."""
        return spread_reruns(self, setup, progress)

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
