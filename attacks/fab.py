"""Fast adaptive boundary attack (FAB) and its targeted version: the smallest change by projections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from keras import ops

from robustness.attacks.components.boundary import likeliest, nearest, onto
from robustness.attacks.components.target_classes import ranked
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Evaluation, Look
from robustness.contract.task import Task, where_rows
from robustness.contract.types import State
from robustness.threat.goals import Goal


@dataclass(frozen=True, kw_only=True)
class _Boundary(Attack):
    """The common part of FAB and FAB-T: project onto a linearised boundary, step beyond it, and return."""

    paper: ClassVar[str] = "Croce & Hein 2020, arXiv:1907.02044"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    seeks: ClassVar[Literal["any", "closest"]] = "closest"

    steps: int = setting(100, "number of steps", low=1, high=100_000)
    alpha_max: float = setting(0.1, "largest weight of the image's own projection", low=0, high=1)
    eta: float = setting(
        1.05, "how far beyond the boundary, as a multiple of the projection", low=1, high=10
    )
    beta: float = setting(0.9, "share of the change kept after a flip", low=0.01, high=1)

    def _move(
        self, task: Task, point: Any, output: Evaluation, others: list[Any], look: Look
    ) -> Any:
        normal, gap = nearest(task, output, others)
        apart = ops.sum(normal * (point - task.images), axis=(1, 2, 3))
        # Both projections are rows of one problem, so that its iterations run once.
        pairs = (normal, normal), (-gap, apart - gap), (point, task.images)
        both = onto(task, *(ops.concatenate(pair, axis=0) for pair in pairs))
        here, home = ops.split(both, 2, axis=0)
        sizes = task.norm.size(here), task.norm.size(home)
        weight = ops.minimum(sizes[0] / ops.maximum(sizes[0] + sizes[1], 1e-12), self.alpha_max)
        alpha = task.per_row(weight)
        ahead = (1 - alpha) * (point + self.eta * here) + alpha * (task.images + self.eta * home)
        ahead = task.clip(ahead)
        back = task.images + self.beta * (ahead - task.images)
        return where_rows(look(ahead).hit, back, ahead)


@dataclass(frozen=True, kw_only=True)
class FAB(_Boundary):
    """Fast adaptive boundary attack: find the smallest change that flips, by projections onto boundaries.

    Each step linearises the model and projects onto the nearest decision boundary within the pixel range:
    ``x' = (1 - a)(x + eta d) + a (x0 + eta d0)``, where d and d0 are the changes that project the point x
    and the image x0. After a flip the change is multiplied by `beta`.

    Parameters
    ----------
    steps
        Number of steps.
    rivals
        Number of likeliest classes whose boundaries are considered; one backward pass for each.
    restarts
        Number of starts of each image. The first is the image, the others are random points of half the
        ball.
    alpha_max
        The largest weight a of the image's own projection.
    eta
        How far a step goes beyond the boundary, as a multiple of the projection.
    beta
        Share of the change that is kept after a flip.

    Notes
    -----
    The paper considers all classes, not only the likeliest `rivals`. Its final search on the line to the
    image is made by the engine.

    References
    ----------
    Croce & Hein 2020, arXiv:1907.02044, alg. 1.
    """

    name: ClassVar[str] = "fab"

    rivals: int = setting(9, "likeliest classes whose boundaries are considered", low=1, high=1000)
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
    """Targeted FAB: find the smallest change that flips, with one target class for each start.

    The steps are those of `FAB`, but onto the boundary of the target class only, so that a step takes one
    backward pass for it. The targets are the likeliest classes at the image, in descending order.

    Parameters
    ----------
    targets
        Number of target classes, one for each start; at most all other classes.
    steps, alpha_max, eta, beta
        As in `FAB`.

    References
    ----------
    Croce & Hein 2020, arXiv:2003.01690, sec. 5: the version that AutoAttack uses for many classes.
    """

    name: ClassVar[str] = "fab-t"

    targets: int = setting(
        9, "target classes, one per start; at most all other classes", low=1, high=1000
    )

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
