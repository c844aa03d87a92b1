"""HopSkipJump."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from keras import ops

from attacks.starts import held
from robustness.attack import Attack, Knowledge, Look, State, Task
from robustness.lanes import alone
from robustness.settings import setting

GRIDS = 1, 2, 4, 8
"""Coarse pictures are tried first: a network calls all fine noise the same."""


@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Attack):
    """Smallest change by decisions alone: find the boundary, feel which way it faces, jump, again.

    Chen et al. 2020, arXiv:1904.02144, alg. 2. A row is in one of four phases: it seeks any picture
    that flips, narrows down the boundary on the way to the image, probes its normal, jumps. Each phase
    asks `points` queries a step: narrowing splits into that many parts and one, jumps are tried
    with that many halvings. Probes are never so small that float32 loses them, as the paper's would
    be in pictures of many pixels (a component moves by dist / d^1.5).
    """

    name: ClassVar[str] = "hopskipjump"
    paper: ClassVar[str] = "Chen et al. 2020, arXiv:1904.02144"
    knowledge: ClassVar[Knowledge] = "decision"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    steps: int = setting(1000, "number of steps", low=1, high=1_000_000)
    points: int = setting(5, "queries a step", low=2, high=1000)
    initial_probes: int = setting(100, "probes of the first normal", low=2, high=100_000)
    probe: float = setting(0.02, "least size of a probe, in counts a component", low=1e-3, high=10)

    @property
    def width(self) -> int:
        return self.points

    def init(self, task: Task) -> State:
        zero, image = 0 * task.epsilon, task.images
        search = {"low": zero, "high": zero + 1.0, "length": zero, "asked": zero, "hits": zero}
        pictures = {"point": image, "flip": image, "hit_sum": 0 * image, "sum": 0 * image}
        whole = 0 * task.restart
        return search | pictures | {"phase": whole, "round": whole, "tries": whole}

    def step(self, task: Task, state: State, look: Look) -> State:
        noise = task.normal((self.points, *task.images.shape[1:]))
        points = task.images[:, None]
        for number, phase in enumerate(PHASES):
            now = ops.reshape(state["phase"] == number, (-1, 1, 1, 1, 1))
            points = ops.where(now, phase.points(self, task, state, noise), points)
        points = task.clip(points)
        hit = look(points).hit
        after = state
        for number, phase in enumerate(PHASES):
            changed = phase.after(self, task, state, points, hit)
            after = after | held(state["phase"] != number, after, changed)
        return after

    def grain(self, task: Task, state: State) -> Any:
        """Size of a probe in root mean squares of counts, (rows,)."""
        size = math.prod(task.images.shape[1:])
        return ops.maximum(task.distance(state["point"]) / size**1.5, self.probe)


SEEK, NARROW, PROBE, JUMP = range(4)


class Phase(ABC):
    """What a row asks, and what it makes of the answers."""

    @abstractmethod
    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        """The queries (rows, k, h, w, c); `noise` is standard normal, of that shape."""

    @abstractmethod
    def after(self, attack: HopSkipJump, task: Task, state: State, points: Any, hit: Any) -> State:
        """What of the state changes."""


class Seek(Phase):
    """Random pictures, from one colour to fine noise, until one reaches the goal."""

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        level = 127.5 * (1 + alone(ops.erf, noise * 0.5**0.5))
        found = []
        for number in range(attack.points):
            picture = level[:, number]
            if number < len(GRIDS):
                for axis in (1, 2):
                    side = picture.shape[axis]
                    coarse = np.arange(side) * min(GRIDS[number], side) // side
                    picture = ops.take(picture, coarse.astype("int32"), axis=axis)
            found.append(picture)
        return ops.stack(found, axis=1)

    def after(self, attack: HopSkipJump, task: Task, state: State, points: Any, hit: Any) -> State:
        any_hit, picture = _first(points, hit)
        return {
            "flip": ops.where(task.per_row(any_hit), picture, state["flip"]),
            "phase": ops.where(any_hit, NARROW, state["phase"]),
        }


class Narrow(Phase):
    """On the way from the image to the flip, down to where pictures begin to flip."""

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        parts = np.arange(1, attack.points + 1, dtype="float32") / (attack.points + 1)
        shares = state["low"][:, None] + (state["high"] - state["low"])[:, None] * parts
        return _between(task, state["flip"], shares)

    def after(self, attack: HopSkipJump, task: Task, state: State, points: Any, hit: Any) -> State:
        parts = attack.points + 1
        first = ops.cast(ops.argmax(ops.cast(hit, "int32"), axis=1), "float32")
        first = ops.where(ops.any(hit, axis=1), first, float(attack.points))
        part = (state["high"] - state["low"]) / parts
        low = state["low"] + first * part
        high = ops.where(first < attack.points, low + part, state["high"])
        point = _between(task, state["flip"], high[:, None])[:, 0]
        width = (high - low) * task.distance(state["flip"])
        ready = width <= attack.grain(task, state) * NARROWEST[task.norm.name](task)
        # Halving ends where numbers do.
        ready = ops.logical_or(ready, high - low <= 1e-6)
        return {
            "low": low,
            "high": high,
            "point": ops.where(task.per_row(ready), point, state["point"]),
            "phase": ops.where(ready, PROBE, NARROW),
        } | _unasked(state)


class Probe(Phase):
    """Points around the boundary: their mean, weighted by what they are, is its normal."""

    def _far(self, attack: HopSkipJump, task: Task, state: State) -> Any:
        length = attack.grain(task, state) * math.sqrt(math.prod(task.images.shape[1:]))
        return ops.reshape(length, (-1, 1, 1, 1, 1))

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        drawn = DRAWS[task.norm.name](noise)
        size = ops.sqrt(ops.sum(drawn * drawn, axis=(2, 3, 4), keepdims=True))
        return state["point"][:, None] + self._far(attack, task, state) * drawn / size

    def after(self, attack: HopSkipJump, task: Task, state: State, points: Any, hit: Any) -> State:
        way = (points - state["point"][:, None]) / self._far(attack, task, state)
        sign = 2 * ops.cast(hit, "float32") - 1
        hit_sum = state["hit_sum"] + ops.einsum("nk,nkhwc->nhwc", sign, way)
        total = state["sum"] + ops.sum(way, axis=1)
        asked, hits = state["asked"] + attack.points, state["hits"] + ops.sum(sign, axis=1)
        round_number = ops.cast(state["round"], "float32") + 1
        enough = asked >= attack.initial_probes * ops.sqrt(round_number)
        mean = task.per_row(hits / asked)
        # The mean answer is taken off, which steadies the estimate; where all agree it is all there is.
        normal = ops.where(ops.abs(mean) > 0.999, mean * total, hit_sum - mean * total)
        return {
            # From here on the sum is the direction of the jump.
            "sum": ops.where(task.per_row(enough), task.norm.steepest(normal), total),
            "hit_sum": hit_sum,
            "asked": asked,
            "hits": hits,
            "length": task.distance(state["point"]) / ops.sqrt(round_number),
            "tries": 0 * state["tries"],
            "phase": ops.where(enough, JUMP, PROBE),
        }


class Jump(Phase):
    """Along the normal, as far as it stays on the other side; then back to narrowing."""

    def points(self, attack: HopSkipJump, task: Task, state: State, noise: Any) -> Any:
        halved = 0.5 ** np.arange(attack.points, dtype="float32")
        lengths = ops.reshape(state["length"][:, None] * halved, (-1, attack.points, 1, 1, 1))
        return state["point"][:, None] + lengths * state["sum"][:, None]

    def after(self, attack: HopSkipJump, task: Task, state: State, points: Any, hit: Any) -> State:
        any_hit, picture = _first(points, hit)
        tries = state["tries"] + 1
        # In vain: the normal was wrong, and is felt again.
        vain = ops.logical_and(ops.logical_not(any_hit), tries >= 3)
        over = ops.cast(ops.logical_or(any_hit, vain), "int32")
        zero = 0 * state["low"]
        return held(ops.logical_not(vain), state, _unasked(state)) | {
            "flip": ops.where(task.per_row(any_hit), picture, state["flip"]),
            "low": zero,
            "high": zero + 1.0,
            "length": state["length"] * 0.5**attack.points,
            "tries": tries,
            "round": state["round"] + over,
            "phase": ops.where(any_hit, NARROW, ops.where(vain, PROBE, JUMP)),
        }


PHASES: tuple[Phase, ...] = (Seek(), Narrow(), Probe(), Jump())


def _first(points: Any, hit: Any) -> tuple[Any, Any]:
    """Whether any of the points (rows, k, h, w, c) reached the goal, and the first that did."""
    chosen = ops.argmax(ops.cast(hit, "int32"), axis=1)
    picture = ops.take_along_axis(points, chosen[:, None, None, None, None], axis=1)[:, 0]
    return ops.any(hit, axis=1), picture


def _unasked(state: State) -> State:
    """Before the first probe."""
    return {name: 0 * state[name] for name in ("hit_sum", "sum", "asked", "hits")}


def _between(task: Task, flip: Any, shares: Any) -> Any:
    """Points (rows, k, h, w, c) at `shares` (rows, k) of the way from the images to `flip`."""
    change = (flip - task.images)[:, None]
    share = ops.reshape(shares, (-1, shares.shape[1], 1, 1, 1))
    far = ops.reshape(task.distance(flip), (-1, 1, 1, 1, 1))
    return task.images[:, None] + WAYS[task.norm.name](change, share, far)


def _cut(change: Any, share: Any, far: Any) -> Any:
    return ops.maximum(ops.minimum(change, share * far), -share * far)


WAYS: dict[str, Callable[[Any, Any, Any], Any]] = {"l2": lambda c, s, _: s * c, "linf": _cut}
"""How a change is made smaller: the line, or no component more than a share of the largest."""

DRAWS: dict[str, Callable[[Any], Any]] = {
    "l2": lambda z: z,
    "linf": lambda z: alone(ops.erf, z * 0.5**0.5),
}
"""What probes are made of standard normal numbers: those, or uniform ones in -1..1."""

NARROWEST: dict[str, Callable[[Task], float]] = {
    "l2": lambda task: 1.0,
    "linf": lambda task: 1 / math.sqrt(math.prod(task.images.shape[1:])),
}
"""How near the boundary must be, in sizes of a probe's component along a direction."""
