"""Compiles the step of an attack for a batch: loads rows, advances them, and rounds them to 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from robustness import backend
from robustness.contract.attack import Attack
from robustness.contract.foreign_code import calling, first_state, next_state
from robustness.contract.look import Look
from robustness.contract.task import Task, where_rows
from robustness.engine.batch_size import row_bytes
from robustness.engine.jobs import AttackJob, Example
from robustness.engine.model_input import Shape, model_input
from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import GROUP, SMALL_BATCH
from robustness.numerics import prng
from robustness.threat.threat import Threat, room

State = dict[str, Any]

TRACING, ACCELERATED = 3 << 29, 256
"""Bytes of activations that a processor computes in the time that tracing a step for another batch size
takes; and the factor for an accelerator, which computes faster and compiles longer."""
HEAVY = 1 << 20
"""Bytes of activations above which a step of a row costs more than judging its file."""
LONG, STRETCH = 500, 32
"""Steps of an image, over all restarts, from which the longer tracing of several steps per call pays; and the
largest number of steps per call, so that an interruption takes effect."""


class CompiledBatch:
    """An attack compiled for one model, threat and batch size.

    Parameters
    ----------
    classifier, attack, threat
        The attacked model (the user's, or a surrogate), the attack, and its threat.
    batch_size
        The number of rows that advance together, each in its slot.
    seed
        The seed of the random numbers, which also depend on the image's key, the attack and the restart.
    canvas
        The shape (height, width, channels) of the pictures' canvas; for deployed models only.

    Attributes
    ----------
    input
        How points enter the model.
    passes
        (forward, backward) passes of a row in a step; known after the first step.
    watched
        Whether a step takes a gradient; the state's "blind" then counts useless ones.
    heavy
        Whether a step of a row costs more than judging its file.
    several
        Whether a call may do several steps.

    Raises
    ------
    SettingError
        The attack has no version for the threat's norm.
    """

    def __init__(
        self,
        classifier: Classifier,
        attack: Attack,
        threat: Threat,
        *,
        batch_size: int,
        seed: int,
        canvas: Shape | None = None,
    ) -> None:
        attack.expect_norm(threat.norm)
        gradients = attack.knowledge == "white-box"
        self.input = model_input(classifier, threat, canvas, gradients=gradients)
        if self.input.exact:
            attack = attack.on_files()
        self.classifier, self.attack, self.threat = classifier, attack, threat
        self._seed, self.batch_size = seed, batch_size
        self._bytes = row_bytes(classifier, self.input.shape)
        self.heavy = self._bytes > HEAVY
        # Rows that are loaded or rounded at a time: all at once if they are small.
        part = min(batch_size, max(SMALL_BATCH, batch_size // 4))
        self._chunk = part if self.heavy else batch_size
        self._tracing = TRACING * (ACCELERATED if backend.accelerated() else 1)
        self.passes = (0, 0)
        self.watched = False
        self._closest = attack.seeks == "closest"
        self._load = backend.compile(self._load_rows)
        # On a processor it is faster to copy than to trace a copy, and one copy serves all new rows.
        self._merge = backend.compile(_merge_rows) if backend.accelerated() else None
        # With a small network Python takes a fifth to a third of the time of a step.
        most = attack.steps * attack.restarts
        self.several = backend.fast_compiled_loops() and not self.heavy and most >= LONG
        self._step = backend.compile(self._step_rows_until if self.several else self._step_rows)
        self._round = backend.compile(self._round_rows)
        # If a smaller batch can never be worth tracing a step, no fingerprint is needed.
        self._shrinks = self._bytes * batch_size * attack.steps >= self._tracing
        self._same_bits: dict[tuple[int, int], bool] = {}

    def task(self, arrays: State) -> Task:
        """Return the `Task` made from the part "task" of a state."""
        threat = self.threat
        # Kept as bytes until here, so that loading copies less.
        images = ops.cast(arrays["images"], "float32")
        arrays = {**arrays, "images": images}
        mask = self.input.mask(arrays.pop("input"))
        return Task(norm=threat.norm, goal=threat.goal, mask=mask, **arrays)

    def _load_rows(
        self, images: Any, aims: Any, epsilon: Any, keys: Any, restart: Any, entering: Any
    ) -> State:
        arrays = {
            "input": entering,
            "images": images,
            "aims": aims,
            "epsilon": epsilon,
            "keys": keys,
            "restart": restart,
            "step": ops.zeros_like(aims),
        }
        task = self.task(arrays)
        own = first_state(self.attack, self.threat.norm, task)
        begun = {"task": arrays, "own": own, "blind": 0 * aims}
        if not self._closest:
            # The best point is the one that the last step evaluated.
            return begun
        best = {"point": task.images, "distance": 0 * epsilon + np.inf, "step": 0 * aims}
        return {**begun, "best": best}

    def make_look(self, task: Task, entering: State) -> Look:
        """Return the attack's look at the model for these rows; `entering` are the arrays of `input`."""
        logits = self.input.logits(task, entering)
        return Look(logits, task, self.attack.loss, self.attack.knowledge)

    def _step_rows(self, state: State) -> tuple[State, Any, Any]:
        """Advance every row by one step.

        Returns the changed part of the state, a mask of rows whose latest point reached the goal (for attacks
        that seek the closest point: of rows that are done), and a checksum of the model's outputs.
        """
        task = self.task(state["task"])
        look = self.make_look(task, state["task"]["input"])
        own = next_state(self.attack, self.threat.norm, task, state["own"], look)
        point, distance, reached = look.verdict()
        # Counted in Python while tracing: the passes are the same for every row.
        self.passes = (look.forward, look.backward)
        checksum = look.fingerprint() if self._shrinks else task.step
        step, blind = task.step + 1, look.blind()
        self.watched = blind is not None
        missed = state["blind"] if blind is None else state["blind"] + ops.cast(blind, "int32")
        after = {"step": step, "own": own, "blind": missed}
        if not self._closest:
            # The distance is not returned, so that it is not computed.
            return {**after, "best": {"point": point}}, reached, checksum
        kept = state["best"]
        nearer = ops.logical_and(reached, distance < kept["distance"])
        best = {
            "point": where_rows(nearer, point, kept["point"]),
            "distance": ops.where(nearer, distance, kept["distance"]),
            "step": ops.where(nearer, task.step, kept["step"]),
        }
        done = own.get("done", ops.zeros_like(reached))
        return {**after, "best": best}, done, checksum

    def _step_rows_until(
        self, state: State, watched: Any, most: Any
    ) -> tuple[State, Any, Any, Any]:
        """Repeat `_step_rows` until a `watched` (rows,) row reports, at most `most` times; count steps."""
        task, own = state["task"], state["own"]
        best = state.get("best", {"point": ops.cast(task["images"], "float32")})
        begun = {"step": task["step"], "own": own, "blind": state["blind"], "best": best}

        def more(_: Any, ready: Any, __: Any, steps: Any) -> Any:
            ended = ops.any(ops.logical_and(ready, watched))
            return ops.logical_and(steps < most, ops.logical_not(ended))

        def once(after: State, _: Any, __: Any, steps: Any) -> tuple[State, Any, Any, Any]:
            return *self._step_rows(_changed(state, after)), steps + 1

        none_ready = ops.zeros_like(task["aims"], "bool")
        start = (begun, none_ready, 0 * task["aims"], ops.zeros((), "int32"))
        return ops.while_loop(more, once, start)

    def _round_rows(self, rows: State, points: Any, radius: Any, index: Any) -> tuple[Any, Any]:
        norm = self.threat.norm
        images = ops.cast(ops.take(rows["images"], index, axis=0), "float32")
        delta = ops.take(points, index, axis=0) - images
        finite = ops.all(ops.isfinite(delta), axis=(1, 2, 3))
        delta = ops.where(ops.isfinite(delta), delta, 0.0)
        if self._closest:
            with calling("fill_budget", norm):
                delta = norm.fill_budget(delta, radius)
        mask = self.input.mask(
            tree.map_structure(lambda x: ops.take(x, index, axis=0), rows["input"])
        )
        low, high = room(images, mask)
        with calling("to_grid", norm):
            grid = images + norm.to_grid(delta, radius, low, high)
        return ops.cast(grid, "uint8"), finite

    def prepare(self) -> None:
        """Compile the functions that the first rows need."""
        black = Example("", np.zeros(self.input.shape, np.uint8), 0)
        state = self.load(None, [0], [AttackJob(black, self.threat.epsilons[0])])
        backend.precompile(self._step, *self._arguments(state, (), 1))
        index, radii = np.zeros(self._chunk, np.int32), np.zeros(self._chunk, np.float32)
        backend.precompile(self._round, _pictures(state), state["own"]["point"], radii, index)

    def load(self, state: State | None, slots: Sequence[int], jobs: Sequence[AttackJob]) -> State:
        """Load each job into its slot.

        Parameters
        ----------
        state
            The state of the batch; None before the first load.
        slots, jobs
            Slots and jobs, the same number of each, at least one.

        Returns
        -------
        The new state.

        Raises
        ------
        ValueError
            There are no jobs.
        """
        if not jobs:
            raise ValueError("load got no jobs; expected at least one.")
        new_rows = list(self._new_rows(slots, jobs))
        if state is None:
            state = tree.map_structure(lambda x: _repeated(x, self.batch_size), new_rows[0][0])
        return {**state, **self._merged(self._needed(state), new_rows)}

    def _needed(self, state: State) -> State:
        """The part of a state that a step reads."""
        parts = ("task", "own", "blind", *(["best"] * self._closest))
        return {part: state[part] for part in parts}

    def _merged(self, state: State, new_rows: Sequence[tuple[State, np.ndarray]]) -> State:
        if self._merge is None:
            return _merge_once(state, *zip(*new_rows, strict=True))
        for fresh, slots in new_rows:
            state = self._merge(state, fresh, slots)
        return state

    def _new_rows(
        self, slots: Sequence[int], jobs: Sequence[AttackJob]
    ) -> Iterator[tuple[State, np.ndarray]]:
        """Yield the first state of the jobs and their slots, in chunks of the traced size."""
        for start in range(0, len(jobs), self._chunk):
            part = list(jobs[start : start + self._chunk])
            targets = list(slots[start : start + self._chunk])
            # Padded with copies of the first job, all for the same slot.
            targets += [targets[0]] * (self._chunk - len(part))
            part += [part[0]] * (self._chunk - len(part))
            labels = np.array([job.example.label for job in part])
            rows = self._load(
                np.stack([job.example.pixels for job in part]),
                self.threat.goal.aims(labels),
                np.array([job.epsilon for job in part], np.float32),
                np.stack([self._key(job) for job in part]),
                np.array([job.restart for job in part], np.int32),
                self.input.arrays([job.example for job in part]),
            )
            yield rows, np.array(targets, np.int32)

    def size(self, state: State) -> int:
        """Return the batch size of a state, which may be a smaller batch."""
        return int(state["task"]["step"].shape[0])

    def shrink(self, state: State, slots: Sequence[int], steps: int) -> tuple[State, int] | None:
        """Move rows into a smaller batch, if that saves time and changes no outcome.

        Parameters
        ----------
        state
            The state of the batch.
        slots
            The slots of the rows to keep; these rows are the first of the smaller batch, in this order.
        steps
            The number of further steps that these rows may take.

        Returns
        -------
        The smaller state and its batch size. None if the empty slots cost less than tracing a step for
        another size, or if a step has other bits at that size: kernels choose the order of their sums by the
        batch size, and a resumed run must reach the same outcomes.
        """
        size = self.size(state)
        for smaller in dict.fromkeys((-(-len(slots) // GROUP) * GROUP, size // 2 // GROUP * GROUP)):
            if not self._shrinks or not len(slots) <= smaller <= size - GROUP:
                continue
            known = self._same_bits.get((size, smaller))
            # An untested size is traced, and needs a step at both sizes.
            price = 0 if known else self._tracing + (size + smaller) * self._bytes
            if known is False or steps * (size - smaller) * self._bytes < price:
                continue
            if self._gives_same_bits(state, smaller, slots):
                return _rows_of(state, [*slots, *[slots[0]] * (smaller - len(slots))]), smaller
        return None

    def _gives_same_bits(self, state: State, smaller: int, slots: Sequence[int]) -> bool:
        """Whether a step of rows of a state has the same bits in a smaller batch.

        The model's outputs and the attack's state after it are compared. Few rows are no proof: where sums
        have another order, one row in a hundred still has the same bits. So the rows of empty slots are
        compared too, and at least a group must be different from each other.
        """
        size = self.size(state)
        if (size, smaller) not in self._same_bits:
            others = [slot for slot in range(size) if slot not in slots]
            index = [*slots, *others][:smaller]
            before = [array[index] for array in self._after_a_step(state)]
            after = self._after_a_step(_rows_of(state, index))
            enough = len(np.unique(before[0])) >= min(smaller, GROUP)
            # As bytes: numbers that are not finite count as equal to themselves.
            same = all(x.tobytes() == y.tobytes() for x, y in zip(before, after, strict=True))
            self._same_bits[size, smaller] = enough and same
        return self._same_bits[size, smaller]

    def _after_a_step(self, state: State) -> list[np.ndarray]:
        """The fingerprint of the model's outputs in the next step, and the attack's state after it."""
        after, _, checksum, _ = self._advance(state, (), 1)
        return [ops.convert_to_numpy(x) for x in (checksum, *tree.flatten(after["own"]))]

    def _key(self, job: AttackJob) -> np.ndarray:
        """The key of a job, two words; all restarts of an image share the first."""
        first, _ = prng.key_for(self._seed, job.example.key, self.attack.name, 0)
        _, second = prng.key_for(self._seed, job.example.key, self.attack.name, job.restart)
        return np.array([first, second], np.int32)

    def step(self, state: State) -> tuple[State, np.ndarray]:
        """Advance all rows by one step; return the state and the mask as `step_until` does."""
        return self.step_until(state, (), 1)[:2]

    def step_until(
        self, state: State, watched: Sequence[int], most: int
    ) -> tuple[State, np.ndarray, int]:
        """Advance all rows until one of the slots `watched` reports.

        Parameters
        ----------
        state
            The state of the batch.
        watched
            The slots whose report ends the steps.
        most
            The largest number of steps.

        Returns
        -------
        The new state; a mask (slots,) of the rows that report, because their latest point reached the goal
        or, for attacks that seek the closest point, because they are done; and the number of steps, at
        least one.
        """
        after, ready, _, steps = self._advance(state, watched, most)
        reported = ops.convert_to_numpy(ready)
        self.input.expect_success()
        return _changed(state, after), reported, steps

    def _advance(
        self, state: State, watched: Sequence[int], most: int
    ) -> tuple[State, Any, Any, int]:
        arguments = self._arguments(state, watched, most)
        if not self.several:
            return *self._step(*arguments), 1
        after, ready, checksum, steps = self._step(*arguments)
        return after, ready, checksum, int(steps)

    def _arguments(self, state: State, watched: Sequence[int], most: int) -> tuple[Any, ...]:
        """The arguments of the compiled step."""
        state = self._needed(state)
        if not self.several:
            return (state,)
        mask = np.zeros(self.size(state), bool)
        mask[list(watched)] = True
        return state, mask, np.array(min(most, STRETCH), np.int32)

    def to_uint8(
        self, state: State, points: Any, slots: Sequence[int], radii: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Round points to 8-bit pictures within a radius of their images.

        Parameters
        ----------
        state
            The state of the batch; it holds the images.
        points
            (batch size, height, width, channels) counts.
        slots, radii
            The slots of the points to round, and the radius of each in the norm's unit.

        Returns
        -------
        Pictures (n, height, width, channels) uint8, and whether each point was finite, (n,) bool.
        """
        pictures, finite = [], []
        for start in range(0, len(slots), self._chunk):
            part = list(slots[start : start + self._chunk])
            fill = self._chunk - len(part)
            filled = [*radii[start : start + self._chunk], *[radii[start]] * fill]
            radius = np.array(filled, np.float32)
            index = np.array(part + [part[0]] * fill, np.int32)
            grid, fine = self._round(_pictures(state), points, radius, index)
            pictures.append(ops.convert_to_numpy(grid)[: len(part)])
            finite.append(ops.convert_to_numpy(fine)[: len(part)])
        return np.concatenate(pictures), np.concatenate(finite)


def _pictures(state: State) -> State:
    """The parts of a state that rounding reads."""
    return {name: state["task"][name] for name in ("images", "input")}


def _changed(state: State, after: State) -> State:
    """`state` with the parts that a step changes replaced."""
    return {
        "task": {**state["task"], "step": after["step"]},
        "own": after["own"],
        "blind": after["blind"],
        "best": after["best"],
    }


def _rows_of(state: State, slots: Sequence[int]) -> State:
    """The rows of a state in these slots, in this order."""
    index = np.array(slots, np.int32)
    return tree.map_structure(lambda x: ops.take(x, index, axis=0), state)


def _repeated(x: Any, rows: int) -> Any:
    """The first row of `x`, repeated."""
    return ops.convert_to_tensor(np.repeat(ops.convert_to_numpy(x)[:1], rows, axis=0))


def _merge_rows(state: State, fresh: State, slots: Any) -> State:
    where = slots[:, None]
    return tree.map_structure(lambda old, new: ops.scatter_update(old, where, new), state, fresh)


def _merge_once(state: State, fresh: Sequence[State], slots: Sequence[np.ndarray]) -> State:
    """`_merge_rows` for several parts at once, which copies `state` only once."""
    # In the backend's memory: NumPy takes longer to allocate new memory than to fill it.
    together = tree.map_structure(lambda *parts: ops.concatenate(parts, axis=0), *fresh)
    return _merge_rows(state, together, ops.convert_to_tensor(np.concatenate(slots)))
