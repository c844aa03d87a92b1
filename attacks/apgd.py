"""Auto-PGD and its targeted version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from keras import ops

from robustness.attacks.components.starts import MEANING, STARTS
from robustness.attacks.components.step_sizes import schedule_for
from robustness.attacks.components.target_classes import ranked
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task, where_rows
from robustness.contract.types import State
from robustness.numerics import losses
from robustness.threat.goals import Goal


@dataclass(frozen=True, kw_only=True)
class _Ascent(Attack):
    """Steps with momentum that shorten themselves, and return to the best point when they do."""

    paper: ClassVar[str] = "Croce & Hein 2020, arXiv:2003.01690; l1: 2021, arXiv:2103.01208"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    any_norm: ClassVar[bool] = True

    steps: int = setting(100, "number of steps", low=2, high=100_000)
    rho: float = setting(
        0.75, "share of steps that must gain, or the step is halved", low=0, high=1
    )
    momentum: float = setting(0.75, "weight of the new direction; the rest is drift", low=0, high=1)
    start: str = setting("random", MEANING, choices=("random", "spread"))

    def init(self, task: Task) -> State:
        start, zero = STARTS[self.start].point(task, self.restarts), 0 * task.epsilon
        kept = schedule_for(task.norm).begin(task)
        here = {"point": start, "previous": start, "loss": zero - 1e30}
        best = {"best": start, "best_gradient": ops.zeros_like(start), "best_loss": zero + 1e30}
        return here | best | kept

    def _next(self, task: Task, state: State, loss: Any, gradient: Any, steps: int) -> State:
        """The state after a look at the point; `steps` is how many such looks there will be."""
        pace, point, wide = schedule_for(task.norm), state["point"], task.per_row
        better = loss < state["best_loss"]
        best = {
            "best": ops.where(wide(better), point, state["best"]),
            "best_gradient": ops.where(wide(better), gradient, state["best_gradient"]),
            "best_loss": ops.where(better, loss, state["best_loss"]),
        }
        kept, back = pace.turn(task, state | best, loss, steps, self.rho)
        here = {
            "point": ops.where(wide(back), best["best"], point),
            "gradient": ops.where(wide(back), best["best_gradient"], gradient),
        }
        moved = pace.move(task, state | best | here, kept, self.momentum)
        return {"point": moved, "previous": here["point"], "loss": loss} | best | kept


@dataclass(frozen=True, kw_only=True)
class APGD(_Ascent):
    """Projected descent without a step size to choose: it halves its own at checkpoints.

    ``z = P(x - a * d(grad L(x)))``, ``x' = P(x + mu (z - x) + (1 - mu)(x - x_previous))``; a starts at 2
    epsilon and halves where too few steps lowered the loss.

    Croce & Hein 2020, arXiv:2003.01690, alg. 1. In l1 the sparse steps of Croce & Hein 2021,
    arXiv:2103.01208, alg. 1, with the exact projection onto ball and box; epsilon is constant where theirs
    decreases from three times the budget.
    """

    name: ClassVar[str] = "apgd"

    start: str = setting("random", MEANING, choices=tuple(STARTS))
    restarts: int = setting(1, "independent starts of each image", low=1, high=10_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        STARTS[self.start].expect(self.steps, True)

    def step(self, task: Task, state: State, look: Look) -> State:
        start, output = STARTS[self.start], look(state["point"])
        gradient = start.gradient(task, output, self.loss, self.restarts)
        later = replace(task, step=task.step - start.steps)
        moved = self._next(later, state, output.level, gradient, self.steps - start.steps)
        if not start.steps:
            return moved
        begun = task.descend(state["point"], task.norm.steepest(gradient), task.epsilon)
        return where_rows(start.opening(task), state | {"point": begun, "previous": begun}, moved)


@dataclass(frozen=True, kw_only=True)
class APGDT(_Ascent):
    """APGD with the targeted DLR loss: each start goes for another class, the likeliest first.

    Croce & Hein 2020, arXiv:2003.01690, sec. 4.2, eq. 7. The first step evaluates the image itself, whose
    logits rank the classes. With fewer than four classes eq. 7 becomes what `losses.toward` says.
    """

    name: ClassVar[str] = "apgd-t"

    targets: int = setting(9, "classes gone for, one a start; at most all others", low=1, high=1000)
    loss: str = setting("dlr", "loss that is lowered: DLR, targeted", choices=("dlr",))

    @property
    def restarts(self) -> int:
        return self.targets

    def adapted_to(self, goal: Goal, classes: int) -> tuple[Attack, str]:
        # A goal with a target of its own leaves no other class to go for.
        fewer = min(self.targets, goal.destinations(classes))
        return replace(self, targets=fewer), losses.toward_says(classes)

    def init(self, task: Task) -> State:
        return super().init(task) | {"other": 0 * task.restart}

    def step(self, task: Task, state: State, look: Look) -> State:
        first = task.step == 0
        wide = task.per_row(first)
        output = look(ops.where(wide, task.images, state["point"]))
        other = ops.where(first, ranked(output.logits, task.aims, task.restart), state["other"])

        def lowered(logits: Any) -> Any:
            return losses.toward(logits, *task.goal.route(task.aims, other))

        later = replace(task, step=task.step - 1)
        moved = self._next(
            later, state, lowered(output.logits), output.gradient_of(lowered), self.steps - 1
        )
        return where_rows(first, state, moved) | {"other": other}
