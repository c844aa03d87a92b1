"""HopSkipJump: the smallest change by labels alone, along the decision boundary."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from keras import ops

from robustness.attacks.square import LEAST_QUERIES
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import LEAST_PROBE, Attack
from robustness.contract.look import Evaluation, Look
from robustness.contract.task import FAR, Task, where_rows
from robustness.contract.types import Knowledge, State
from robustness.threat.norms import Norm

GRIDS = 1, 2, 4, 8
"""Grid sizes of random images; coarse ones first, since a network gives all fine noise the same class."""
MEMORY = 0.95
"""Weight of earlier probes in the next round; less than one, since the boundary is curved."""
PATIENCE = 10
"""Most steps to find an image of another class."""


@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Attack):
    """HopSkipJump: find the smallest change that flips, from predicted classes alone.

    A row is in one of four phases: `Seek` any image that flips, `Narrow` down the boundary on the way to the
    image, `Probe` its normal, `Jump` along that; the last three repeat. Each phase makes `points` queries
    per step. Three things differ from the paper: probes are orthogonal to each other and count in later
    rounds too; of `starts` in different classes, which share the first half of the steps, the nearest
    continues; and no probe is so small that float32 would lose it.

    References
    ----------
    Chen et al. 2020, arXiv:1904.02144, alg. 2.
    """

    name: ClassVar[str] = "hopskipjump"
    padded: ClassVar[bool] = False
    paper: ClassVar[str] = "Chen et al. 2020, arXiv:1904.02144"
    knowledge: ClassVar[Knowledge] = "decision"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    steps: int = setting(1000, "number of steps", low=1, high=1_000_000)
    points: int = setting(5, "queries per step", low=2, high=1000)
    starts: int = setting(3, "classes whose boundary is tried", low=1, high=100)
    initial_probes: int = setting(100, "probes for the first normal", low=2, high=100_000)
    probe: float = setting(0.02, "least root mean square of a probe, in counts", low=1e-3, high=10)

    @property
    def width(self) -> int:
        return self.points

    def on_files(self) -> Attack:
        return replace(self, probe=max(self.probe, LEAST_PROBE))

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        # Fewer queries find a boundary at best, without approaching the image again.
        return math.inf if self.steps * self.points >= LEAST_QUERIES else 0.0

    def init(self, task: Task) -> State:
        tried = ops.repeat(0 * task.restart[:, None] - 1, self.starts, axis=1)
        kept = {f"kept.{name}": value for name, value in _untried(task).items()}
        return _untried(task) | kept | {"trial": 0 * task.restart, "tried": tried}

    def step(self, task: Task, state: State, look: Look) -> State:
        noise = task.uniform((self.points, *task.images.shape[1:]))
        points = task.images[:, None]
        for number, phase in enumerate(PHASES):
            now = state["phase"] == number
            points = where_rows(now, phase.points(self, task, state, noise), points)
        points = task.clip(points)
        output, after = look(points), state
        for number, phase in enumerate(PHASES):
            changed = phase.after(self, task, state, points, output)
            after = after | where_rows(state["phase"] != number, after, changed)
        return after if self.starts == 1 else after | _relay(self, task, after)

    def grain(self, task: Task, state: State) -> Any:
        """The root mean square of a probe in counts, (rows,)."""
        size = math.prod(task.images.shape[1:])
        return ops.maximum(task.distance(state["point"]) / size**1.5, self.probe)


SEEK, NARROW, PROBE, JUMP = range(4)


def _untried(task: Task) -> State:
    """The state of a search that has not begun."""
    zero, image, whole = 0 * task.epsilon, task.images, 0 * task.restart
    search = {"low": zero, "high": zero + 1.0, "length": zero, "asked": zero}
    felt = {"weight": zero, "hits": zero, "hit_sum": 0 * image, "sum": 0 * image}
    counts = dict.fromkeys(("phase", "round", "tries", "sought", "probed", "label"), whole)
    return search | felt | counts | {"point": image, "flip": image, "normal": 0 * image}


def _relay(attack: HopSkipJump, task: Task, state: State) -> State:
    """At the end of a trial: start one for another class, or continue from the nearest boundary found."""
    trial, seeks = state["trial"], state["phase"] == SEEK
    ends = task.step + 1 >= (trial + 1) * max(attack.steps // (2 * attack.starts), 1)
    vain = ops.logical_and(seeks, ops.logical_and(trial > 0, state["sought"] >= PATIENCE))
    over = ops.logical_and(trial < attack.starts, ops.logical_or(ends, vain))
    here = {name: state[name] for name in _untried(task)}
    kept = {name: state[f"kept.{name}"] for name in here}
    kept = where_rows(_far(task, here) >= _far(task, kept), kept, here)
    last = ops.logical_or(vain, trial + 1 >= attack.starts)
    phase = ops.where(_far(task, kept) < FAR, PROBE, SEEK)
    after = where_rows(last, kept | {"phase": phase, "asked": 0 * kept["asked"]}, _untried(task))
    which = ops.arange(attack.starts)[None] == trial[:, None]
    return where_rows(
        ops.logical_not(over),
        state,
        {
            **after,
            **{f"kept.{name}": value for name, value in kept.items()},
            "trial": ops.where(last, attack.starts, trial + 1),
            "tried": ops.where(which, state["label"][:, None], state["tried"]),
        },
    )


def _far(task: Task, search: State) -> Any:
    """The distance of the boundary found, (rows,); FAR if none was found."""
    far = task.distance(search["point"])
    return ops.where(far > 0, far, FAR)


class Phase(ABC):
    """One phase of the attack: the queries of a row, and how their outputs change its state."""

    @abstractmethod
    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        """The queries (rows, k, h, w, c); `noise` is uniform in (0, 1), of that shape."""

    @abstractmethod
    def after(
        self, attack: HopSkipJump, task: Task, state: State, points: Any, output: Evaluation
    ) -> State:
        """The changed parts of the state."""


class Seek(Phase):
    """Evaluate random images, from one colour to fine noise, until one has a class that was not tried."""

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        pictures = []
        for number in range(attack.points):
            picture = 255 * noise[:, number]
            if number < len(GRIDS):
                for axis in (1, 2):
                    side = picture.shape[axis]
                    coarse = np.arange(side) * min(GRIDS[number], side) // side
                    picture = ops.take(picture, coarse.astype("int32"), axis=axis)
            pictures.append(picture)
        return ops.stack(pictures, axis=1)

    def after(
        self, attack: HopSkipJump, task: Task, state: State, points: Any, output: Evaluation
    ) -> State:
        old = ops.any(output.label[:, :, None] == state["tried"][:, None], axis=2)
        any_hit, flipped = _first(points, ops.logical_and(output.hit, ops.logical_not(old)), output)
        return where_rows(ops.logical_not(any_hit), state, flipped) | {
            "sought": state["sought"] + 1,
            "phase": ops.where(any_hit, NARROW, state["phase"]),
        }


class Narrow(Phase):
    """Divide the way from the image to the flip, until the boundary is located to the size of a probe."""

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        parts = ops.arange(1, attack.points + 1, dtype="float32") / (attack.points + 1)
        shares = state["low"][:, None] + (state["high"] - state["low"])[:, None] * parts
        return _between(task, state["flip"], shares)

    def after(
        self, attack: HopSkipJump, task: Task, state: State, points: Any, output: Evaluation
    ) -> State:
        hit = output.hit
        parts = attack.points + 1
        first = ops.cast(ops.argmax(ops.cast(hit, "int32"), axis=1), "float32")
        first = ops.where(ops.any(hit, axis=1), first, float(attack.points))
        part = (state["high"] - state["low"]) / parts
        low = state["low"] + first * part
        high = ops.where(first < attack.points, low + part, state["high"])
        point = _between(task, state["flip"], high[:, None])[:, 0]
        width = (high - low) * task.distance(state["flip"])
        ready = width <= attack.grain(task, state) * NARROWEST[task.norm.name](task)
        # The limit of float32.
        ready = ops.logical_or(ready, high - low <= 1e-6)
        return {
            "low": low,
            "high": high,
            "point": where_rows(ready, point, state["point"]),
            "phase": ops.where(ready, PROBE, NARROW),
            "asked": 0 * state["asked"],
        }


class Probe(Phase):
    """Estimate the normal of the boundary: the mean of probes around a point of it, weighted by their class.

    The probes are rows of a Hadamard matrix whose columns get random signs, new ones once all rows were
    used. Where an image has fewer components than there are probes, such orthogonal probes carry nearly
    three times the information of independent ones.
    """

    def _length(self, attack: HopSkipJump, task: Task, state: State) -> Any:
        return ops.reshape(attack.grain(task, state), (-1, 1, 1, 1, 1))

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        shape = tuple(task.images.shape[1:])
        size = math.prod(shape)
        rows = 1 << (size - 1).bit_length()
        number = state["probed"][:, None] % rows + ops.arange(attack.points, dtype="int32")
        bits = ops.bitwise_and(number[:, :, None], ops.arange(size, dtype="int32"))
        for shift in (16, 8, 4, 2, 1):
            bits = ops.bitwise_xor(bits, ops.bitwise_right_shift(bits, shift))
        ways = ops.reshape(1 - 2 * ops.bitwise_and(bits, 1), (-1, attack.points, *shape))
        again = replace(task, step=state["probed"] // rows).uniform(shape, 1)
        signs = ops.where(again < 0.5, -1.0, 1.0)[:, None]
        length = self._length(attack, task, state)
        return state["point"][:, None] + length * signs * ops.cast(ways, "float32")

    def after(
        self, attack: HopSkipJump, task: Task, state: State, points: Any, output: Evaluation
    ) -> State:
        way = (points - state["point"][:, None]) / self._length(attack, task, state)
        sign = 2 * ops.cast(output.hit, "float32") - 1
        hit_sum = state["hit_sum"] + ops.einsum("nk,nkhwc->nhwc", sign, way)
        total = state["sum"] + ops.sum(way, axis=1)
        weight, hits = state["weight"] + attack.points, state["hits"] + ops.sum(sign, axis=1)
        round_number = ops.cast(state["round"], "float32") + 1
        asked = state["asked"] + attack.points
        enough = asked >= attack.initial_probes * ops.sqrt(round_number)
        mean = task.per_row(hits / weight)
        # Subtracting the mean reduces the variance; where all probes agree, only the mean is left.
        normal = ops.where(ops.abs(mean) > 0.999, mean * total, hit_sum - mean * total)
        left = ops.where(enough, MEMORY, 1.0)
        return {
            "normal": task.norm.steepest(normal),
            "hit_sum": task.per_row(left) * hit_sum,
            "sum": task.per_row(left) * total,
            "weight": left * weight,
            "hits": left * hits,
            "asked": asked,
            "probed": state["probed"] + attack.points,
            "length": task.distance(state["point"]) / ops.sqrt(round_number),
            "tries": 0 * state["tries"],
            "phase": ops.where(enough, JUMP, PROBE),
        }


class Jump(Phase):
    """Move along the normal as far as the class stays different, then narrow again."""

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        halved = ops.convert_to_tensor(0.5 ** np.arange(attack.points, dtype="float32"))
        lengths = ops.reshape(state["length"][:, None] * halved, (-1, attack.points, 1, 1, 1))
        return state["point"][:, None] + lengths * state["normal"][:, None]

    def after(
        self, attack: HopSkipJump, task: Task, state: State, points: Any, output: Evaluation
    ) -> State:
        any_hit, flipped = _first(points, output.hit, output)
        tries = state["tries"] + 1
        # No jump flips, so the normal was wrong: it is estimated again from new probes only.
        vain = ops.logical_and(ops.logical_not(any_hit), tries >= 3)
        over = ops.cast(ops.logical_or(any_hit, vain), "int32")
        zero = 0 * state["low"]
        felt = {name: state[name] for name in ("hit_sum", "sum", "weight", "hits", "asked")}
        return {
            **where_rows(ops.logical_not(any_hit), state, flipped),
            **where_rows(
                ops.logical_not(vain), felt, {name: 0 * value for name, value in felt.items()}
            ),
            "low": zero,
            "high": zero + 1.0,
            "length": state["length"] * 0.5**attack.points,
            "tries": tries,
            "round": state["round"] + over,
            "phase": ops.where(any_hit, NARROW, ops.where(vain, PROBE, JUMP)),
        }


PHASES: tuple[Phase, ...] = (Seek(), Narrow(), Probe(), Jump())


def _first(points: Any, hit: Any, output: Evaluation) -> tuple[Any, State]:
    """Whether any of the points (rows, k, h, w, c) is a hit, and the first hit with its class."""
    chosen = ops.argmax(ops.cast(hit, "int32"), axis=1)
    picture = ops.take_along_axis(points, chosen[:, None, None, None, None], axis=1)[:, 0]
    label = ops.take_along_axis(output.label, chosen[:, None], axis=1)[:, 0]
    return ops.any(hit, axis=1), {"flip": picture, "label": ops.cast(label, "int32")}


def _between(task: Task, flip: Any, shares: Any) -> Any:
    """Points (rows, k, h, w, c) at `shares` (rows, k) of the way from the images to `flip`."""
    change = (flip - task.images)[:, None]
    share = ops.reshape(shares, (-1, shares.shape[1], 1, 1, 1))
    far = ops.reshape(task.distance(flip), (-1, 1, 1, 1, 1))
    return task.images[:, None] + WAYS[task.norm.name](change, share, far)


def _cut(change: Any, share: Any, far: Any) -> Any:
    return ops.maximum(ops.minimum(change, share * far), -share * far)


WAYS: dict[str, Callable[[Any, Any, Any], Any]] = {"l2": lambda c, s, _: s * c, "linf": _cut}
"""How a change is made smaller: along the line (l2), or by clipping components to a share (linf)."""

NARROWEST: dict[str, Callable[[Task], float]] = {
    "l2": lambda task: 1.0,
    "linf": lambda task: 1 / math.sqrt(math.prod(task.images.shape[1:])),
}
"""How precisely the boundary is located, in multiples of `HopSkipJump.grain`."""
