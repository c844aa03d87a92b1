"""Holds the attempts on each image, and passes their candidates to the judge."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from keras import ops

from robustness.engine.compiled_batch import CompiledBatch, State
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.judge import Candidate, Flip, Judge
from robustness.engine.margin_gradients import margin_gradients
from robustness.engine.outcomes import EpsilonOutcome
from robustness.threat.threat import Threat


@dataclass
class ImageProgress:
    """The outcomes of one image so far, and its counters since the last outcome.

    Attributes
    ----------
    example
        The image.
    outcomes
        Its outcomes so far, from the smallest epsilon on.
    forward, backward
        Passes since the last outcome.
    watched, blind
        Steps that took a gradient, and those whose gradient was zero or not finite.
    flips_in_float_only
        Whether some point flips the model in float while no 8-bit file does.
    best
        The attempt with the nearest flip, for attacks that seek the closest point.
    nearest_in_float
        The distance of the nearest point that flips in float, in the norm's unit.
    """

    example: Example
    outcomes: list[EpsilonOutcome] = field(default_factory=list)
    forward: int = 0
    backward: int = 0
    watched: int = 0
    blind: int = 0
    flips_in_float_only: bool = False
    best: Attempt | None = None
    nearest_in_float: float = np.inf

    def epsilons_to_settle(self, epsilons: Sequence[float]) -> Sequence[float]:
        """Return the epsilons for which this image needs an outcome."""
        return epsilons[: self.example.epsilon_count]

    def add_outcome(self, epsilon: float, attempt: Attempt) -> None:
        """Record the outcome at `epsilon` and reset the counters."""
        flipped = attempt.flip is not None
        self.outcomes.append(
            EpsilonOutcome(
                epsilon=epsilon,
                flip=attempt.flip,
                step=attempt.flip_step if flipped else None,
                restart=attempt.restart if flipped else None,
                forward=self.forward,
                backward=self.backward,
                flips_in_float_only=self.flips_in_float_only and not flipped,
                reason="" if flipped else attempt.failure,
                watched=self.watched,
                blind=self.blind,
            )
        )
        self.forward = self.backward = self.watched = self.blind = 0
        self.flips_in_float_only = False


@dataclass
class Attempt:
    """One attempt: an image at one epsilon, from one start.

    Attributes
    ----------
    progress
        The image and its outcomes.
    epsilon_index
        The index of the epsilon.
    restart
        The number of the start, from 0 on.
    steps
        The number of steps done.
    judge_passes, gradient_passes
        Forward passes of the judge, and passes for gradients at files.
    flip, flip_step
        The flip so far, and the step at which it was found.
    blind
        Steps whose gradient was zero or not finite.
    failure
        Why the attempt failed; "" if it did not.
    """

    progress: ImageProgress
    epsilon_index: int
    restart: int
    steps: int = 0
    judge_passes: int = 0
    gradient_passes: int = 0
    flip: Flip | None = None
    flip_step: int = 0
    blind: int = 0
    failure: str = ""
    unchecked: list[np.ndarray] = field(default_factory=list)
    """Points whose files do not flip, and which are not yet evaluated in float."""

    float_flip: np.ndarray | None = None
    """The last point that flips in float while its rounded file does not."""

    def distance(self, norm: str) -> float:
        """Return the distance of the flip in a norm; infinity without a flip."""
        return self.flip.distances.of(norm) if self.flip else np.inf

    def keep_nearer(self, flip: Flip | None, norm: str) -> None:
        """Replace the flip with `flip` if that is nearer."""
        if flip and flip.distances.of(norm) < self.distance(norm):
            self.flip = flip


Question = tuple[Any, dict[int, Attempt], Sequence[float]]
"""Points (slots, h, w, c), the attempts to judge by slot, and the radius of each."""

File = tuple[Attempt, float, np.ndarray]
"""An attempt, a radius, and a picture (h, w, c) uint8 within that radius of the attempt's image."""

Result = tuple[Example, list[EpsilonOutcome]]
"""An image and its outcomes, one per epsilon, from the smallest on."""

Verdict = tuple[Flip | None, bool]
"""The flip of a file, or None, and whether the point from which it was made was finite."""

MIN_STEPS_TO_SHRINK = 3
"""The number of steps that every row must have done before the batch shrinks."""


