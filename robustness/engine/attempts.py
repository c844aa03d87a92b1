"""One image on its way through an attack: its tries, what came of them, and the way to the judge."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from keras import ops

from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.judge import Flip, Judge, Suspect
from robustness.engine.outcomes import EpsilonOutcome


@dataclass
class ImageProgress:
    """One image on its way up the ladder."""

    subject: Example
    rungs: list[EpsilonOutcome] = field(default_factory=list)
    forward: int = 0
    backward: int = 0
    watched: int = 0
    blind: int = 0
    floated: bool = False
    best: Attempt | None = None
    near: float = np.inf

    def ladder(self, epsilons: Sequence[float]) -> Sequence[float]:
        """The epsilons that this image is to be settled at."""
        return epsilons[: self.subject.rungs]

    def close(self, epsilon: float, job: Attempt) -> None:
        """Write down what came of `epsilon`, and start counting anew."""
        flipped = job.flip is not None
        self.rungs.append(
            EpsilonOutcome(
                epsilon=epsilon,
                flip=job.flip,
                step=job.found if flipped else None,
                restart=job.restart if flipped else None,
                forward=self.forward,
                backward=self.backward,
                floated=self.floated and not flipped,
                reason="" if flipped else job.broken,
                watched=self.watched,
                blind=self.blind,
            )
        )
        self.forward = self.backward = self.watched = self.blind = 0
        self.floated = False


@dataclass
class Attempt:
    """One job of the loop: an image at one epsilon, from one start."""

    climb: ImageProgress
    rung: int
    restart: int
    steps: int = 0
    judged: int = 0
    sloped: int = 0
    flip: Flip | None = None
    found: int = 0
    blind: int = 0
    broken: str = ""
    doubts: list[np.ndarray] = field(default_factory=list)
    """Points that flip as no file, though maybe in float, of which nobody has been asked yet."""

    lost: np.ndarray | None = None
    """Its last point that flips in float and not as the file that it was rounded to."""

    def far(self, norm: str) -> float:
        """How far away the flip is; infinite without one."""
        return self.flip.distances.of(norm) if self.flip else np.inf

    def keep(self, flip: Flip | None, norm: str) -> None:
        """Keep `flip` if it is nearer than the one there is."""
        if flip and flip.distances.of(norm) < self.far(norm):
            self.flip = flip


Asked = tuple[Any, dict[int, Attempt], Sequence[float]]
"""Points (slots, h, w, c), the slots of those that go before the judge, and the radius of each."""

File = tuple[Attempt, float, np.ndarray]
"""A try, a radius, and a picture (h, w, c) uint8 within that of its image."""

TRIED = 3
"""Steps that every row must have held out before they go on in fewer slots."""


class AttemptPool:
    """What both programs share: the running tries, the queue behind them, and the way to the judge."""

    def __init__(
        self, rows: CompiledBatch, judge: Judge, epsilons: Sequence[float], steps: int
    ) -> None:
        self._rows, self._judge, self._epsilons, self._steps = rows, judge, epsilons, steps
        self.direct = judge.judges(rows.classifier)
        self.running: dict[int, Attempt] = {}
        self.queue: deque[Attempt] = deque()

    def enter(self, state: State | None, places: Sequence[int], jobs: Sequence[Attempt]) -> State:
        what = [AttackJob(j.climb.subject, self._epsilons[j.rung], j.restart) for j in jobs]
        self.running |= dict(zip(places, jobs, strict=True))
        return self._rows.enter(state, places, what)

    def advance(self, state: State, watched: Sequence[int], most: int) -> tuple[State, np.ndarray]:
        """See `CompiledBatch.run`; the steps are counted."""
        state, said, steps = self._rows.run(state, watched, most)
        for job in self.running.values():
            job.steps += steps
        return state, said

    def dismiss(self, places: Sequence[int], finished: Sequence[bool]) -> None:
        """Those that are finished run no more."""
        for place, done in zip(places, finished, strict=True):
            if done:
                del self.running[place]

    def narrow(self, state: State, places: Sequence[int]) -> tuple[State, int] | None:
        """See `iterate`. Rows that are new may leave in a moment: nothing is traced for them."""
        if min(self.running[place].steps for place in places) < TRIED:
            return None
        taken = max(self.running[place].steps for place in places)
        left = max(self._steps - self.running[place].steps for place in places)
        if "done" in state["own"]:
            # Their steps are a limit they seldom come to; a row may take as many again as it has.
            left = min(left, taken)
        fewer = self._rows.narrow(state, places, left)
        if fewer:
            self.running = {new: self.running[place] for new, place in enumerate(places)}
        return fewer

    def judged(self, state: State, *asked: Asked) -> list[list[tuple[Flip | None, bool]]]:
        """The verdict on each point of each of these as a file, and whether it was finite; one hearing."""
        suspects, fine, heard = [], [], []
        for points, jobs, radii in asked:
            if not jobs:
                continue
            grids, finite = self._rows.snap(state, points, list(jobs), radii)
            fine += finite.tolist()
            for job, radius, grid in zip(jobs.values(), radii, grids, strict=True):
                subject = job.climb.subject
                suspects.append(Suspect(subject.pixels, subject.label, radius, grid))
                heard.append(job)
        flips = self._judge(suspects)
        for job, passes in zip(heard, self._judge.passes, strict=True):
            job.judged += passes
        verdicts = iter(zip(flips, fine, strict=True))
        return [list(islice(verdicts, len(jobs))) for _, jobs, _ in asked]

    def files(self, state: State, points: Any, radii: dict[int, float]) -> Iterable[np.ndarray]:
        """The point of each of these slots as a picture (h, w, c) uint8 within its radius; no look."""
        if not radii:
            return ()
        return self._rows.snap(state, points, list(radii), list(radii.values()))[0]

    def of_files(self, files: Sequence[File]) -> list[Flip | None]:
        """The verdict on each of these pictures; one hearing."""
        for job, *_ in files:
            job.judged += 1
        return self._judge(
            [
                Suspect(job.climb.subject.pixels, job.climb.subject.label, radius, picture)
                for job, radius, picture in files
            ]
        )

    def slopes(
        self, files: Sequence[np.ndarray], jobs: Sequence[Attempt]
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `CompiledBatch.slopes`; the passes are counted."""
        for job in jobs:
            job.sloped += 1
        return self._rows.slopes(files, [job.climb.subject for job in jobs])

    def in_float(self, points: Sequence[np.ndarray], jobs: Sequence[Attempt]) -> list[bool]:
        """Whether each point, of the image of each job, flips the target before it becomes a file."""
        if not jobs:
            return []
        return self._judge.in_float(np.stack(points), [j.climb.subject.label for j in jobs])

    def watch(self, state: State, jobs: dict[int, Attempt]) -> None:
        """Note how many steps of these rows had no gradient to follow."""
        if self._rows.watched:
            blind = ops.convert_to_numpy(state["blind"])
            for place, job in jobs.items():
                job.blind = int(blind[place])

    def pay(self, job: Attempt) -> None:
        """Charge the passes of a try to its image, and the steps whose gradients were watched."""
        forward, backward = self._rows.passes
        job.climb.forward += forward * job.steps + job.judged + job.sloped
        job.climb.backward += backward * job.steps + job.sloped
        job.climb.watched += job.steps if self._rows.watched else 0
        job.climb.blind += job.blind


Settle = Callable[[Example, list[EpsilonOutcome]], None]


def broken(job: Attempt) -> str:
    """The reason that is written down of a try whose point is no picture any more."""
    return f"the attack left numbers that are not finite at step {job.steps}"


def taken(points: Any, places: Iterable[int]) -> Sequence[np.ndarray]:
    """The rows of `points` at these places, as arrays."""
    index = np.array(list(places), np.int32)
    return ops.convert_to_numpy(ops.take(points, index, axis=0)) if len(index) else ()
