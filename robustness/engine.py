"""One attack over a stream of images: slots, a ladder of epsilons, verification.

The queue holds (image, epsilon, restart). An image that survives every restart at one epsilon is
queued for the next; when it flips, all larger epsilons are settled. Each try starts afresh, so the
verdicts are those of a plain loop over one image at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops, tree

from robustness import draws, gradients
from robustness.attack import Attack, Look, Task
from robustness.classifier import Classifier
from robustness.judge import CHUNK, Flip, Judge, Suspect
from robustness.optimization.iterate import iterate
from robustness.threat import Threat

State = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A correctly classified image: its stable key, uint8 pixels (h, w, c), and its class."""

    key: str
    pixels: np.ndarray
    label: int


@dataclass(frozen=True)
class Rung:
    """What came of one image at one epsilon. Passes are those of this rung, all restarts together.

    `flip` is None where the image held; `carried` marks a flip of a smaller epsilon, which holds
    here too; `floated` says that some point flipped in float but no 8-bit file did; `reason` is
    set where the attack broke down.
    """

    epsilon: float
    flip: Flip | None = None
    step: int | None = None
    restart: int | None = None
    forward: int = 0
    backward: int = 0
    floated: bool = False
    reason: str = ""
    carried: bool = False


@dataclass
class _Climb:
    """One image on its way up the ladder."""

    subject: Subject
    rungs: list[Rung] = field(default_factory=list)
    forward: int = 0
    backward: int = 0
    floated: bool = False

    def close(self, epsilon: float, job: _Try) -> None:
        """Write down what came of `epsilon`, and start counting anew."""
        flipped = job.flip is not None
        self.rungs.append(
            Rung(
                epsilon=epsilon,
                flip=job.flip,
                step=job.found if flipped else None,
                restart=job.restart if flipped else None,
                forward=self.forward,
                backward=self.backward,
                floated=self.floated and not flipped,
                reason="" if flipped else job.broken,
            )
        )
        self.forward = self.backward = 0
        self.floated = False


@dataclass
class _Try:
    """One job of the loop: an image at one epsilon, from one start."""

    climb: _Climb
    rung: int
    restart: int
    steps: int = 0
    judged: int = 0
    flip: Flip | None = None
    found: int = 0
    broken: str = ""


@dataclass(frozen=True)
class Place:
    """An image at one epsilon, from one start: all that a row needs to run."""

    subject: Subject
    epsilon: float
    restart: int = 0


