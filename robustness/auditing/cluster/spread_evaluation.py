"""Spreads the pictures of a verification over workers; this process checks what they answer.

`robustness.verification` asks for chunks of pictures in order. Several are on their way at a time, so that
workers evaluate while the driver reads and measures the next files.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import cast

from robustness.auditing.cluster.driver import Workers
from robustness.auditing.cluster.evaluation_worker import (
    Evaluated,
    EvaluationAssignment,
    EvaluationWorker,
)
from robustness.auditing.cluster.messages import Hello
from robustness.auditing.cluster.pool import Event, Pool
from robustness.auditing.cluster.probe import kind_of_answers
from robustness.auditing.cluster.sent_model import sent_model
from robustness.auditing.deployed_model import function_entry
from robustness.auditing.recorded_model import RecordedModel
from robustness.configuration.cluster_option import Cluster
from robustness.errors import ClusterError
from robustness.models.classifier import Classifier
from robustness.pipeline.user_function import UserFunction
from robustness.runs.run_json import text_of
from robustness.runs.schema import Manifest
from robustness.verification.evaluation import (
    Answers,
    Chunk,
    Evaluate,
    Here,
    Predicting,
    Share,
    size_of,
)

PER_WORKER = 3
"""Chunks that a worker has at a time."""
MOST_BYTES = 256 << 20
"""No further chunk is read while those that are not checked have more bytes."""
MOST_LOSSES = 3
"""A chunk that was lost with so many workers is evaluated by the driver."""
WAIT_SECONDS, ALONE_SECONDS = 0.5, 30.0
"""How long the driver waits for an event, and for a worker when it has none, before it evaluates itself."""


@dataclass
class _Evaluator:
    """A worker, and what it has evaluated."""

    hello: Hello
    like: bool
    pictures: int = 0
    processor_seconds: float = 0.0
    lost: bool = False


class SpreadEvaluation:
    """Evaluates chunks by workers; see `robustness.verification.evaluation.Evaluate`.

    What no worker can evaluate, this process does.

    Parameters
    ----------
    pool : the workers.
    kind : what the driver's hardware computes.

    Attributes
    ----------
    records : what is known of each worker.
    here : the pictures that this process evaluated.
    """

    def __init__(self, pool: Workers, kind: str) -> None:
        self._pool, self._kind = pool, kind
        self.records: dict[int, _Evaluator] = {}
        self.here = 0
        self._chunks: dict[int, Chunk] = {}
        self._bytes = 0
        self._waiting: deque[int] = deque()
        self._held: dict[int, set[int]] = {}
        self._losses: Counter[int] = Counter()
        self._answers: dict[int, Answers] = {}
        self._alone: float | None = None
        self._without = False

    def __call__(self, chunks: Iterator[Chunk], here: Here) -> Iterator[Answers]:
        """Yield the answers to chunks in their order."""
        numbers, first, read = count(), 0, 0
        finished = False
        while not finished or first < read:
            reads = not finished and self._bytes < MOST_BYTES
            if reads and (chunk := next(chunks, None)) is not None:
                read = self._add(next(numbers), chunk)
            elif reads:
                finished = True
            self._hand_out()
            for event in self._events(0.0 if reads else WAIT_SECONDS):
                self._after(event)
            self._evaluate_here(here)
            while first in self._answers:
                self._bytes -= sum(map(size_of, self._chunks.pop(first)))
                yield self._answers.pop(first)
                first += 1

    def _add(self, number: int, chunk: Chunk) -> int:
        """Let a chunk wait; return how many there were."""
        self._chunks[number] = chunk
        self._bytes += sum(map(size_of, chunk))
        self._waiting.append(number)
        return number + 1

    def _hand_out(self) -> None:
        """Give chunks to the workers that have fewest."""
        while self._waiting:
            held = {n: self._held.setdefault(n, set()) for n in self._pool.workers}
            free = [n for n, has in held.items() if len(has) < PER_WORKER and n in self.records]
            if not free:
                return
            worker, number = min(free, key=lambda n: len(held[n])), self._waiting.popleft()
            held[worker].add(number)
            self._pool.stream(worker, "evaluate", number, self._chunks[number])

    def _events(self, seconds: float) -> list[Event]:
        """What has happened; without workers that can begin, this process goes on alone."""
        if self._without:
            return []
        try:
            return self._pool.wait(seconds)
        except ClusterError:
            self._without = True
            return [Event("lost", worker, "") for worker in self._held]

    def _after(self, event: Event) -> None:
        """Keep what an event tells."""
        if event.kind == "joined":
            like = event.value.kind == self._kind
            self.records[event.worker] = _Evaluator(event.value, like)
        elif event.kind == "item":
            self._keep(event.worker, event.value)
        elif event.kind == "lost":
            if event.worker in self.records:
                self.records[event.worker].lost = True
            lost = self._held.pop(event.worker, set())
            self._losses.update(lost)
            self._waiting.extendleft(sorted(lost, reverse=True))

    def _keep(self, worker: int, evaluated: Evaluated) -> None:
        """Keep the answers to a chunk, unless it is another's by now."""
        record, number = self.records[worker], evaluated.number
        record.processor_seconds = evaluated.processor_seconds
        if number not in self._held.get(worker, ()):
            return
        self._held[worker].discard(number)
        if evaluated.rows is None:
            self._losses[number] = MOST_LOSSES
            self._waiting.appendleft(number)
            return
        record.pictures += len(evaluated.rows)
        self._answers[number] = Answers(evaluated.rows, record.like)

    def _evaluate_here(self, here: Here) -> None:
        """Evaluate in this process what was lost too often, and one chunk if there is no worker."""
        often = [n for n in self._waiting if self._losses[n] >= MOST_LOSSES]
        if not often and self._deserted and self._waiting:
            often = [self._waiting[0]]
        for number in often:
            self._waiting.remove(number)
            self.here += len(self._chunks[number])
            self._answers[number] = here(self._chunks[number])

    @property
    def _deserted(self) -> bool:
        """Whether there was no worker for some time, nor one that begins."""
        if self._without:
            return True
        if self._pool.workers or self._pool.beginning:
            self._alone = None
            return False
        self._alone = self._alone or time.monotonic()
        return time.monotonic() - self._alone > ALONE_SECONDS

    def shares(self) -> tuple[Share, ...]:
        """Return what each worker, and at last this process, has evaluated."""
        shares = [
            Share(
                record.hello.host,
                record.hello.device,
                record.pictures,
                round(record.processor_seconds, 3),
                like=record.like,
                lost=record.lost,
            )
            for record in self.records.values()
        ]
        own = [Share("", "", self.here, round(time.process_time(), 3), driver=True)]
        return (*shares, *own)


