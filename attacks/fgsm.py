"""Fast gradient sign method (FGSM): a single step of length epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.threat.norms import Norm


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """Fast gradient sign method: find a flip in the ball by one step of length epsilon.

    Minimises the loss linearised at the image: ``x' = P(x - epsilon * d(grad L(x)))``, where d is the
    steepest direction of the norm (the sign in linf) and P the projection onto the ball and 0..255.

    Parameters
    ----------
    steps
        Always 1.

    Notes
    -----
    In l2 and l1 the saved file is not the rounded point of the publication: see `departure`.

    References
    ----------
    Goodfellow et al. 2015, arXiv:1412.6572, sec. 4.
    Miyato et al. 2016, arXiv:1605.07725, for l2.
    """

    name: ClassVar[str] = "fgsm"
    paper: ClassVar[str] = "Goodfellow et al. 2015, arXiv:1412.6572"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    any_norm: ClassVar[bool] = True

    steps: int = setting(1, "number of steps; FGSM is a single one", low=1, high=1)

    def departure(self, norm: Norm) -> str:
        if norm.scale_limit == 1:
            return ""
        return (
            f"in {norm.name} its step is scaled before it is rounded, so that the saved file uses the whole "
            "budget and no more; the published step has the length epsilon and is not scaled"
        )

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        direction = task.norm.steepest(look(state["point"]).gradient)
        return {"point": task.descend(state["point"], direction, task.epsilon)}
