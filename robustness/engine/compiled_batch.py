"""The compiled half of every program that runs an attack: rows enter, advance, are snapped to 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from robustness import backend
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.engine.batch_size import row_bytes
from robustness.engine.jobs import AttackJob, Example
from robustness.models.classifier import GROUP, SMALL_BATCH, Classifier
from robustness.numerics import prng
from robustness.numerics.losses import LOSSES
from robustness.threat.threat import Threat

State = dict[str, Any]

TRACING, ACCELERATED = 3 << 29, 256
"""Bytes of activations that a processor gets through while a step is traced for other slots; and how many
times as many an accelerator does, which compiles longer, too."""

HEAVY = 1 << 20
"""Bytes of activations from which on a step of a row costs more than a look at its file."""

LONG, STRETCH = 500, 32
"""Steps of an image, over all its restarts, that pay for the longer tracing of several steps a call; and how
many those are at most, so that an interruption is heard."""


class CompiledBatch:
    """The compiled half of a program: rows enter, advance, and are snapped to the 8-bit grid."""

    def __init__(
        self, classifier: Classifier, attack: Attack, threat: Threat, *, slots: int, seed: int
    ) -> None:
        attack.expect_norm(threat.norm)
        self.classifier, self._attack, self._threat = classifier, attack, threat
        self._seed, self.slots = seed, slots
        self._bytes = row_bytes(classifier)
        self.heavy = self._bytes > HEAVY
        # Rows that enter, or are snapped, at a time: small ones all at once, filled up as they are.
        self._chunk = min(slots, max(SMALL_BATCH, slots // 4)) if self.heavy else slots
        self._tracing = TRACING * (ACCELERATED if backend.accelerated() else 1)
        self.passes = (0, 0)
        self.watched = False
        """Whether a step asks for a gradient, so that the state's "blind" tells how often it was none."""
        self._closest = attack.seeks == "closest"
        self._begin = backend.compile(self._begin_rows)
        # On a processor copying is quicker than tracing how to copy, and copies once for all that enter.
        self._merge = backend.compile(_merge_rows) if backend.accelerated() else None
        # Whether a call takes several steps: of a small network, Python's part in a step takes a fifth to
        # a third as long as the step.
        most = attack.steps * attack.restarts
        self.several = backend.fast_compiled_loops() and not self.heavy and most >= LONG
        self._advance = backend.compile(self._run_rows if self.several else self._advance_rows)
        self._snap = backend.compile(self._snap_rows)
        # Where fewer slots can never be worth a tracing, a step need not say what was answered.
        self._narrows = self._bytes * slots * attack.steps >= self._tracing
        self._alike: dict[tuple[int, int], bool] = {}

    def task(self, arrays: State) -> Task:
        """The task of the rows of a state's part "task"."""
        threat = self._threat
        # Bytes until they are looked at: rows that enter are copied.
        images = ops.cast(arrays["images"], "float32")
        arrays = {**arrays, "images": images}
        return Task(norm=threat.norm, goal=threat.goal, mask=threat.weights, **arrays)

    def _begin_rows(self, images: Any, aims: Any, epsilon: Any, keys: Any, restart: Any) -> State:
        arrays = {
            "images": images,
            "aims": aims,
            "epsilon": epsilon,
            "keys": keys,
            "restart": restart,
            "step": ops.zeros_like(aims),
        }
        task = self.task(arrays)
        begun = {"task": arrays, "own": self._attack.init(task), "blind": 0 * aims}
        if not self._closest:
            # The point that a step looked at is its best, whatever was before.
            return begun
        best = {"point": task.images, "distance": 0 * epsilon + np.inf, "step": 0 * aims}
        return {**begun, "best": best}

    def _look(self, task: Task) -> Look:
        return Look(self.classifier.logits, task, self._attack.loss, self._attack.knowledge)

    def _advance_rows(self, state: State) -> tuple[State, Any, Any]:
        """What changes of the state, which rows have something to say, and a fingerprint of the answers.

        That is a look that reached the goal, or of the closest that nothing nearer is looked for.
        """
        task = self.task(state["task"])
        look = self._look(task)
        own = self._attack.step(task, state["own"], look)
        point, distance, reached = look.verdict()
        # Ordinary Python at tracing time: every row pays the same.
        self.passes = (look.forward, look.backward)
        told = look.fingerprint() if self._narrows else task.step
        step, blind = task.step + 1, look.blind()
        self.watched = blind is not None
        missed = state["blind"] if blind is None else state["blind"] + ops.cast(blind, "int32")
        after = {"step": step, "own": own, "blind": missed}
        if not self._closest:
            # Nothing that asks for a distance: it would be computed at every step.
            return {**after, "best": {"point": point}}, reached, told
        kept = state["best"]
        nearer = ops.logical_and(reached, distance < kept["distance"])
        best = {
            "point": ops.where(task.per_row(nearer), point, kept["point"]),
            "distance": ops.where(nearer, distance, kept["distance"]),
            "step": ops.where(nearer, task.step, kept["step"]),
        }
        done = own.get("done", ops.zeros_like(reached))
        return {**after, "best": best}, done, told

    def _run_rows(self, state: State, watched: Any, most: Any) -> tuple[State, Any, Any, Any]:
        """`_advance_rows`, at most so often, until a row that is `watched` (rows,) has something to say.

        The last is how often.
        """
        task, own = state["task"], state["own"]
        best = state.get("best", {"point": ops.cast(task["images"], "float32")})
        begun = {"step": task["step"], "own": own, "blind": state["blind"], "best": best}

        def more(_: Any, said: Any, __: Any, steps: Any) -> Any:
            heard = ops.any(ops.logical_and(said, watched))
            return ops.logical_and(steps < most, ops.logical_not(heard))

        def once(after: State, _: Any, __: Any, steps: Any) -> tuple[State, Any, Any, Any]:
            return *self._advance_rows(_changed(state, after)), steps + 1

        silent = ops.zeros_like(task["aims"], "bool")
        return ops.while_loop(more, once, (begun, silent, 0 * task["aims"], ops.zeros((), "int32")))

    def _snap_rows(self, images: Any, points: Any, radius: Any, index: Any) -> tuple[Any, Any]:
        images = ops.cast(ops.take(images, index, axis=0), "float32")
        delta = ops.take(points, index, axis=0) - images
        finite = ops.all(ops.isfinite(delta), axis=(1, 2, 3))
        delta = ops.where(ops.isfinite(delta), delta, 0.0)
        if self._closest:
            delta = self._threat.norm.fill_budget(delta, radius)
        low, high = self._threat.room(images)
        grid = images + self._threat.norm.to_grid(delta, radius, low, high)
        return ops.cast(grid, "uint8"), finite

    def prepare(self) -> None:
        """Do now what the first rows would wait for: compiling."""
        black = Example("", np.zeros(self.classifier.input_shape, np.uint8), 0)
        state = self.enter(None, [0], [AttackJob(black, self._threat.epsilons[0])])
        backend.precompile(self._advance, *self._given(state, (), 1))
        index, radii = np.zeros(self._chunk, np.int32), np.zeros(self._chunk, np.float32)
        images = state["task"]["images"]
        backend.precompile(self._snap, images, state["own"]["point"], radii, index)

    def enter(self, state: State | None, where: Sequence[int], what: Sequence[AttackJob]) -> State:
        """`state` with each place loaded into its slot."""
        if not what:
            raise ValueError("enter needs at least one job")
        begun = list(self._begun(where, what))
        if state is None:
            state = tree.map_structure(lambda x: _repeated(x, self.slots), begun[0][0])
        return {**state, **self._merged(self._needed(state), begun)}

    def _needed(self, state: State) -> State:
        """What a step reads of a state."""
        parts = ("task", "own", "blind", *(["best"] * self._closest))
        return {part: state[part] for part in parts}

    def _merged(self, state: State, begun: Sequence[tuple[State, np.ndarray]]) -> State:
        if self._merge is None:
            return _put(state, *zip(*begun, strict=True))
        for fresh, slots in begun:
            state = self._merge(state, fresh, slots)
        return state

    def _begun(
        self, where: Sequence[int], what: Sequence[AttackJob]
    ) -> Iterator[tuple[State, np.ndarray]]:
        """The places as rows, so many at a time as were traced, and the slots they are for."""
        for start in range(0, len(what), self._chunk):
            jobs = list(what[start : start + self._chunk])
            slots = list(where[start : start + self._chunk])
            # Filled up with the first, again and again into the same slot.
            slots += [slots[0]] * (self._chunk - len(jobs))
            jobs += [jobs[0]] * (self._chunk - len(jobs))
            labels = np.array([job.subject.label for job in jobs])
            rows = self._begin(
                np.stack([job.subject.pixels for job in jobs]),
                self._threat.goal.aims(labels),
                np.array([job.epsilon for job in jobs], np.float32),
                np.stack([self._key(job) for job in jobs]),
                np.array([job.restart for job in jobs], np.int32),
            )
            yield rows, np.array(slots, np.int32)

    def count(self, state: State) -> int:
        """How many slots a state has."""
        return int(state["task"]["step"].shape[0])

    def narrow(self, state: State, places: Sequence[int], steps: int) -> tuple[State, int] | None:
        """The rows of `places`, in this order, in a state of fewer slots, and how many; see `iterate`.

        None where the empty slots cost less in `steps` more than tracing a step for fewer would, and
        where the model answers with other bits in fewer: kernels choose by the size of the batch how
        they add up, and a run that was killed and resumed must come to the same outcomes.
        """
        there = self.count(state)
        for slots in dict.fromkeys((-(-len(places) // GROUP) * GROUP, there // 2 // GROUP * GROUP)):
            if not self._narrows or not len(places) <= slots <= there - GROUP:
                continue
            known = self._alike.get((there, slots))
            # What is not known yet is traced, and takes a step of either.
            price = 0 if known else self._tracing + (there + slots) * self._bytes
            if known is False or steps * (there - slots) * self._bytes < price:
                continue
            index = np.array([*places, *[places[0]] * (slots - len(places))], np.int32)
            fewer = tree.map_structure(lambda x, i=index: ops.take(x, i, axis=0), state)
            if self._same(state, fewer, index):
                return fewer, slots
        return None

    def _same(self, state: State, fewer: State, index: np.ndarray) -> bool:
        """Whether the rows `index` of a state get the same answers, to the bit, as those of `fewer`."""
        sizes = (self.count(state), len(index))
        if sizes not in self._alike:
            many, few = (self._read(s) for s in (state, fewer))
            self._alike[sizes] = bool((many[index] == few).all())
        return self._alike[sizes]

    def _read(self, state: State) -> np.ndarray:
        """The fingerprint of what the model answers in the next step."""
        return ops.convert_to_numpy(self._run(state, (), 1)[2])

    def _key(self, job: AttackJob) -> np.ndarray:
        """Two words, the first of which all restarts of an image have in common."""
        first, _ = prng.key_for(self._seed, job.subject.key, self._attack.name, 0)
        _, second = prng.key_for(self._seed, job.subject.key, self._attack.name, job.restart)
        return np.array([first, second], np.int32)

    def advance(self, state: State) -> tuple[State, np.ndarray]:
        """One step of all rows, and which have something to say (slots,): see `run`."""
        return self.run(state, (), 1)[:2]

    def run(self, state: State, watched: Sequence[int], most: int) -> tuple[State, np.ndarray, int]:
        """Steps of all rows, at most `most`, that end when one of the slots `watched` has something to say.

        Which have (slots,) bool: a looked-at point of theirs reached the goal; of an attack that seeks the
        closest, that it looks for nothing nearer. And how many steps there were, one or more.
        """
        after, said, _, steps = self._run(state, watched, most)
        return _changed(state, after), ops.convert_to_numpy(said), steps

    def _run(self, state: State, watched: Sequence[int], most: int) -> tuple[State, Any, Any, int]:
        given = self._given(state, watched, most)
        if not self.several:
            return *self._advance(*given), 1
        after, said, told, steps = self._advance(*given)
        return after, said, told, int(steps)

    def _given(self, state: State, watched: Sequence[int], most: int) -> tuple[Any, ...]:
        """What the compiled step takes."""
        state = self._needed(state)
        if not self.several:
            return (state,)
        mask = np.zeros(self.count(state), bool)
        mask[list(watched)] = True
        return state, mask, np.array(min(most, STRETCH), np.int32)

    def snap(
        self, state: State, points: Any, where: Sequence[int], radii: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of `points` as uint8 pictures within `radii`, and whether they were finite."""
        grids, finite = [], []
        for start in range(0, len(where), self._chunk):
            some = list(where[start : start + self._chunk])
            fill = self._chunk - len(some)
            filled = [*radii[start : start + self._chunk], *[radii[start]] * fill]
            radius = np.array(filled, np.float32)
            index = np.array(some + [some[0]] * fill, np.int32)
            grid, fine = self._snap(state["task"]["images"], points, radius, index)
            grids.append(ops.convert_to_numpy(grid)[: len(some)])
            finite.append(ops.convert_to_numpy(fine)[: len(some)])
        return np.concatenate(grids), np.concatenate(finite)

    def slopes(
        self, pictures: Sequence[np.ndarray], subjects: Sequence[Example]
    ) -> tuple[np.ndarray, np.ndarray]:
        """How fast the goal comes nearer at each picture, and by how much it is reached, in logits.

        A forward and a backward pass each, in whole groups, so that no row depends on its neighbours.

        Parameters
        ----------
        pictures : (height, width, channels) uint8 each.
        subjects : of which image each is made.

        Returns
        -------
        The gradients (n, height, width, channels), and the leads (n,), negative where the goal is not
        reached.

        Raises
        ------
        AttackError
            The attack knows no gradients.
        """
        found = [
            self._slopes(pictures[i : i + GROUP], subjects[i : i + GROUP])
            for i in range(0, len(pictures), GROUP)
        ]
        return np.concatenate([g for g, _ in found]), np.concatenate([v for _, v in found])

    def _slopes(
        self, pictures: Sequence[np.ndarray], subjects: Sequence[Example]
    ) -> tuple[np.ndarray, np.ndarray]:
        spare = GROUP - len(pictures)
        points = np.stack([*pictures, *[pictures[0]] * spare]).astype("float32")
        some = [*subjects, *[subjects[0]] * spare]
        aims = ops.convert_to_tensor(self._threat.goal.aims(np.array([s.label for s in some])))
        whole = ops.zeros_like(aims)
        arrays = {"images": np.stack([s.pixels for s in some]), "aims": aims, "restart": whole}
        arrays |= {"epsilon": ops.cast(whole, "float32"), "step": whole}
        arrays["keys"] = np.zeros((GROUP, 2), np.int32)
        seen = self._look(self.task(arrays))(ops.convert_to_tensor(points))

        def behind(logits: Any) -> Any:
            return self._threat.goal.loss(LOSSES["margin"], logits, aims)

        gradient, value = seen.gradient_of(behind), behind(seen.logits)
        count = len(pictures)
        return -ops.convert_to_numpy(gradient)[:count], -ops.convert_to_numpy(value)[:count]


def _changed(state: State, after: State) -> State:
    """`state` with what steps changed of it."""
    return {
        "task": {**state["task"], "step": after["step"]},
        "own": after["own"],
        "blind": after["blind"],
        "best": after["best"],
    }


def _repeated(x: Any, rows: int) -> Any:
    """The first row of `x`, so many times."""
    return ops.convert_to_tensor(np.repeat(ops.convert_to_numpy(x)[:1], rows, axis=0))


def _merge_rows(state: State, fresh: State, slots: Any) -> State:
    where = slots[:, None]
    return tree.map_structure(lambda old, new: ops.scatter_update(old, where, new), state, fresh)


def _put(state: State, fresh: Sequence[State], slots: Sequence[np.ndarray]) -> State:
    """`_merge_rows` of several at once, which copies `state` once.

    In the backend's memory: fresh memory of NumPy's takes longer to be given than to be filled.
    """
    together = tree.map_structure(lambda *parts: ops.concatenate(parts, axis=0), *fresh)
    return _merge_rows(state, together, ops.convert_to_tensor(np.concatenate(slots)))
