"""One attack over a stream of images: slots, a ladder of epsilons, verification.

An attack that seeks *any* point inside the budget climbs: the queue holds (image, epsilon, restart), an
image that survives every restart at one epsilon is queued for the next, and when it flips, all larger
epsilons are settled. An attack that seeks the *closest* point runs once a restart, and every epsilon
follows from the distance of the nearest file that flips. Each try starts afresh, so the verdicts are
those of a plain loop over one image at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops

from robustness.attack import Attack
from robustness.classifier import Classifier
from robustness.judge import Flip, Judge, Suspect
from robustness.optimization.iterate import iterate
from robustness.rows import Place, Rows, State, Subject
from robustness.threat import Threat

__all__ = ["Place", "Rung", "Subject", "search"]


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
    best: _Try | None = None
    near: float = np.inf

    def ladder(self, epsilons: Sequence[float]) -> Sequence[float]:
        """The epsilons that this image is to be settled at."""
        return epsilons[: self.subject.rungs]

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


TRIED = 3
"""Steps that every row must have held out before they go on in fewer slots."""


class _Bench:
    """What both programs share: the running tries, the queue behind them, and the way to the judge."""

    def __init__(self, rows: Rows, judge: Judge, epsilons: Sequence[float], steps: int) -> None:
        self._rows, self._judge, self._epsilons, self._steps = rows, judge, epsilons, steps
        self.direct = judge.judges(rows.classifier)
        self.running: dict[int, _Try] = {}
        self.queue: deque[_Try] = deque()

    def enter(self, state: State | None, places: Sequence[int], jobs: Sequence[_Try]) -> State:
        what = [Place(j.climb.subject, self._epsilons[j.rung], j.restart) for j in jobs]
        self.running |= dict(zip(places, jobs, strict=True))
        return self._rows.enter(state, places, what)

    def advance(self, state: State, watched: Sequence[int], most: int) -> tuple[State, np.ndarray]:
        """See `Rows.run`; the steps are counted."""
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
        left = max(self._steps - self.running[place].steps for place in places)
        fewer = self._rows.narrow(state, places, left)
        if fewer:
            self.running = {new: self.running[place] for new, place in enumerate(places)}
        return fewer

    def judged(
        self, state: State, points: Any, jobs: dict[int, _Try], radii: Sequence[float]
    ) -> list[tuple[Flip | None, bool]]:
        """The verdict on these rows of `points` as files within `radii`, and whether they were finite."""
        grids, finite = self._rows.snap(state, points, list(jobs), radii)
        suspects = [
            Suspect(job.climb.subject.pixels, job.climb.subject.label, radius, grid)
            for job, radius, grid in zip(jobs.values(), radii, grids, strict=True)
        ]
        for job in jobs.values():
            job.judged += 1
        return list(zip(self._judge(suspects), finite.tolist(), strict=True))

    def in_float(self, points: Any, jobs: dict[int, _Try]) -> dict[int, bool]:
        """Whether these rows of `points` flip the target as they are, before they become files."""
        if not jobs:
            return {}
        rows = ops.convert_to_numpy(ops.take(points, list(jobs), axis=0))
        labels = [job.climb.subject.label for job in jobs.values()]
        return dict(zip(jobs, self._judge.in_float(rows, labels), strict=True))

    def pay(self, job: _Try) -> None:
        """Charge the passes of a try to its image."""
        forward, backward = self._rows.passes
        job.climb.forward += forward * job.steps + job.judged
        job.climb.backward += backward * job.steps


Settle = Callable[[Subject, list[Rung]], None]


EARLY = (1, 2)
"""Steps after which a row of an attack with gradients goes before the judge unasked.

