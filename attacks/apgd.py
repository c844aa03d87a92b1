"""Auto-PGD (APGD) and its targeted version: projected descent with an automatic step size."""

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
from robustness.numerics.powers_of_two import HUGE
from robustness.threat.goals import Goal


@dataclass(frozen=True, kw_only=True)
class _Ascent(Attack):
    """The common part of APGD and APGD-T: momentum steps of adaptive length.

    Where progress stalls, the step becomes shorter and the row returns to its best point.
    """

    paper: ClassVar[str] = "Croce & Hein 2020, arXiv:2003.01690; l1: 2021, arXiv:2103.01208"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    any_norm: ClassVar[bool] = True

    steps: int = setting(100, "number of steps", low=2, high=100_000)
    rho: float = setting(
        0.75, "share of steps that must lower the loss; otherwise the step is halved", low=0, high=1
    )
    momentum: float = setting(
        0.75, "weight of the new step; the rest repeats the last move", low=0, high=1
    )
    start: str = setting("random", MEANING, choices=("random", "spread"))

    def init(self, task: Task) -> State:
        start, zero = STARTS[self.start].point(task, self.restarts), 0 * task.epsilon
        kept = schedule_for(task.norm).begin(task)
        here = {"point": start, "previous": start, "loss": zero - HUGE}
        best = {"best": start, "best_gradient": ops.zeros_like(start), "best_loss": zero + HUGE}
        return here | best | kept

    def _next(self, task: Task, state: State, loss: Any, gradient: Any, steps: int) -> State:
        """The state after an evaluation of the point; `steps` is the total number of such evaluations."""
        pace, point = schedule_for(task.norm), state["point"]
        better = loss < state["best_loss"]
        best = {
            "best": where_rows(better, point, state["best"]),
            "best_gradient": where_rows(better, gradient, state["best_gradient"]),
            "best_loss": ops.where(better, loss, state["best_loss"]),
        }
        kept, back = pace.turn(task, state | best, loss, steps, self.rho)
        here = {
            "point": where_rows(back, best["best"], point),
            "gradient": where_rows(back, best["best_gradient"], gradient),
        }
        moved = pace.move(task, state | best | here, kept, self.momentum)
        return {"point": moved, "previous": here["point"], "loss": loss} | best | kept


@dataclass(frozen=True, kw_only=True)
class APGD(_Ascent):
    """Auto-PGD: find a flip in the ball by projected descent with momentum and an automatic step size.

    Lowers the loss L, subject to norm and pixel range, by ``z = P(x - a * d(grad L(x)))``,
    ``x' = P(x + mu (z - x) + (1 - mu)(x - x_previous))``, where d is the steepest direction of the norm and
    P the projection onto the ball and 0..255. The step a starts at 2 epsilon and is halved at checkpoints
    where too few steps lowered the loss.

    Parameters
    ----------
    steps
        Number of steps, those of an output-diversified start included.
    rho
        Share of the steps since the last checkpoint that must lower the loss; otherwise a is halved.
    momentum
        The weight mu of the new step.
    start
        How restarts begin, a name in `robustness.attacks.STARTS`.
    restarts
        Number of starts of each image.

    Notes
    -----
    In l1 the steps are sparse, with the exact projection onto ball and pixel range (Croce & Hein 2021, alg.
    1); epsilon is constant, whereas theirs decreases from three times the budget.

    References
    ----------
    Croce & Hein 2020, arXiv:2003.01690, alg. 1.
    Croce & Hein 2021, arXiv:2103.01208, alg. 1.
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
    """Targeted APGD: find a flip in the ball, with another target class for each start.

    Runs the steps of `APGD` on the targeted DLR loss (Croce & Hein 2020, eq. 7). The targets are the
    likeliest classes at the image, in descending order.

    Parameters
    ----------
    targets
        Number of target classes, one for each start; at most all other classes.
    loss
        Always the targeted DLR loss.
    steps, rho, momentum, start
        As in `APGD`; `start` is "random" or "spread".

    Notes
    -----
    The first step evaluates the image itself, since its logits rank the classes. With fewer than four
    classes eq. 7 is not defined; `losses.toward_says` states what replaces it.

    References
    ----------
    Croce & Hein 2020, arXiv:2003.01690, sec. 4.2, eq. 7.
    """

    name: ClassVar[str] = "apgd-t"

    targets: int = setting(
        9, "target classes, one per start; at most all other classes", low=1, high=1000
    )
    loss: str = setting("dlr", "loss that is lowered: the targeted DLR loss", choices=("dlr",))

    @property
    def restarts(self) -> int:
        return self.targets

    def adapted_to(self, goal: Goal, classes: int) -> tuple[Attack, str]:
        # A targeted goal leaves a single target class.
        fewer = min(self.targets, goal.destinations(classes))
        return replace(self, targets=fewer), losses.toward_says(classes)

    def init(self, task: Task) -> State:
        return super().init(task) | {"other": 0 * task.restart}

    def step(self, task: Task, state: State, look: Look) -> State:
        first = task.step == 0
        output = look(where_rows(first, task.images, state["point"]))
        other = ops.where(first, ranked(output.logits, task.aims, task.restart), state["other"])

        def lowered(logits: Any) -> Any:
            return losses.toward(logits, *task.goal.route(task.aims, other))

        later = replace(task, step=task.step - 1)
        moved = self._next(
            later, state, lowered(output.logits), output.gradient_of(lowered), self.steps - 1
        )
        return where_rows(first, state, moved) | {"other": other}