class Rows:
    """The compiled half of a program: rows enter, advance, and are snapped to the 8-bit grid."""

    def __init__(
        self, classifier: Classifier, attack: Attack, threat: Threat, *, slots: int, seed: int
    ) -> None:
        attack.expect_norm(threat.norm)
        self._classifier, self._attack, self._threat = classifier, attack, threat
        self._seed, self.slots = seed, slots
        self._chunk = min(CHUNK, slots)
        self.passes = (0, 0)
        self._begin = gradients.compile(self._begin_rows)
        self._merge = gradients.compile(self._merge_rows)
        self._advance = gradients.compile(self._advance_rows)
        self._snap = gradients.compile(self._snap_rows)

    def _task(self, arrays: State) -> Task:
        return Task(norm=self._threat.norm, goal=self._threat.goal, **arrays)

    def _begin_rows(self, images: Any, aims: Any, epsilon: Any, keys: Any) -> State:
        arrays = {
            "images": ops.cast(images, "float32"),
            "aims": aims,
            "epsilon": epsilon,
            "keys": keys,
            "step": ops.zeros_like(aims),
        }
        task = self._task(arrays)
        return {"task": arrays, "own": self._attack.init(task), "candidate": task.images}

    def _merge_rows(self, state: State, fresh: State, index: Any) -> State:
        return tree.map_structure(
            lambda old, new: ops.take(ops.concatenate([old, new], axis=0), index, axis=0),
            state,
            fresh,
        )

    def _advance_rows(self, state: State) -> tuple[State, Any]:
        task = self._task(state["task"])
        look = Look(self._classifier.logits, task, self._attack.loss, self._attack.knowledge)
        own = self._attack.step(task, state["own"], look)
        reached, candidate = look.verdict()
        # Ordinary Python at tracing time: every row pays the same.
        self.passes = (look.forward, look.backward)
        arrays = {**state["task"], "step": task.step + 1}
        return {"task": arrays, "own": own, "candidate": candidate}, reached

    def _snap_rows(self, state: State, points: Any, index: Any) -> tuple[Any, Any]:
        images = ops.take(state["task"]["images"], index, axis=0)
        epsilon = ops.take(state["task"]["epsilon"], index, axis=0)
        delta = ops.take(points, index, axis=0) - images
        finite = ops.all(ops.isfinite(delta), axis=(1, 2, 3))
        delta = ops.where(ops.isfinite(delta), delta, 0.0)
        grid = images + self._threat.norm.to_grid(delta, epsilon, -images, 255.0 - images)
        return ops.cast(ops.round(grid), "uint8"), finite

    def enter(self, state: State | None, where: Sequence[int], what: Sequence[Place]) -> State:
        """`state` with each place loaded into its slot."""
        for start in range(0, len(what), self._chunk):
            jobs = list(what[start : start + self._chunk])
            slots = where[start : start + self._chunk]
            jobs += [jobs[0]] * (self._chunk - len(jobs))
            labels = np.array([job.subject.label for job in jobs])
            fresh = self._begin(
                np.stack([job.subject.pixels for job in jobs]),
                self._threat.goal.aims(labels),
                np.array([job.epsilon for job in jobs], np.float32),
                np.stack([self._key(job) for job in jobs]),
            )
            if state is None:
                index = np.zeros(self.slots, np.int32)
                state = tree.map_structure(lambda x, i=index: ops.take(x, i, axis=0), fresh)
            index = np.arange(self.slots, dtype=np.int32)
            index[list(slots)] = self.slots + np.arange(len(slots))
            state = self._merge(state, fresh, index)
        if state is None:
            raise ValueError("enter needs at least one job")
        return state

    def _key(self, job: Place) -> np.ndarray:
        return draws.key(self._seed, job.subject.key, self._attack.name, job.restart)

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        """One step of all rows, and which looked-at points reached the goal."""
        state, reached = self._advance(state)
        return state, ops.convert_to_numpy(reached)

    def snap(
        self, state: State, points: Any, where: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of `points` as uint8 pictures inside the budget, and whether they were finite."""
        grids, finite = [], []
        for start in range(0, len(where), self._chunk):
            some = list(where[start : start + self._chunk])
            index = np.array(some + [some[0]] * (self._chunk - len(some)), np.int32)
            grid, fine = self._snap(state, points, index)
            grids.append(ops.convert_to_numpy(grid)[: len(some)])
            finite.append(ops.convert_to_numpy(fine)[: len(some)])
        return np.concatenate(grids), np.concatenate(finite)


class Search:
    """The program that looks for flips; see `iterate`."""

    def __init__(
        self,
        rows: Rows,
        judge: Judge,
        attack: Attack,
        threat: Threat,
        settle: Callable[[Subject, list[Rung]], None],
        *,
        all_steps: bool,
    ) -> None:
        self._rows, self._judge, self._attack, self._threat = rows, judge, attack, threat
        self._settle, self._all_steps = settle, all_steps
        self._running: dict[int, _Try] = {}
        self._reached = np.zeros(0, bool)
        self.queue: deque[_Try] = deque()

    def enter(self, state: State | None, places: Sequence[int], jobs: Sequence[_Try]) -> State:
        what = [Place(j.climb.subject, self._threat.epsilons[j.rung], j.restart) for j in jobs]
        self._running |= dict(zip(places, jobs, strict=True))
        return self._rows.enter(state, places, what)

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        state, self._reached = self._rows.advance(state)
        ready = np.zeros_like(self._reached)
        for place, job in self._running.items():
            job.steps += 1
            fresh = self._reached[place] and job.flip is None
            ready[place] = fresh or job.steps >= self._attack.steps
        return state, ready

    def leave(self, state: State, places: Sequence[int], jobs: Sequence[_Try]) -> list[bool]:
        held = dict(zip(places, jobs, strict=True))
        # A point that was looked at had one step less than there are now.
        looked = {p: j for p, j in held.items() if self._reached[p] and j.flip is None}
        self._try(state, state["candidate"], looked, late=1)
        last = {p: j for p, j in held.items() if self._spent(j) and self._wanting(j)}
        self._try(state, state["own"]["point"], last, late=0)
        return [self._next(job) for job in jobs]

    def _spent(self, job: _Try) -> bool:
        return job.steps >= self._attack.steps

    def _wanting(self, job: _Try) -> bool:
        return job.flip is None or self._all_steps

    def _try(self, state: State, points: Any, jobs: dict[int, _Try], *, late: int) -> None:
        """Bring these rows of `points` before the judge; what it says is kept in the jobs."""
        if not jobs:
            return
        grids, finite = self._rows.snap(state, points, list(jobs))
        suspects = [
            Suspect(
                job.climb.subject.pixels,
                job.climb.subject.label,
                self._threat.epsilons[job.rung],
                grid,
            )
            for job, grid in zip(jobs.values(), grids, strict=True)
        ]
        flips = self._judge(suspects)
        for job, flip, fine in zip(jobs.values(), flips, finite, strict=True):
            job.judged += 1
            if not fine:
                job.broken = f"the attack left numbers that are not finite at step {job.steps}"
            elif flip is not None:
                job.flip, job.found = flip, job.steps - late
            elif late:
                job.climb.floated = True

    def _next(self, job: _Try) -> bool:
        """Whether the row is finished; if so, what is next for its image is arranged."""
        settled = job.broken or (job.flip is not None and not self._all_steps)
        if not settled and not self._spent(job):
            return False
        climb, epsilons = job.climb, self._threat.epsilons
        forward, backward = self._rows.passes
        climb.forward += forward * job.steps + job.judged
        climb.backward += backward * job.steps
        held = job.flip is None and not job.broken
        if held and job.restart + 1 < self._attack.restarts:
            self.queue.append(_Try(climb, job.rung, job.restart + 1))
            return True
        climb.close(epsilons[job.rung], job)
        if held and job.rung + 1 < len(epsilons):
            self.queue.append(_Try(climb, job.rung + 1, 0))
            return True
        last = climb.rungs[-1]
        climb.rungs += [
            replace(last, epsilon=e, forward=0, backward=0, carried=True)
            for e in epsilons[job.rung + 1 :]
        ]
        self._settle(climb.subject, climb.rungs)
        return True


def search(
    classifier: Classifier,
    attack: Attack,
    threat: Threat,
    subjects: Iterator[Subject],
    settle: Callable[[Subject, list[Rung]], None],
    *,
    slots: int = 32,
    seed: int = 0,
    all_steps: bool = False,
    each: Callable[[], None] | None = None,
) -> None:
    """Run `attack` on every subject; `settle` hears of each image once, with a rung an epsilon.

    Parameters
    ----------
    subjects: read lazily, a few ahead of the slots.
    slots: rows that advance together. Verdicts do not depend on it.
    seed: of the random numbers, which depend on it, the image's key, the attack and the restart.
    all_steps: a row leaves when its steps are spent, not at its first flip; the flip that counts is
        that of the last point, or else the first one found.
    each: called after every step.

    Raises
    ------
    SettingError: the attack has no version for the threat's norm.
    """
    rows = Rows(classifier, attack, threat, slots=slots, seed=seed)
    judge = Judge(classifier, threat)
    program = Search(rows, judge, attack, threat, settle, all_steps=all_steps)

    def take() -> _Try | None:
        if program.queue:
            return program.queue.popleft()
        subject = next(subjects, None)
        return None if subject is None else _Try(_Climb(subject), 0, 0)

    iterate(program, take, slots=slots, each=None if each is None else lambda _: each())


class Replay:
    """The program that walks known flips again, to show their steps."""

    def __init__(
        self, rows: Rows, judge: Judge, seen: Callable[[int, int, np.ndarray, np.ndarray], None]
    ) -> None:
        self._rows, self._judge, self._seen = rows, judge, seen
        self._steps: dict[int, int] = {}

    def enter(
        self, state: State | None, places: Sequence[int], jobs: Sequence[tuple[int, Place, int]]
    ) -> State:
        self._steps |= dict.fromkeys(places, 0)
        return self._rows.enter(state, places, [place for _, place, _ in jobs])

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        state, reached = self._rows.advance(state)
        return state, np.ones_like(reached)

    def leave(
        self, state: State, places: Sequence[int], jobs: Sequence[tuple[int, Place, int]]
    ) -> list[bool]:
        grids, _ = self._rows.snap(state, state["own"]["point"], places)
        probabilities = self._judge.probabilities(grids)
        finished = []
        for row, (slot, (number, _, last)) in enumerate(zip(places, jobs, strict=True)):
            self._steps[slot] += 1
            self._seen(number, self._steps[slot], grids[row], probabilities[row])
            finished.append(self._steps[slot] >= last)
        return finished


def replay(
    classifier: Classifier,
    attack: Attack,
    threat: Threat,
    walks: Sequence[tuple[Place, int]],
    seen: Callable[[int, int, np.ndarray, np.ndarray], None],
    *,
    slots: int = 32,
    seed: int = 0,
) -> None:
    """Walk each place again for its number of steps.

    `seen(walk, step, picture, probabilities)` hears of every step from 1 on: the uint8 picture that
    would be saved then, and the user's model's (classes,) probabilities of it.
    """
    rows = Rows(classifier, attack, threat, slots=slots, seed=seed)
    jobs = iter([(n, place, last) for n, (place, last) in enumerate(walks) if last > 0])
    iterate(Replay(rows, Judge(classifier, threat), seen), lambda: next(jobs, None), slots=slots)
