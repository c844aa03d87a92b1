"""Measures what an attack costs on a sample of images: compiling, a step, the steps until images flip."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from robustness.contract.attack import Attack
from robustness.engine.batch_size import even_batches, rows_on_canvas
from robustness.engine.compiled_batch import STRETCH, CompiledBatch, State
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.model_input import by_canvas
from robustness.engine.search import search, starting_epsilon
from robustness.errors import GradientError
from robustness.models.classifier import Classifier
from robustness.threat.threat import Threat

CALLS, LONGEST = 4, 5.0
"""The timed calls of a compiled step, and the seconds after which no further one is timed."""


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds, and seconds of all processors."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(max(0.0, self.wall - other.wall), max(0.0, self.processor - other.processor))

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.wall * factor, self.processor * factor)


class Stopwatch:
    """Adds up the seconds within its `with` blocks."""

    def __init__(self) -> None:
        self.seconds = Seconds()

    def __enter__(self) -> Stopwatch:
        self._begun = Seconds(time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += Seconds(time.perf_counter(), time.process_time()) - self._begun


class OutOfTimeError(Exception):
    """The seconds of a probe are spent."""


class TimedBatch:
    """A compiled batch that times its steps, and ends the search when its seconds are spent."""

    def __init__(self, batch: CompiledBatch, seconds: float) -> None:
        self._batch, self._end = batch, time.monotonic() + seconds
        self.stepping, self.shrinking = Stopwatch(), Stopwatch()
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def step_until(
        self, state: State, watched: Sequence[int], most: int
    ) -> tuple[State, np.ndarray, int]:
        """Advance all rows, see `CompiledBatch.step_until`; OutOfTimeError if the seconds are spent."""
        if time.monotonic() > self._end:
            raise OutOfTimeError
        with self.stepping:
            state, ready, steps = self._batch.step_until(state, watched, most)
        self.steps += steps
        return state, ready, steps

    def shrink(self, *arguments: Any) -> tuple[State, int] | None:
        """Move rows into a smaller batch, see `CompiledBatch.shrink`; tracing one is not a cost per image."""
        with self.shrinking:
            return self._batch.shrink(*arguments)


@dataclass(frozen=True)
class ImageSteps:
    """What the attack of one image took.

    Attributes
    ----------
    steps : of its row, over all epsilons and starts.
    epsilons : how many epsilons, from the smallest on, have no flip.
    flipped : whether any has.
    finished : whether the attack ended before the seconds of the probe were spent.
    passes : forward and backward passes.
    picture : bytes of its flips' files.
    """

    steps: float
    epsilons: int
    flipped: bool
    finished: bool = True
    passes: tuple[int, int] = (0, 0)
    picture: int = 0


@dataclass(frozen=True)
class AttackProbe:
    """What was measured of one attack.

    Attributes
    ----------
    attack : the attack.
    batch_size : rows of a batch of the whole audit.
    passes : forward and backward passes of a step.
    most_steps : steps of an image that never flips.
    each_steps : those of them at one epsilon.
    compiling : once per attack and process.
    step : of one row in a full batch.
    call : of one step of the batch as it was in the sample, where the last images ran almost alone.
    per_image : what an image takes beside its steps: the judge, its files.
    images : by the image's key.
    memory : the most bytes of the process.
    reason : why the attack cannot run; "" if it can.
    """

    attack: Attack
    batch_size: int
    most_steps: int
    each_steps: int
    passes: tuple[int, int] = (0, 0)
    compiling: Seconds = field(default_factory=Seconds)
    step: Seconds = field(default_factory=Seconds)
    call: Seconds = field(default_factory=Seconds)
    per_image: Seconds = field(default_factory=Seconds)
    images: dict[str, ImageSteps] = field(default_factory=dict)
    memory: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Prober:
    """Runs attacks on a sample of images.

    Attributes
    ----------
    judge, attacked : the models.
    threat : norm, epsilons, goal and mask.
    slots : the largest batch size.
    images : how many images the whole audit attacks.
    seed, draws, all_steps : as in the plan of the audit.
    seconds : the longest search of one attack.
    """

    judge: Classifier
    attacked: Classifier
    threat: Threat
    slots: int
    images: int
    seed: int
    draws: int
    all_steps: bool
    seconds: float

    def probe(
        self, attack: Attack, examples: Sequence[Example], spare: Sequence[Example]
    ) -> AttackProbe:
        """Measure one attack.

        Parameters
        ----------
        attack : the attack.
        examples : the images of the sample that it runs on.
        spare : all images of the sample, for the time of a step if it runs on none.
        """
        epsilons = 1 if attack.seeks == "closest" else len(self.threat.epsilons)
        each = attack.steps * attack.restarts
        groups = by_canvas(self.attacked, attack, examples or spare)
        canvas, first = groups[0]
        rows = (
            self.slots if canvas is None else min(self.slots, rows_on_canvas(self.attacked, canvas))
        )
        size = even_batches(
            rows // attack.width, round(self.images * len(first) / max(1, len(spare)))
        )
        unmeasured = AttackProbe(attack, size, each * epsilons, each)
        reset_peak()
        try:
            batch = self._batch(attack, size, canvas)
            compiling, step = self._step(batch, first)
        except GradientError as error:
            return replace(unmeasured, reason=str(error))
        images: dict[str, ImageSteps] = {}
        beside, stepping, calls = Seconds(), Seconds(), 0
        for canvas, some in groups if examples else ():
            fits = batch.input.shape == canvas or canvas is None
            used = batch if fits and len(some) * 2 >= size else None
            found, timed, extra = self._search(attack, some, canvas, used)
            images |= found
            beside += extra
            stepping, calls = stepping + timed.stepping.seconds, calls + timed.steps
        finished = max(1, sum(image.finished for image in images.values()))
        return replace(
            unmeasured,
            passes=batch.passes,
            compiling=compiling,
            step=step,
            call=stepping * (1 / calls) if calls else step * even_batches(size, 1),
            per_image=beside * (1 / finished),
            images=images,
            memory=peak_bytes(),
        )

    def _batch(self, attack: Attack, size: int, canvas: Any) -> CompiledBatch:
        return CompiledBatch(
            self.attacked, attack, self.threat, batch_size=size, seed=self.seed, canvas=canvas
        )

    def _step(self, batch: CompiledBatch, examples: Sequence[Example]) -> tuple[Seconds, Seconds]:
        """The seconds of compiling, and of one step of one row in a full batch."""
        epsilon = starting_epsilon(batch.attack, self.threat, self.threat.epsilons[0])
        slots = list(range(batch.batch_size))
        jobs = [AttackJob(examples[n % len(examples)], epsilon) for n in slots]
        compiling, stepping = Stopwatch(), Stopwatch()
        with compiling:
            batch.prepare()
            state, _, done = batch.step_until(batch.load(None, slots, jobs), (), 1)
        rows, calls = 0, 0
        while calls < CALLS and stepping.seconds.wall < LONGEST:
            if done >= batch.attack.steps:
                state, done = batch.load(state, slots, jobs), 0
            with stepping:
                most = min(STRETCH, batch.attack.steps - done)
                state, _, steps = batch.step_until(state, (), most)
            done, calls, rows = done + steps, calls + 1, rows + steps * len(slots)
        return compiling.seconds, stepping.seconds * (1 / rows)

    def _search(
        self, attack: Attack, examples: Sequence[Example], canvas: Any, batch: CompiledBatch | None
    ) -> tuple[dict[str, ImageSteps], TimedBatch, Seconds]:
        """Attack images until the seconds are spent; return their steps, the batch, and the other seconds."""
        if batch is None:
            batch = self._batch(
                attack, even_batches(self.slots // attack.width, len(examples)), canvas
            )
            batch.prepare()
        timed, whole = TimedBatch(batch, self.seconds), Stopwatch()
        images: dict[str, ImageSteps] = {}
        results = search(
            cast("CompiledBatch", timed),
            examples,
            judged_by=self.judge,
            draws=self.draws,
            all_steps=self.all_steps,
        )
        with whole, contextlib.suppress(OutOfTimeError), contextlib.closing(results):
            for example, outcomes in results:
                images[example.key] = _steps_of(outcomes, batch)
        for example in examples:
            if example.key not in images:
                count = example.epsilon_count or len(self.threat.epsilons)
                images[example.key] = ImageSteps(timed.steps, count, flipped=False, finished=False)
        return images, timed, whole.seconds - timed.stepping.seconds - timed.shrinking.seconds


def _steps_of(outcomes: Sequence[Any], batch: CompiledBatch) -> ImageSteps:
    forward = sum(outcome.forward for outcome in outcomes)
    backward = sum(outcome.backward for outcome in outcomes)
    each_forward, each_backward = batch.passes
    # Forward passes have those of the judge as well.
    steps = backward / each_backward if each_backward else forward / max(1, each_forward)
    first = next((n for n, o in enumerate(outcomes) if o.flip is not None), len(outcomes))
    files = {outcome.flip.png for outcome in outcomes if outcome.flip is not None}
    return ImageSteps(
        steps,
        first,
        flipped=first < len(outcomes),
        passes=(forward, backward),
        picture=sum(map(len, files)),
    )


def reset_peak() -> None:
    """Let the system measure the largest memory of this process anew, where it can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def peak_bytes() -> int:
    """Return the most bytes of memory of this process, since `reset_peak` where the system can; else 0."""
    try:
        text = Path("/proc/self/status").read_text("ascii")
        line = next(one for one in text.splitlines() if one.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    except (OSError, StopIteration, ValueError):
        pass
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