On a model without defence most rows have flipped by then. The judge's forward pass is needed for each of
these anyway, and spares them the step that would only have seen it; the others pay a pass for each look.
Of a small network a step costs less than saving and reading a file, and nothing goes there early.
"""


class Climbing:
    """The program of attacks that seek any point inside the budget; see `iterate`."""

    first = 0

    def __init__(
        self,
        bench: _Bench,
        rows: Rows,
        attack: Attack,
        threat: Threat,
        settle: Settle,
        *,
        all_steps: bool,
    ) -> None:
        self._bench, self._rows, self._attack, self._threat = bench, rows, attack, threat
        self._settle, self._all_steps = settle, all_steps
        self._reached = np.zeros(0, bool)
        learns = attack.knowledge == "white-box" and not all_steps
        self._early = EARLY if learns and rows.heavy else ()
        self.enter, self.queue = bench.enter, bench.queue

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        running = self._bench.running
        wanting = [place for place, job in running.items() if job.flip is None]
        most = min(self._left(job) for job in running.values())
        state, self._reached = self._bench.advance(state, wanting, most)
        ready = np.zeros_like(self._reached)
        for place, job in running.items():
            fresh = self._reached[place] and job.flip is None
            ready[place] = fresh or self._due(job)
        return state, ready

    def leave(self, state: State, places: Sequence[int], jobs: Sequence[_Try]) -> list[bool]:
        held = dict(zip(places, jobs, strict=True))
        # A point that was looked at had one step less than there are now.
        looked = {p: j for p, j in held.items() if self._reached[p] and j.flip is None}
        self._try(state, state["best"]["point"], looked, late=1)
        last = {p: j for p, j in held.items() if self._due(j) and self._wanting(j)}
        self._try(state, state["own"]["point"], last, late=0)
        finished = [self._next(job) for job in jobs]
        self._bench.dismiss(places, finished)
        return finished

    def _spent(self, job: _Try) -> bool:
        return job.steps >= self._attack.steps

    def _due(self, job: _Try) -> bool:
        """Whether the point it has come to is brought before the judge, seen to flip or not."""
        return self._spent(job) or job.steps in self._early

    def _left(self, job: _Try) -> int:
        """Steps until it is due."""
        ends = (*self._early, self._attack.steps)
        return min(end - job.steps for end in ends if end > job.steps)

    def _wanting(self, job: _Try) -> bool:
        return job.flip is None or self._all_steps

    def _try(self, state: State, points: Any, jobs: dict[int, _Try], *, late: int) -> None:
        """Bring these rows of `points` before the judge; what it says is kept in the jobs."""
        if not jobs:
            return
        radii = [self._threat.epsilons[job.rung] for job in jobs.values()]
        verdicts = self._bench.judged(state, points, jobs, radii)
        held: dict[int, _Try] = {}
        for (place, job), (flip, fine) in zip(jobs.items(), verdicts, strict=True):
            if not fine:
                job.broken = _broken(job)
            elif flip is not None:
                job.flip, job.found = flip, job.steps - late
            elif late and self._bench.direct:
                job.climb.floated = True
            elif (late or self._spent(job)) and job.flip is None:
                held[place] = job
        # No look has seen a last point, and of a surrogate's flips none says anything of the target.
        for place, flips in self._bench.in_float(points, held).items():
            held[place].climb.floated |= flips

    def _next(self, job: _Try) -> bool:
        """Whether the row is finished; if so, what is next for its image is arranged."""
        settled = job.broken or (job.flip is not None and not self._all_steps)
        if not settled and not self._spent(job):
            return False
        climb, epsilons = job.climb, job.climb.ladder(self._threat.epsilons)
        self._bench.pay(job)
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


FINE = 1.01
"""The search for the nearest file ends when two radii are this near: one flips, the other does not."""


class Approaching:
    """The program of attacks that seek the closest point; see `iterate`.

    A row takes all its steps, or those until its state says `done`. Then its nearest point becomes
    files, one radius after another, until the smallest radius is known whose file flips: a change that
    is scaled up to a radius before it is rounded survives rounding, one of a fraction of a count does
    not.
    """

    def __init__(
        self, bench: _Bench, rows: Rows, attack: Attack, threat: Threat, settle: Settle
    ) -> None:
        self._bench, self._rows, self._attack, self._threat = bench, rows, attack, threat
        self._settle, self.first = settle, len(threat.epsilons) - 1
        self.enter, self.queue = bench.enter, bench.queue

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        running, steps = self._bench.running, self._attack.steps
        most = steps - max(job.steps for job in running.values())
        state, done = self._bench.advance(state, list(running), most)
        ready = np.zeros_like(done)
        for place, job in running.items():
            ready[place] = done[place] or job.steps >= steps
        return state, ready

    def leave(self, state: State, places: Sequence[int], jobs: Sequence[_Try]) -> list[bool]:
        best = {k: ops.convert_to_numpy(state["best"][k]) for k in ("distance", "step")}
        held = dict(zip(places, jobs, strict=True))
        near = {p: j for p, j in held.items() if np.isfinite(best["distance"][p])}
        asked = {} if self._bench.direct else self._bench.in_float(state["best"]["point"], near)
        for place, job in held.items():
            job.found = int(best["step"][place])
            if asked.get(place, True):
                job.climb.near = min(job.climb.near, float(best["distance"][place]))
        self._narrow(state, near, {p: float(best["distance"][p]) for p in near})
        missed = {p: j for p, j in held.items() if p not in near}
        self._expect_finite(state, missed)
        for job in jobs:
            self._next(job)
        self._bench.dismiss(places, [True] * len(jobs))
        return [True] * len(jobs)

    def _expect_finite(self, state: State, jobs: dict[int, _Try]) -> None:
        points = ops.convert_to_numpy(state["own"]["point"]) if jobs else None
        for place, job in jobs.items():
            if points is not None and not np.isfinite(points[place]).all():
                job.broken = _broken(job)

    def _narrow(self, state: State, jobs: dict[int, _Try], far: dict[int, float]) -> None:
        """Leave in each job the flip of the smallest radius: geometric bisection, all rows together."""
        norm, top = self._threat.norm.name, self._threat.epsilons[-1]
        # Rounding may shorten a change as well as lengthen it.
        low = {p: min(max(far[p], 0.5) / 2, top / 2) for p in jobs}
        radii = dict.fromkeys(jobs, top)
        while radii:
            some = {p: jobs[p] for p in radii}
            verdicts = self._bench.judged(state, state["best"]["point"], some, list(radii.values()))
            for (place, job), (flip, fine) in zip(some.items(), verdicts, strict=True):
                if not fine:
                    job.broken = _broken(job)
                elif flip is not None:
                    job.flip = flip
                else:
                    low[place] = radii[place]
            high = {
                p: j.flip.distances.of(norm) for p, j in some.items() if j.flip and not j.broken
            }
            radii = {p: (low[p] * h) ** 0.5 for p, h in high.items() if h > FINE * low[p]}

    def _next(self, job: _Try) -> None:
        """Keep the best try of the image; the next restart, or else the outcome at every epsilon."""
        climb, norm = job.climb, self._threat.norm.name
        self._bench.pay(job)
        rival = climb.best.flip if climb.best else None
        if job.flip and (rival is None or job.flip.distances.of(norm) < rival.distances.of(norm)):
            climb.best = job
        if job.restart + 1 < self._attack.restarts and not job.broken:
            self.queue.append(_Try(climb, job.rung, job.restart + 1))
            return
        best = climb.best or job
        for epsilon in climb.ladder(self._threat.epsilons):
            reached = best.flip is not None and best.flip.distances.of(norm) <= epsilon
            climb.floated = climb.near <= epsilon
            carried = bool(climb.rungs and climb.rungs[-1].flip)
            climb.close(epsilon, best if reached else _Try(climb, 0, 0, broken=job.broken))
            climb.rungs[-1] = replace(climb.rungs[-1], carried=carried)
        self._settle(climb.subject, climb.rungs)


def _broken(job: _Try) -> str:
    return f"the attack left numbers that are not finite at step {job.steps}"


def budget(attack: Attack, threat: Threat, epsilon: float) -> float:
    """The epsilon a row runs with whose outcome is at `epsilon`."""
    return threat.epsilons[-1] if attack.seeks == "closest" else epsilon


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
    rows: Rows | None = None,
    surrogate: Classifier | None = None,
) -> None:
    """Run `attack` on every subject; `settle` hears of each image once, with a rung an epsilon.

    Parameters
    ----------
    subjects: read lazily, a few ahead of the slots.
    slots: rows that advance together. Verdicts do not depend on it.
    seed: of the random numbers, which depend on it, the image's key, the attack and the restart.
    all_steps: a row leaves when its steps are spent, not at its first flip; the flip that counts is
        that of the last point, or else the first one found.
    each: called after every step; of a small network's long attack, after several.
    rows: compiled already, for the same classifier, attack, threat, slots and seed.
    surrogate: what the attack looks at, in place of `classifier`, which then only judges: transfer. A
        row goes before the judge when it flips the surrogate, and with its last point.

    Raises
    ------
    SettingError: the attack has no version for the threat's norm.
    """
    rows = rows or Rows(surrogate or classifier, attack, threat, slots=slots, seed=seed)
    slots = rows.slots
    bench = _Bench(rows, Judge(classifier, threat), threat.epsilons, attack.steps)
    program: Climbing | Approaching
    if attack.seeks == "closest":
        program = Approaching(bench, rows, attack, threat, settle)
    else:
        program = Climbing(bench, rows, attack, threat, settle, all_steps=all_steps)

    def take() -> _Try | None:
        if program.queue:
            return program.queue.popleft()
        subject = next(subjects, None)
        return None if subject is None else _Try(_Climb(subject), program.first, 0)

    iterate(
        program,
        take,
        slots=slots,
        each=None if each is None else lambda _: each(),
        narrow=bench.narrow,
    )