class AttemptPool:
    """The running attempts by slot, and the queue of those that wait; calls the judge and counts passes.

    Both programs use it.

    Parameters
    ----------
    batch
        The compiled attack.
    judge
        Decides which files flip.
    epsilons
        The epsilons of the threat, in ascending order.
    steps
        The attack's number of steps.

    Attributes
    ----------
    judges_attacked_model
        Whether the judge's model is the attacked one and its outputs are not random.
    running
        The running attempts, by slot.
    queue
        The attempts that wait for a slot.
    """

    def __init__(
        self, batch: CompiledBatch, judge: Judge, epsilons: Sequence[float], steps: int
    ) -> None:
        self._batch, self._judge, self._epsilons, self._steps = batch, judge, epsilons, steps
        self.judges_attacked_model = judge.judges(batch.classifier)
        self.running: dict[int, Attempt] = {}
        self.queue: deque[Attempt] = deque()
        self.results: deque[Result] = deque()
        """Images with all outcomes, for `search` to yield."""

    def load(self, state: State | None, slots: Sequence[int], attempts: Sequence[Attempt]) -> State:
        """Load each attempt into its slot; see `CompiledBatch.load`."""
        jobs = [
            AttackJob(a.progress.example, self._epsilons[a.epsilon_index], a.restart)
            for a in attempts
        ]
        self.running |= dict(zip(slots, attempts, strict=True))
        return self._batch.load(state, slots, jobs)

    def step_until(
        self, state: State, watched: Sequence[int], most: int
    ) -> tuple[State, np.ndarray]:
        """Advance all rows and count their steps; see `CompiledBatch.step_until`."""
        state, ready, steps = self._batch.step_until(state, watched, most)
        for attempt in self.running.values():
            attempt.steps += steps
        return state, ready

    def remove(self, slots: Sequence[int], finished: Sequence[bool]) -> None:
        """Remove the attempts that are finished."""
        for slot, done in zip(slots, finished, strict=True):
            if done:
                del self.running[slot]

    def shrink(self, state: State, slots: Sequence[int]) -> tuple[State, int] | None:
        """Move the rows of `slots` into a smaller batch if that pays; see `CompiledBatch.shrink`.

        New rows may finish early, so the batch keeps its size until all rows have done some steps.
        """
        if min(self.running[slot].steps for slot in slots) < MIN_STEPS_TO_SHRINK:
            return None
        taken = max(self.running[slot].steps for slot in slots)
        left = max(self._steps - self.running[slot].steps for slot in slots)
        if "done" in state["own"]:
            # Such rows seldom use all steps: expect at most as many as were done so far.
            left = min(left, taken)
        smaller = self._batch.shrink(state, slots, left)
        if smaller:
            self.running = {new: self.running[slot] for new, slot in enumerate(slots)}
        return smaller

    def judge_candidates(self, state: State, *questions: Question) -> list[list[Verdict]]:
        """Round points to files and judge them, all questions in one call of the judge.

        Returns
        -------
        For each question, the verdicts on its points, in order.
        """
        files: list[File] = []
        finite: list[bool] = []
        for points, attempts, radii in questions:
            if attempts:
                pictures, are_finite = self._batch.to_uint8(state, points, list(attempts), radii)
                finite += are_finite.tolist()
                files += zip(attempts.values(), radii, pictures, strict=True)
        verdicts = iter(zip(self.judge_files(files), finite, strict=True))
        return [list(islice(verdicts, len(attempts))) for _, attempts, _ in questions]

    def judge_files(self, files: Sequence[File]) -> list[Flip | None]:
        """Judge pictures in one call of the judge, and count the passes."""
        flips = self._judge(
            [_candidate(a.progress.example, radius, picture) for a, radius, picture in files]
        )
        for (attempt, *_), passes in zip(files, self._judge.passes, strict=True):
            attempt.judge_passes += passes
        return flips

    def rounded_pictures(
        self, state: State, points: Any, radii: dict[int, float]
    ) -> Iterable[np.ndarray]:
        """Return the points of some slots as pictures (h, w, c) uint8 within a radius each; no model pass."""
        if not radii:
            return ()
        return self._batch.to_uint8(state, points, list(radii), list(radii.values()))[0]

    def margin_gradients(
        self, files: Sequence[np.ndarray], attempts: Sequence[Attempt]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradients of the margin at files and count the passes; see `engine.margin_gradients`."""
        for attempt in attempts:
            attempt.gradient_passes += 1
        return margin_gradients(self._batch, files, [a.progress.example for a in attempts])

    def flips_in_float(
        self, points: Sequence[np.ndarray], attempts: Sequence[Attempt]
    ) -> list[bool]:
        """Return whether each point flips the user's model before it is rounded to a file."""
        if not attempts:
            return []
        labels = [attempt.progress.example.label for attempt in attempts]
        return self._judge.flips_in_float(np.stack(points), labels)

    def record_blind_steps(self, state: State, attempts: dict[int, Attempt]) -> None:
        """Copy from the state the number of steps of each row whose gradient was useless."""
        if self._batch.watched:
            blind = ops.convert_to_numpy(state["blind"])
            for slot, attempt in attempts.items():
                attempt.blind = int(blind[slot])

    def charge(self, attempt: Attempt) -> None:
        """Add the passes of an attempt, and its steps that took a gradient, to the counters of its image."""
        forward, backward = self._batch.passes
        progress, steps = attempt.progress, attempt.steps
        progress.forward += forward * steps + attempt.judge_passes + attempt.gradient_passes
        progress.backward += backward * steps + attempt.gradient_passes
        progress.watched += steps if self._batch.watched else 0
        progress.blind += attempt.blind


def _candidate(example: Example, radius: float, picture: np.ndarray) -> Candidate:
    return Candidate(
        example.cropped(example.pixels), example.label, radius, example.cropped(picture)
    )


def failure_reason(attempt: Attempt) -> str:
    """Return the recorded reason of an attempt whose point is not finite."""
    return f"the attack left numbers that are not finite at step {attempt.steps}"


def take_rows(points: Any, slots: Iterable[int]) -> Sequence[np.ndarray]:
    """Return the rows of `points` at these slots, as arrays."""
    index = np.array(list(slots), np.int32)
    return ops.convert_to_numpy(ops.take(points, index, axis=0)) if len(index) else ()


def original_pixels(attempts: Iterable[Attempt]) -> np.ndarray:
    """Return the unchanged images of attempts, (n, h, w, c) float32 counts."""
    return np.stack([a.progress.example.pixels for a in attempts]).astype("float32")


def room(threat: Threat, attempts: Iterable[Attempt]) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest change of each component of the images, (n, h, w, c), in counts."""
    attempts = list(attempts)
    low, high = threat.room(original_pixels(attempts))
    low, high = ops.convert_to_numpy(low), ops.convert_to_numpy(high)
    inside = [attempt.progress.example.inside for attempt in attempts]
    on_canvas = [part for part in inside if part is not None]
    return (low * on_canvas, high * on_canvas) if on_canvas else (low, high)
