"""Runs attacks that seek the closest point, and finds the nearest file that flips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.engine.attempts import (
    Attempt,
    AttemptPool,
    Verdict,
    failure_reason,
    original_pixels,
    room,
    take_rows,
)
from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.refinement import CLOSE, FINE, NOTHING, Refining, seek
from robustness.numerics.pixel_lattice import Lattice
from robustness.optimization.bracketing import Bracket
from robustness.threat.norms.measuring import distance
from robustness.threat.threat import Threat


class MinimumDistanceProgram:
    """Run every image once per restart, then find its nearest file that flips; a program of `iterate`.

    A row does all its steps, or those until its state is `done`. Then files are made from its nearest point
    at one radius after another, to find the smallest radius whose file flips: a change that is scaled up to a
    radius before it is rounded survives rounding; a change of a fraction of a count does not.

    Parameters
    ----------
    pool
        The running attempts and the judge.
    batch
        The compiled attack.
    attack, threat
        The attack, and its threat.
    """

    def __init__(
        self, pool: AttemptPool, batch: CompiledBatch, attack: Attack, threat: Threat
    ) -> None:
        self._pool, self._batch, self._attack, self._threat = pool, batch, attack, threat
        self.first = len(threat.epsilons) - 1
        self._refining = Refining(pool, threat)
        self.enter = pool.load

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        """Advance all rows; return the state and a mask of the rows whose steps are finished."""
        running, steps = self._pool.running, self._attack.steps
        most = steps - max(attempt.steps for attempt in running.values())
        state, done = self._pool.step_until(state, list(running), most)
        ready = np.zeros_like(done)
        for slot, attempt in running.items():
            ready[slot] = done[slot] or attempt.steps >= steps
        return state, ready

    def leave(self, state: State, slots: Sequence[int], attempts: Sequence[Attempt]) -> list[bool]:
        """Find the nearest file of each of these rows; all are finished."""
        best = {k: ops.convert_to_numpy(state["best"][k]) for k in ("distance", "step")}
        by_slot = dict(zip(slots, attempts, strict=True))
        self._pool.record_blind_steps(state, by_slot)
        reached = {s: a for s, a in by_slot.items() if np.isfinite(best["distance"][s])}
        nearest = {slot: float(best["distance"][slot]) for slot in reached}
        for slot, attempt in by_slot.items():
            attempt.flip_step = int(best["step"][slot])
        for slot in self._flipping(state, reached):
            progress = reached[slot].progress
            progress.nearest_in_float = min(progress.nearest_in_float, nearest[slot])
        self._find_radius(state, reached, nearest)
        self._refine(reached)
        self._expect_finite(state, {s: a for s, a in by_slot.items() if s not in reached})
        for attempt in attempts:
            self._finish(attempt)
        finished = [True] * len(attempts)
        self._pool.remove(slots, finished)
        return finished

    def _flipping(self, state: State, attempts: dict[int, Attempt]) -> list[int]:
        """The rows whose nearest point flips the user's model in float, not only a surrogate."""
        if self._pool.judges_attacked_model:
            return list(attempts)
        points = take_rows(state["best"]["point"], attempts)
        flips = self._pool.flips_in_float(points, list(attempts.values()))
        return [slot for slot, flip in zip(attempts, flips, strict=True) if flip]

    def _expect_finite(self, state: State, attempts: dict[int, Attempt]) -> None:
        points = ops.convert_to_numpy(state["own"]["point"]) if attempts else None
        for slot, attempt in attempts.items():
            if points is not None and not np.isfinite(points[slot]).all():
                attempt.failure = failure_reason(attempt)

    def _find_radius(
        self, state: State, attempts: dict[int, Attempt], nearest: dict[int, float]
    ) -> None:
        """Store in each attempt the flip of the smallest radius; all rows together.

        The files are first made from points that are scaled and rounded; then, where these miss some lengths,
        from the 8-bit changes between them.
        """
        norm, largest = self._threat.norm, self._threat.epsilons[-1]
        # Less than half a count rounds to 0, and rounding may make a change shorter or longer.
        least = {slot: max(nearest[slot], 0.5) for slot in attempts}
        deltas = self._deltas(state, attempts)

        def bracket(slot: int, guess: float) -> Bracket:
            low = NOTHING if attempts[slot].flip else least[slot] / 2
            return Bracket(guess, low, largest, near=FINE, power=norm.power)

        sizes = ops.convert_to_numpy(norm.size(rounded(deltas))).tolist() if attempts else ()
        searches = {
            slot: bracket(slot, max(least[slot], size))
            for slot, size in zip(attempts, sizes, strict=True)
        }
        repeated: set[int] = set()
        while searches:
            for slot, verdicts in self._judge_radii(state, attempts, searches).items():
                attempt, search = attempts[slot], searches[slot]
                flip_distances = self._keep_nearest(attempt, verdicts)
                if not attempt.failure and search.hear(flip_distances):
                    continue
                del searches[slot]
                can_repeat = attempt.flip and not search.missed and slot not in repeated
                if can_repeat and self._distance(attempt) > 1:
                    # The float distance does not predict the file's distance well.
                    repeated.add(slot)
                    searches[slot] = bracket(slot, self._distance(attempt) / FINE)
        paths = self._lattices(attempts, deltas, self._gaps(state, attempts))
        finer = {slot: bracket(slot, self._guess(attempts[slot], paths[slot])) for slot in paths}
        seek(self._pool, self._threat, attempts, finer, paths)

    def _refine(self, attempts: dict[int, Attempt]) -> None:
        """Search nearer files by gradients where the attack has them, for the image's nearest flips."""
        norm, attack = self._threat.norm, self._attack
        white_box = attack.refined and attack.knowledge == "white-box"
        usable = white_box and self._pool.judges_attacked_model
        if not usable or not norm.has_steepest_path:
            return
        self._refining({s: a for s, a in attempts.items() if a.flip and self._is_nearest(a)})

    def _is_nearest(self, attempt: Attempt) -> bool:
        best = attempt.progress.best
        return best is None or self._distance(attempt) < self._distance(best)

    def _guess(self, attempt: Attempt, path: Lattice) -> float:
        """The radius at which the search along a path starts: nearer than the known flip."""
        nearer = self._distance(attempt) / FINE
        return max(min(path.guess(), nearer), 0.5)

    def _keep_nearest(self, attempt: Attempt, verdicts: list[Verdict]) -> list[float | None]:
        """Keep the nearest flip of these in the attempt; return the distance of each."""
        name = self._threat.norm.name
        for flip, finite in verdicts:
            attempt.keep_nearer(flip, name)
            if not finite:
                attempt.failure = failure_reason(attempt)
        return [flip.distances.of(name) if flip else None for flip, _ in verdicts]

    def _distance(self, attempt: Attempt) -> float:
        return attempt.distance(self._threat.norm.name)

    def _judge_radii(
        self, state: State, attempts: dict[int, Attempt], searches: dict[int, Bracket]
    ) -> dict[int, list[Verdict]]:
        """The verdicts, by slot, on the files of all queried radii, from one call of the judge."""
        points, questions = state["best"]["point"], []
        for turn in range(max(len(search.asks) for search in searches.values())):
            radii = {p: s.asks[turn] for p, s in searches.items() if turn < len(s.asks)}
            questions.append((points, {p: attempts[p] for p in radii}, list(radii.values())))
        by_slot: dict[int, list[Verdict]] = {slot: [] for slot in searches}
        answers = self._pool.judge_candidates(state, *questions)
        for (_, judged, _), verdicts in zip(questions, answers, strict=True):
            for slot, verdict in zip(judged, verdicts, strict=True):
                by_slot[slot].append(verdict)
        return by_slot

    def _deltas(self, state: State, attempts: dict[int, Attempt]) -> np.ndarray:
        """The change from each image to its nearest point, (n, h, w, c)."""
        points = take_rows(state["best"]["point"], attempts)
        if not len(points):
            return np.zeros((0, 1, 1, 1), "float32")
        return np.nan_to_num(points - original_pixels(attempts.values()))

    def _gaps(self, state: State, attempts: dict[int, Attempt]) -> list[int]:
        """The rows whose scaled changes miss lengths just below the nearest flip, or that have no flip."""
        norm = self._threat.norm
        if not norm.has_path_along:
            return []
        radii = {s: self._distance(a) / FINE for s, a in attempts.items() if a.flip}
        files = self._pool.rounded_pictures(state, state["best"]["point"], radii)
        gaps = [s for s, a in attempts.items() if not a.flip and not a.failure]
        for (slot, radius), file in zip(radii.items(), files, strict=True):
            size = distance(norm, attempts[slot].progress.example.pixels, file)
            if size * CLOSE < radius:
                gaps.append(slot)
        return gaps

    def _lattices(
        self, attempts: dict[int, Attempt], deltas: np.ndarray, wanted: Sequence[int]
    ) -> dict[int, Lattice]:
        """The 8-bit changes along the change to the nearest point, for the rows `wanted`."""
        if not wanted:
            return {}
        low, high = room(self._threat, attempts.values())
        paths = {
            slot: self._threat.norm.path_along(delta, least, most)
            for slot, delta, least, most in zip(attempts, deltas, low, high, strict=True)
            if slot in wanted
        }
        return {slot: path for slot, path in paths.items() if path and len(path.places)}

    def _finish(self, attempt: Attempt) -> None:
        """Keep the image's best attempt; queue the next restart, or store all outcomes."""
        progress = attempt.progress
        self._pool.charge(attempt)
        if attempt.flip and (
            progress.best is None or self._distance(attempt) < self._distance(progress.best)
        ):
            progress.best = attempt
        if attempt.restart + 1 < self._attack.restarts and not attempt.failure:
            following = Attempt(progress, attempt.epsilon_index, attempt.restart + 1)
            self._pool.queue.append(following)
            return
        best, gradient_counts = progress.best or attempt, (progress.watched, progress.blind)
        for epsilon in progress.epsilons_to_settle(self._threat.epsilons):
            reached = best.flip is not None and self._distance(best) <= epsilon
            progress.flips_in_float_only = progress.nearest_in_float <= epsilon
            # One search determines the outcomes at all epsilons.
            progress.watched, progress.blind = gradient_counts
            carried = bool(progress.outcomes and progress.outcomes[-1].flip)
            missed = Attempt(progress, 0, 0, failure=attempt.failure)
            progress.add_outcome(epsilon, best if reached else missed)
            progress.outcomes[-1] = replace(progress.outcomes[-1], carried=carried)
        self._pool.results.append((progress.example, progress.outcomes))


def rounded(delta: np.ndarray) -> np.ndarray:
    """Round changes to whole counts of about the same size along `delta`.

    Rounding removes the components below half a count; the others are scaled up to compensate.

    Parameters
    ----------
    delta
        (n, height, width, channels) counts.

    Returns
    -------
    Whole counts, shaped like `delta`.
    """
    size = (delta * delta).sum(axis=(1, 2, 3), keepdims=True)
    left = (np.round(delta) * delta).sum(axis=(1, 2, 3), keepdims=True)
    # Where rounding removes most of a change, the factor does not predict the size after scaling.
    factor = np.where(4 * left > size, size / np.maximum(left, 1e-9), 1.0)
    return np.asarray(np.round(delta * factor))