class EvaluationWorkers:
    """The workers of a verification; they are started when the driver has its model, and ended by `close`.

    Parameters
    ----------
    cluster : where they run.
    model : which model they load.
    manifest : of the run.
    preprocess, function : the text and the function of the user's own preprocessing.
    """

    def __init__(
        self,
        cluster: Cluster,
        model: RecordedModel,
        manifest: Manifest,
        preprocess: str | None = None,
        function: UserFunction | None = None,
    ) -> None:
        self._cluster, self._model, self._manifest = cluster, model, manifest
        self._preprocess, self._function = preprocess, function
        self._stack = contextlib.ExitStack()
        self._evaluation: SpreadEvaluation | None = None

    def spread(self, classifier: Predicting) -> Evaluate:
        """Start the workers; return what evaluates pictures by them.

        Raises
        ------
        ClusterError
            Ray is not installed, or its cluster cannot be reached.
        """
        random = self._manifest.config.draws != 1
        kind = kind_of_answers(cast("Classifier", classifier), random=random)
        pool = Pool(self._cluster, self._assignment(classifier, random), EvaluationWorker)
        self._stack.callback(pool.close)
        self._evaluation = SpreadEvaluation(pool, kind)
        return self._evaluation

    @property
    def shares(self) -> tuple[Share, ...]:
        """What each worker, and at last this process, has evaluated."""
        return () if self._evaluation is None else self._evaluation.shares()

    def close(self) -> None:
        """End the workers."""
        self._stack.close()

    def _assignment(self, classifier: Predicting, random: bool) -> EvaluationAssignment:
        function = self._function
        return EvaluationAssignment(
            self._model,
            text_of(self._manifest),
            dict(classifier.card()),
            random,
            self._preprocess,
            None if function is None else function_entry(function),
            str(Path.cwd()),
            tuple(str(Path(p).absolute()) for p in sys.path),
            sent_model(str(self._model.name)),
        )
