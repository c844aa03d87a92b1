"""The program of attacks that seek any point inside the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from robustness.contract.attack import Attack
from robustness.engine.attempts import Attempt, AttemptPool, Settle, broken, taken
from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.refinement import rescue
from robustness.threat.threat import Threat

EARLY = (1, 2)
"""Steps after which a row of an attack with gradients goes before the judge unasked.

On a model without defence most rows have flipped by then. The judge's forward pass is needed for each of
these anyway, and spares them the step that would only have seen it; the others pay a pass for each look.
Of a small network a step costs less than saving and reading a file, and nothing goes there early.
"""

HOARD = 8
"""Points of a row that are kept at most, to be asked about together."""


class Brought(NamedTuple):
    """Points (slots, h, w, c), and those of them that go before the judge, so many steps `late`."""

    points: Any
    jobs: dict[int, Attempt]
    late: int


class FixedEpsilonProgram:
    """The program of attacks that seek any point inside the budget; see `iterate`."""

    first = 0

    def __init__(
        self,
        bench: AttemptPool,
        rows: CompiledBatch,
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
        most = min(map(self._left, running.values())) if self._rows.several else 1
        state, self._reached = self._bench.advance(state, wanting, most)
        ready = np.zeros_like(self._reached)
        for place, job in running.items():
            fresh = self._reached[place] and job.flip is None
            ready[place] = fresh or self._due(job)
        return state, ready

    def leave(self, state: State, places: Sequence[int], jobs: Sequence[Attempt]) -> list[bool]:
        held = dict(zip(places, jobs, strict=True))
        self._bench.watch(state, held)
        best, own = state["best"]["point"], state["own"]["point"]
        looked = {p: j for p, j in held.items() if self._reached[p] and j.flip is None}
        last = {p: j for p, j in held.items() if p not in looked and self._wanted(j)}
        # A point that was looked at had one step less than there are now.
        self._try(state, Brought(best, looked, late=1), Brought(own, last, late=0))
        both = {p: j for p, j in looked.items() if self._wanted(j)}
        self._try(state, Brought(own, both, late=0))
        self._doubt([job for job in jobs if self._doubtful(job)])
        self._rescue([job for job in jobs if self._spent(job)])
        finished = [self._next(job) for job in jobs]
        self._bench.dismiss(places, finished)
        return finished

    def _spent(self, job: Attempt) -> bool:
        return job.steps >= self._attack.steps

    def _due(self, job: Attempt) -> bool:
        """Whether the point it has come to is brought before the judge, seen to flip or not."""
        return self._spent(job) or job.steps in self._early

    def _left(self, job: Attempt) -> int:
        """Steps until it is due."""
        ends = (*self._early, self._attack.steps)
        return min(end - job.steps for end in ends if end > job.steps)

    def _wanted(self, job: Attempt) -> bool:
        """Whether the judge is asked about the point it has come to."""
        return self._due(job) and (job.flip is None or self._all_steps)

    def _try(self, state: State, *brought: Brought) -> None:
        """Bring points before the judge, all at once; what it says is kept in the jobs."""
        epsilons = self._threat.epsilons
        asked = [
            (some.points, some.jobs, [epsilons[job.rung] for job in some.jobs.values()])
            for some in brought
        ]
        for some, verdicts in zip(brought, self._bench.judged(state, *asked), strict=True):
            doubted: dict[int, Attempt] = {}
            lost: dict[int, Attempt] = {}
            for (place, job), (flip, fine) in zip(some.jobs.items(), verdicts, strict=True):
                if not fine:
                    job.broken = broken(job)
                elif flip is not None:
                    job.flip, job.found = flip, job.steps - some.late
                elif some.late and self._bench.direct:
                    job.climb.floated, lost[place] = True, job
                elif (some.late or self._spent(job)) and not job.climb.floated:
                    doubted[place] = job
            for job, point in zip(doubted.values(), taken(some.points, doubted), strict=True):
                job.doubts.append(point)
            if self._threat.norm.has_path_along:
                for job, point in zip(lost.values(), taken(some.points, lost), strict=True):
                    job.lost = point

    def _doubtful(self, job: Attempt) -> bool:
        """Whether its points are asked about now: of one that flips after all, nobody needs to be."""
        leaves = self._spent(job) or bool(job.broken)
        return job.flip is None and (leaves or len(job.doubts) >= HOARD)

    def _doubt(self, jobs: Sequence[Attempt]) -> None:
        """Ask whether what has not become a flip is one in float.

        No look has seen a last point, and of a surrogate's flips none says anything of the target.
        """
        asked = [(point, job) for job in jobs for point in job.doubts]
        flips = self._bench.in_float([point for point, _ in asked], [job for _, job in asked])
        for (point, job), flip in zip(asked, flips, strict=True):
            job.climb.floated |= flip
            job.lost = point if flip else job.lost
        for job in jobs:
            job.doubts.clear()

    def _rescue(self, jobs: Sequence[Attempt]) -> None:
        """Look for other files within the budget of tries that are about to be told to stand."""
        standing = [job for job in jobs if job.flip is None and not job.broken]
        knows = self._attack.knowledge == "white-box"
        rescue(self._bench, self._threat, standing, knows=knows)

    def _next(self, job: Attempt) -> bool:
        """Whether the row is finished; if so, what is next for its image is arranged."""
        settled = job.broken or (job.flip is not None and not self._all_steps)
        if not settled and not self._spent(job):
            return False
        climb, epsilons = job.climb, job.climb.ladder(self._threat.epsilons)
        self._bench.pay(job)
        held = job.flip is None and not job.broken
        if held and job.restart + 1 < self._attack.restarts:
            self.queue.append(Attempt(climb, job.rung, job.restart + 1))
            return True
        climb.close(epsilons[job.rung], job)
        if held and job.rung + 1 < len(epsilons):
            self.queue.append(Attempt(climb, job.rung + 1, 0))
            return True
        last = climb.rungs[-1]
        climb.rungs += [
            replace(last, epsilon=e, forward=0, backward=0, watched=0, blind=0, carried=True)
            for e in epsilons[job.rung + 1 :]
        ]
        self._settle(climb.subject, climb.rungs)
        return True
