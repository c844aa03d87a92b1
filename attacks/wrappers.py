"""Attacks that run another attack inside: `bisection` over budgets, and `eot` for randomised models.

The parameters of the inner attack are given beside the wrapper's own:
`-a bisection:of=pgd,steps=20,rounds=8` on the command line, `Bisection(of=PGD(steps=20), rounds=8)` in
Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from keras import ops

from robustness.configuration import attack_parameters as settings
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.registry import create, find
from robustness.contract.task import FAR, Task, where_rows
from robustness.contract.types import State
from robustness.errors import SettingError
from robustness.threat.goals import Goal
from robustness.threat.norms import Norm

USUAL = "pgd"

CLOSED, DOUBTED = 0.01, 0.05
"""Shares of the nearest distance at which a bracket counts as closed, and by which it is reopened."""


def usual(**parameters: Any) -> Attack:
    """The default inner attack, with the margin as its loss: the margin decides what flips."""
    return create(find(USUAL), {"loss": "margin"} | parameters)


@dataclass(frozen=True, kw_only=True)
class Wrapper(Attack):
    """An attack that runs the attack `of`, with the knowledge, norms and cost of that attack.

    Parameters
    ----------
    of
        The inner attack; by default PGD on the margin.
    """

    paper: ClassVar[str] = "none"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    of: Attack | None = setting(  # noqa: RUF009 - as every setting
        None,
        "the inner attack; all other parameters belong to it",
        automatic="pgd on the margin",
        words="an attack's name",
    )
    steps: int = field(init=False, default=1)
    loss: str = field(init=False, default="")

    def __post_init__(self) -> None:
        super().__post_init__()
        inner = usual() if self.of is None else self.of
        seeks = inner.seeks if type(self).seeks == "any" else type(self).seeks
        follow: dict[str, Any] = {"of": inner, "steps": self.length(inner), "loss": inner.loss}
        follow |= {"knowledge": inner.knowledge, "norms": inner.norms, "seeks": seeks}
        follow |= {"baseline": inner.baseline, "any_norm": inner.any_norm, "padded": inner.padded}
        for name, value in follow.items():
            object.__setattr__(self, name, value)

    def length(self, inner: Attack) -> int:
        """The number of steps of the wrapper around `inner`."""
        return inner.steps

    @property
    def inner(self) -> Attack:
        """The inner attack."""
        if self.of is None:
            raise AttributeError("`of` is not set yet; __post_init__ sets it")
        return self.of

    @property
    def restarts(self) -> int:
        return self.inner.restarts

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        return self.inner.farthest(norm, epsilon, shape)

    def departure(self, norm: Norm) -> str:
        return self.inner.departure(norm)

    @property
    def width(self) -> int:
        return self.inner.width

    def on_files(self) -> Attack:
        return replace(self, of=self.inner.on_files())

    def adapted_to(self, goal: Goal, classes: int) -> tuple[Attack, str]:
        inner, why = self.inner.adapted_to(goal, classes)
        return replace(self, of=inner), why

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Attack:
        own = {k: v for k, v in parameters.items() if k.replace("-", "_") in settings.settings(cls)}
        others = {k: v for k, v in parameters.items() if k not in own}
        inner = own.get("of")
        if inner is None:
            inner = usual(**others)
        elif isinstance(inner, str):
            inner = create(find(inner), others)
        elif others:
            raise SettingError(
                f"{', '.join(others)} cannot be given beside an attack object; set them on that object."
            )
        return super().from_parameters(own | {"of": inner})

    @property
    def label(self) -> str:
        known = settings.settings(type(self)).items()
        shown = [self.inner.label]
        shown += [
            f"{name}={getattr(self, name):g}"
            for name, (given, _) in known
            if name != "of" and getattr(self, name) != given.default
        ]
        return f"{self.name}({', '.join(shown)})"

    def parameters(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in settings.settings(type(self))}
        inside = {f"of.{name}": value for name, value in self.inner.parameters().items()}
        return own | {"of": self.inner.name} | inside


@dataclass(frozen=True, kw_only=True)
class Bisection(Wrapper):
    """Bisection: find the smallest epsilon at which an attack of fixed budget flips.

    The first trial has the largest epsilon of the audit. Each further trial lies halfway between the largest
    budget that failed and the nearest flip, and starts at this flip, scaled into the smaller ball. A trial
    ends at its first flip; the steps that it saves are used for further trials.

    A failed attack proves nothing. So by default, once the bracket is closed to the share `CLOSED`, its
    lower end is reopened by the share `DOUBTED`: smaller budgets are tried again, alternately from other
    random numbers and from the nearest flip. A row ends early if no 8-bit file could be nearer. Trials of
    different length run in one batch, around any inner attack.
    """

    name: ClassVar[str] = "bisection"
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    rounds: int = setting(10, "number of trials if each takes all its steps", low=1, high=100)
    tolerance: float | None = setting(
        None,
        "share of the epsilon to which the bracket is closed",
        low=0,
        high=1,
        automatic="none: all steps are taken, unless no 8-bit file could be nearer",
    )
    warm_start: bool = setting(True, "start trials at the nearest flip, scaled into the ball")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner.seeks == "closest":
            raise SettingError(
                f"{self.inner.name} already searches for the smallest change; expected an attack of "
                "fixed budget, such as pgd."
            )

    def length(self, inner: Attack) -> int:
        # One more step per trial, which evaluates the last point of the inner attack.
        return self.rounds * (inner.steps + 1)

    def init(self, task: Task) -> State:
        zero = 0 * task.epsilon
        bracket = {"radius": task.epsilon, "low": zero, "high": zero + FAR, "count": task.step}
        kept = {"near": task.images, "doubts": task.step, "done": zero > 1}
        return bracket | kept | _named(self.inner.init(task))

    def step(self, task: Task, state: State, look: Look) -> State:
        last = ops.minimum(state["count"], self.inner.steps - 1)
        trying = replace(task, epsilon=state["radius"], step=last)
        before = {k.removeprefix("of."): v for k, v in state.items() if k.startswith("of.")}
        starts = state["count"] == 0
        # Computed only if a row starts: drawing random numbers is expensive.
        fresh = ops.cond(ops.any(starts), lambda: _begun(self, task, trying, state), lambda: before)
        after = self.inner.step(trying, where_rows(starts, fresh, before), look)
        spent = state["count"] >= self.inner.steps
        return _named(after) | _bracketed(task, state, look.verdict(), spent, self.tolerance)


def _named(inside: State) -> State:
    return {"point": inside["point"]} | {f"of.{name}": value for name, value in inside.items()}


def _begun(attack: Bisection, task: Task, trying: Task, state: State) -> State:
    """The inner attack's state at the start of a trial."""
    # New random numbers, since the same trial would fail again.
    turned = trying.keys + ops.stack([0 * state["doubts"], 8191 * state["doubts"]], axis=1)
    fresh = attack.inner.init(replace(trying, keys=turned))
    if not attack.warm_start:
        return fresh
    shrunk = ops.minimum(trying.epsilon / ops.maximum(state["high"], 1e-6), 1.0)
    ahead = task.images + task.per_row(shrunk) * (state["near"] - task.images)
    # Sparse steps from a sparse change change little, so in l1 trials from new random points come first.
    turn = 1 if task.norm.sparse and task.norm.convex else 0
    again = ops.logical_and(state["high"] < FAR, state["doubts"] % 2 == turn)
    point = where_rows(again, trying.project(ahead), fresh["point"])
    # The point may be stored under several names (such as the previous or the best point).
    return {name: point if x is fresh["point"] else x for name, x in fresh.items()}


