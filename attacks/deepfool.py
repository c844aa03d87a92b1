"""DeepFool: the smallest change by repeated linearisation of the decision boundaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from keras import ops

from robustness.attacks.components.boundary import likeliest, nearest, onto
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task, where_rows
from robustness.contract.types import State


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """DeepFool: find the smallest change that flips, by repeated linearisation of the decision boundaries.

    Each step solves ``min |d|_p`` subject to ``margin(x) + grad . d <= 0`` and 0..255, for the nearest
    boundary among those of the likeliest classes, until the point flips.

    Parameters
    ----------
    steps
        Most steps; a row ends at its first flip.
    candidates
        Number of likeliest classes, the class of the image included.
    overshoot
        Share by which the whole change is lengthened beyond the boundary.

    Notes
    -----
    As in the authors' code, the whole change is scaled by the overshoot at every step. The authors clip the
    point to the pixel range afterwards; here it is the nearest point of the boundary within the range.

    References
    ----------
    Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, alg. 2 and sec. 3.3.
    """

    name: ClassVar[str] = "deepfool"
    paper: ClassVar[str] = "Moosavi-Dezfooli et al. 2016, arXiv:1511.04599"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    seeks: ClassVar[Literal["any", "closest"]] = "closest"
    refined: ClassVar[bool] = False
    """The last step already ends at the nearest point of the linear model."""

    steps: int = setting(50, "most steps; an image ends at its first flip", low=1, high=100_000)
    candidates: int = setting(10, "likeliest classes, the image's own included", low=2, high=1000)
    overshoot: float = setting(0.02, "how far beyond the boundary, as a share", low=0, high=10)

    def init(self, task: Task) -> State:
        return {
            "point": task.images,
            "change": ops.zeros_like(task.images),
            "done": ops.zeros_like(task.aims, dtype="bool"),
        }

    def step(self, task: Task, state: State, look: Look) -> State:
        output = look(state["point"])
        normal, gap = nearest(task, output, likeliest(task, output, self.candidates - 1))
        change = state["change"] + onto(task, normal, -gap, state["point"])
        ahead = task.clip(task.images + (1 + self.overshoot) * change)
        return {
            "point": where_rows(output.hit, state["point"], ahead),
            "change": where_rows(output.hit, state["change"], change),
            "done": output.hit,
        }
