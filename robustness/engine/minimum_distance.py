"""The program of attacks that seek the closest point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.engine.attempts import Attempt, AttemptPool, Settle, broken, taken
from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.judge import Flip
from robustness.engine.refinement import CLOSE, FINE, NOTHING, Refining, seek
from robustness.numerics.pixel_lattice import Lattice
from robustness.optimization.bracketing import Bracket
from robustness.threat.threat import Threat

Verdict = tuple[Flip | None, bool]
"""The flip that a file is, if it is one, and whether its point was finite."""


class MinimumDistanceProgram:
    """The program of attacks that seek the closest point; see `iterate`.

    A row takes all its steps, or those until its state says `done`. Then its nearest point becomes
    files, one radius after another, until the smallest radius is known whose file flips: a change that
    is scaled up to a radius before it is rounded survives rounding, one of a fraction of a count does
    not.
    """

    def __init__(
        self,
        bench: AttemptPool,
        rows: CompiledBatch,
        attack: Attack,
        threat: Threat,
        settle: Settle,
    ) -> None:
        self._bench, self._rows, self._attack, self._threat = bench, rows, attack, threat
        self._settle, self.first = settle, len(threat.epsilons) - 1
        self._refining = Refining(bench, threat)
        self.enter, self.queue = bench.enter, bench.queue

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        running, steps = self._bench.running, self._attack.steps
        most = steps - max(job.steps for job in running.values())
        state, done = self._bench.advance(state, list(running), most)
        ready = np.zeros_like(done)
        for place, job in running.items():
            ready[place] = done[place] or job.steps >= steps
        return state, ready

    def leave(self, state: State, places: Sequence[int], jobs: Sequence[Attempt]) -> list[bool]:
        best = {k: ops.convert_to_numpy(state["best"][k]) for k in ("distance", "step")}
        held = dict(zip(places, jobs, strict=True))
        self._bench.watch(state, held)
        near = {p: j for p, j in held.items() if np.isfinite(best["distance"][p])}
        for place, job in held.items():
            job.found = int(best["step"][place])
        for place in self._flipping(state, near):
            job = near[place]
            job.climb.near = min(job.climb.near, float(best["distance"][place]))
        self._narrow(state, near, {p: float(best["distance"][p]) for p in near})
        self._refine(near)
        missed = {p: j for p, j in held.items() if p not in near}
        self._expect_finite(state, missed)
        for job in jobs:
            self._next(job)
        self._bench.dismiss(places, [True] * len(jobs))
        return [True] * len(jobs)

    def _flipping(self, state: State, jobs: dict[int, Attempt]) -> list[int]:
        """The rows whose nearest point flips the target in float: that it flips a surrogate says nothing."""
        if self._bench.direct:
            return list(jobs)
        points = taken(state["best"]["point"], jobs)
        flips = self._bench.in_float(points, list(jobs.values()))
        return [place for place, flip in zip(jobs, flips, strict=True) if flip]

    def _expect_finite(self, state: State, jobs: dict[int, Attempt]) -> None:
        points = ops.convert_to_numpy(state["own"]["point"]) if jobs else None
        for place, job in jobs.items():
            if points is not None and not np.isfinite(points[place]).all():
                job.broken = broken(job)

    def _narrow(self, state: State, jobs: dict[int, Attempt], far: dict[int, float]) -> None:
        """Leave in each job the flip of the smallest radius; all rows together.

        First of the points scaled and rounded; then, where those leave out some lengths, of the 8-bit
        changes between them.
        """
        norm, top = self._threat.norm, self._threat.epsilons[-1]
        # Less than half a count rounds to nothing, and rounding may shorten a change as well as lengthen it.
        least = {place: max(far[place], 0.5) for place in jobs}
        deltas = self._deltas(state, jobs)

        def bracket(place: int, guess: float) -> Bracket:
            low = NOTHING if jobs[place].flip else least[place] / 2
            return Bracket(guess, low, top, near=FINE, power=norm.power)

        sizes = ops.convert_to_numpy(norm.size(rounded(deltas))).tolist() if jobs else ()
        searches = {
            place: bracket(place, max(least[place], size))
            for place, size in zip(jobs, sizes, strict=True)
        }
        again: set[int] = set()
        while searches:
            for place, verdicts in self._asked(state, jobs, searches).items():
                found = self._kept(jobs[place], verdicts)
                search, flip = searches[place], jobs[place].flip
                if not jobs[place].broken and search.hear(found):
                    continue
                del searches[place]
                if flip and not search.missed and place not in again and self._far(flip) > 1:
                    # How far a point is says little of how far it had to be.
                    again.add(place)
                    searches[place] = bracket(place, self._far(flip) / FINE)
        paths = self._lattices(jobs, deltas, self._gaps(state, jobs))
        finer = {place: bracket(place, self._guess(jobs[place], paths[place])) for place in paths}
        seek(self._bench, self._threat, jobs, finer, paths)

    def _refine(self, jobs: dict[int, Attempt]) -> None:
        """Come nearer by gradients, where the attack knows them and its flip is its image's nearest."""
        norm, attack = self._threat.norm, self._attack
        knows = attack.refined and attack.knowledge == "white-box" and self._bench.direct
        if not knows or not norm.has_steepest_path:
            return
        self._refining(
            {
                place: job
                for place, job in jobs.items()
                if job.flip
                and (not job.climb.best or job.far(norm.name) < job.climb.best.far(norm.name))
            }
        )

    def _guess(self, job: Attempt, path: Lattice) -> float:
        """Where the search between the scaled changes begins: nearer than what is known."""
        nearer = self._far(job.flip) / FINE if job.flip else np.inf
        return max(min(path.guess(), nearer), 0.5)

    def _kept(self, job: Attempt, verdicts: list[Verdict]) -> list[float | None]:
        """The distance of each flip among these, the nearest of which the job keeps."""
        for flip, finite in verdicts:
            job.keep(flip, self._threat.norm.name)
            if not finite:
                job.broken = broken(job)
        return [self._far(flip) if flip else None for flip, _ in verdicts]

    def _far(self, flip: Flip) -> float:
        return flip.distances.of(self._threat.norm.name)

    def _asked(
        self, state: State, jobs: dict[int, Attempt], searches: dict[int, Bracket]
    ) -> dict[int, list[Verdict]]:
        """The verdicts on the files of all radii that the searches ask about, in one hearing."""
        points, asked = state["best"]["point"], []
        for turn in range(max(len(search.asks) for search in searches.values())):
            radii = {p: s.asks[turn] for p, s in searches.items() if turn < len(s.asks)}
            asked.append((points, {p: jobs[p] for p in radii}, list(radii.values())))
        heard: dict[int, list[Verdict]] = {place: [] for place in searches}
        verdicts = self._bench.judged(state, *asked)
        for (_, some, _), told in zip(asked, verdicts, strict=True):
            for place, verdict in zip(some, told, strict=True):
                heard[place].append(verdict)
        return heard

    def _deltas(self, state: State, jobs: dict[int, Attempt]) -> np.ndarray:
        """How far each nearest point is from its image, (n, h, w, c)."""
        points = taken(state["best"]["point"], jobs)
        if not len(points):
            return np.zeros((0, 1, 1, 1), "float32")
        return np.nan_to_num(points - self._images(jobs))

    def _images(self, jobs: dict[int, Attempt]) -> np.ndarray:
        return np.stack([job.climb.subject.pixels for job in jobs.values()]).astype("float32")

    def _gaps(self, state: State, jobs: dict[int, Attempt]) -> list[int]:
        """The rows whose scaled changes leave out lengths just below the nearest flip, or that have none."""
        norm = self._threat.norm
        if not norm.has_path_along:
            return []
        radii = {p: self._far(job.flip) / FINE for p, job in jobs.items() if job.flip}
        files = self._bench.files(state, state["best"]["point"], radii)
        gaps = [place for place, job in jobs.items() if not job.flip and not job.broken]
        for (place, radius), file in zip(radii.items(), files, strict=True):
            far = norm.distance(jobs[place].climb.subject.pixels, file)
            if far * CLOSE < radius:
                gaps.append(place)
        return gaps

    def _lattices(
        self, jobs: dict[int, Attempt], deltas: np.ndarray, wanted: Sequence[int]
    ) -> dict[int, Lattice]:
        """The 8-bit changes along the nearest points of the rows `wanted`."""
        if not wanted:
            return {}
        low, high = (ops.convert_to_numpy(x) for x in self._threat.room(self._images(jobs)))
        paths = {
            place: self._threat.norm.path_along(delta, least, most)
            for place, delta, least, most in zip(jobs, deltas, low, high, strict=True)
            if place in wanted
        }
        return {place: path for place, path in paths.items() if path and len(path.places)}

    def _next(self, job: Attempt) -> None:
        """Keep the best try of the image; the next restart, or else the outcome at every epsilon."""
        climb = job.climb
        self._bench.pay(job)
        rival = climb.best.flip if climb.best else None
        if job.flip and (rival is None or self._far(job.flip) < self._far(rival)):
            climb.best = job
        if job.restart + 1 < self._attack.restarts and not job.broken:
            self.queue.append(Attempt(climb, job.rung, job.restart + 1))
            return
        best, felt = climb.best or job, (climb.watched, climb.blind)
        for epsilon in climb.ladder(self._threat.epsilons):
            reached = best.flip is not None and self._far(best.flip) <= epsilon
            climb.floated = climb.near <= epsilon
            # One search answers for every epsilon.
            climb.watched, climb.blind = felt
            carried = bool(climb.rungs and climb.rungs[-1].flip)
            climb.close(epsilon, best if reached else Attempt(climb, 0, 0, broken=job.broken))
            climb.rungs[-1] = replace(climb.rungs[-1], carried=carried)
        self._settle(climb.subject, climb.rungs)


def rounded(delta: np.ndarray) -> np.ndarray:
    """Changes (n, h, w, c) in whole counts that go about as far in the direction of `delta` (n, h, w, c).

    Rounding takes away the components below half a count; the rest is scaled up for it.
    """
    size = (delta * delta).sum(axis=(1, 2, 3), keepdims=True)
    left = (np.round(delta) * delta).sum(axis=(1, 2, 3), keepdims=True)
    # Where most is taken away, a factor says little of what a larger one would leave.
    factor = np.where(4 * left > size, size / np.maximum(left, 1e-9), 1.0)
    return np.asarray(np.round(delta * factor))