def _bracketed(
    task: Task, state: State, verdict: tuple[Any, Any, Any], spent: Any, tolerance: float | None
) -> State:
    """The bracket after a step: the nearest flip, the largest budget that failed, the next trial."""
    radius, (point, far, hit) = state["radius"], verdict
    won = ops.logical_and(hit, far <= radius * (1 + 1e-4))
    lost = ops.logical_and(ops.logical_not(won), spent)
    nearer = ops.logical_and(won, far < state["high"])
    high = ops.where(nearer, far, state["high"])
    low = ops.where(lost, radius, state["low"])
    ends = ops.logical_or(won, lost)
    near = high - low <= (CLOSED if tolerance is None else tolerance) * high
    # The least change of an 8-bit file is one count.
    done, doubted = (high <= 1.0001, near) if tolerance is None else (near, ops.zeros_like(near))
    doubted = ops.logical_and(doubted, ends)
    low = ops.where(doubted, high * (1 - DOUBTED), low)
    middle = (low + ops.minimum(high, task.epsilon)) / 2
    return {
        "radius": ops.where(ends, middle, radius),
        "low": low,
        "high": high,
        "near": where_rows(nearer, point, state["near"]),
        "doubts": state["doubts"] + ops.cast(doubted, "int32"),
        "count": ops.where(ends, 0, state["count"] + 1),
        "done": ops.logical_or(done, ops.logical_and(lost, low >= task.epsilon)),
    }


@dataclass(frozen=True, kw_only=True)
class EOT(Wrapper):
    """Expectation over transformations: run another attack on the mean output of a randomised model.

    Every evaluation runs the model `samples` times and averages the logits. For a model without randomness
    the result is that of the inner attack at a higher cost.

    Parameters
    ----------
    of
        The inner attack; by default PGD on the margin.
    samples
        Number of model runs per point.

    References
    ----------
    Athalye et al. 2018, arXiv:1707.07397, sec. 2.1.
    Athalye et al. 2018, arXiv:1802.00420, sec. 4.2.
    """

    name: ClassVar[str] = "eot"
    paper: ClassVar[str] = "Athalye et al. 2018, arXiv:1707.07397"

    samples: int = setting(16, "model runs per point", low=1, high=10_000)

    @property
    def width(self) -> int:
        return self.samples * self.inner.width

    def init(self, task: Task) -> State:
        return self.inner.init(task)

    def step(self, task: Task, state: State, look: Look) -> State:
        def average(points: Any) -> Any:
            logits = look.logits(ops.repeat(points, self.samples, axis=0))
            return ops.mean(ops.reshape(logits, (-1, self.samples, logits.shape[-1])), axis=1)

        return self.inner.step(task, state, look.with_model(average, self.samples))
