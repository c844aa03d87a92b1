"""Fast adaptive boundary attack and its targeted version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from keras import ops

from robustness.attacks.components.boundary import likeliest, nearest, onto
from robustness.attacks.components.target_classes import ranked
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Evaluation, Look
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.threat.goals import Goal


@dataclass(frozen=True, kw_only=True)
class _Boundary(Attack):
    """Project onto the nearest plane between two classes, go a little beyond, and step back to the image."""

    paper: ClassVar[str] = "Croce & Hein 2020, arXiv:1907.02044"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    steps: int = setting(100, "number of steps", low=1, high=100_000)
    alpha_max: float = setting(0.1, "most that the image's own projection weighs", low=0, high=1)
    eta: float = setting(1.05, "how far beyond the plane, in projections", low=1, high=10)
    beta: float = setting(0.9, "share of the change kept after a flip", low=0.01, high=1)

    def _move(
        self, task: Task, point: Any, output: Evaluation, others: list[Any], look: Look
    ) -> Any:
        normal, gap = nearest(task, output, others)
        apart = ops.sum(normal * (point - task.images), axis=(1, 2, 3))
        # As rows of one problem: its rounds are paid for once.
        pairs = (normal, normal), (-gap, apart - gap), (point, task.images)
        both = onto(task, *(ops.concatenate(pair, axis=0) for pair in pairs))
        here, home = ops.split(both, 2, axis=0)
        sizes = task.norm.size(here), task.norm.size(home)
        weight = ops.minimum(sizes[0] / ops.maximum(sizes[0] + sizes[1], 1e-12), self.alpha_max)
        alpha = task.per_row(weight)
        ahead = (1 - alpha) * (point + self.eta * here) + alpha * (task.images + self.eta * home)
        ahead = task.clip(ahead)
        back = task.images + self.beta * (ahead - task.images)
        return ops.where(task.per_row(look(ahead).hit), back, ahead)


@dataclass(frozen=True, kw_only=True)
class FAB(_Boundary):
    """Smallest change: linearise, project onto the nearest decision boundary inside the box, repeat.

    ``x' = (1 - a)(x + eta d) + a (x0 + eta d0)`` with d and d0 the projections of the point and of the
    image x0; after a flip the change shrinks by `beta`.

    Croce & Hein 2020, arXiv:1907.02044, alg. 1. Of many classes only the likeliest `rivals` are used, where
    theirs uses all. The engine makes their final search on the line to the image.
    """

    name: ClassVar[str] = "fab"

    rivals: int = setting(9, "classes whose boundary is looked at", low=1, high=1000)
    restarts: int = setting(1, "starts of each image; the first is the image", low=1, high=10_000)

    def init(self, task: Task) -> State:
        # Later starts lie in half the ball (the authors' code).
        away = ops.where(task.restart > 0, 0.5, 0.0)
        start = task.random_start() - task.images
        return {"point": task.images + task.per_row(away) * start}

    def step(self, task: Task, state: State, look: Look) -> State:
        output = look(state["point"])
        others = likeliest(task, output, self.rivals)
        return {"point": self._move(task, state["point"], output, others, look)}


@dataclass(frozen=True, kw_only=True)
class FABT(_Boundary):
    """FAB towards one class per start, the likeliest first: one backward pass per step.

    Croce & Hein 2020, arXiv:2003.01690, sec. 5: the version of AutoAttack for many classes.
    """

    name: ClassVar[str] = "fab-t"

    targets: int = setting(9, "classes gone for, one a start; at most all others", low=1, high=1000)

    @property
    def restarts(self) -> int:
        return self.targets

    def adapted_to(self, goal: Goal, classes: int) -> tuple[Attack, str]:
        return replace(self, targets=min(self.targets, goal.destinations(classes))), ""

    def init(self, task: Task) -> State:
        return {"point": task.images, "other": 0 * task.restart}

    def step(self, task: Task, state: State, look: Look) -> State:
        output = look(state["point"])
        first = ranked(output.logits, task.aims, task.restart)
        other = ops.where(task.step == 0, first, state["other"])
        return {
            "point": self._move(task, state["point"], output, [other], look),
            "other": other,
        }
