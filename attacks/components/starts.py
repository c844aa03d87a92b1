"""Start points of the restarts of an attack, by name.

A start has two parts: a first point, and the first steps of the attack, which may lower another function
than the loss. The engine treats these like all steps: their points are judged and their passes counted. The
restarts of one image depend on each other: they are spread, not drawn independently.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from keras import ops

from robustness import backend
from robustness.contract.look import Evaluation
from robustness.contract.task import Task
from robustness.errors import SettingError
from robustness.numerics import prng
from robustness.numerics.losses import LOSSES
from robustness.optimization.spherical_codes.spread import spread

GROUP = 16
"""Number of restarts that are spread together; a larger group would gain hardly any distance."""


@lru_cache(maxsize=64)
def code(count: int, dim: int, antipodal: bool = False) -> np.ndarray:
    """`count` spread unit vectors (count, dim) float32, always the same; lines if `antipodal`."""
    # This is called while an attack is traced; the solver must run eagerly.
    return backend.run_eagerly(
        lambda: spread(count, dim, antipodal=antipodal, restarts=2, steps=60).vectors
    ).astype("float32")


def shared(task: Task, what: int) -> Any:
    """Keys (rows, 2) that all restarts of a group share; `what` distinguishes uses."""
    number = what + 8 * (task.restart // GROUP)
    return ops.stack([task.keys[:, 0], number + 0 * task.keys[:, 1]], axis=1)


def frame(keys: Any, stream: Any, size: int, count: int) -> Any:
    """Random orthonormal vectors of each row, (rows, size, count), uniform among all such frames."""
    q, r = ops.qr(prng.normal(keys, stream, (size, count)))
    return q * ops.sign(ops.diagonal(r, axis1=1, axis2=2))[:, None, :]


class Start:
    """A uniform random start, and the base class of the others: a first point and no steps of its own."""

    steps: ClassVar[int] = 0
    """How many of the attack's steps belong to the start."""
    drawn: ClassVar[bool] = True
    """Whether the first point may be the image itself instead."""

    def point(self, task: Task, restarts: int) -> Any:
        """The first point of each row, (rows, h, w, c), inside the ball and 0..255."""
        return task.random_start()

    def weights(self, task: Task, classes: int, restarts: int) -> Any:
        """The weights (rows, classes) of the logits whose sum the start's steps raise."""
        return ops.zeros((1, classes))

    def gradient(self, task: Task, seen: Evaluation, loss: str, restarts: int) -> Any:
        """The gradient of the loss or, in steps of the start, of what they lower; one backward pass."""
        if not self.steps:
            return seen.gradient

        def lowered(logits: Any) -> Any:
            raised = ops.sum(self.weights(task, logits.shape[-1], restarts) * logits, axis=-1)
            usual = task.goal.loss(LOSSES[loss], logits, task.aims)
            return ops.where(self.opening(task), -raised, usual)

        return seen.gradient_of(lowered)

    def opening(self, task: Task) -> Any:
        """Whether the current step of each row belongs to the start, (rows,)."""
        return task.step < self.steps

    def lengths(self, task: Task, lengths: Any) -> Any:
        """The length of each row's step, (rows,): epsilon in the start, `lengths` after it."""
        return ops.where(self.opening(task), task.epsilon, lengths)

    def expect(self, steps: int, random_start: bool) -> None:
        """Check that the start fits the attack's parameters.

        Raises
        ------
        SettingError
            The start leaves the attack no step, or contradicts `random_start`.
        """
        if steps <= self.steps:
            raise SettingError(
                f"steps={steps} leaves no step after the {self.steps} steps of the start; expected "
                f"at least {self.steps + 1}."
            )
        if not (random_start or self.drawn):
            raise SettingError(
                "start='spread' is a random start; random_start=False contradicts it. "
                "Leave one of them out."
            )


class Spread(Start):
    """Points that are each uniform in the ball, and as far apart from each other as possible.

    The restarts are corners of a simplex in the space of a few Gaussian images that they share: the
    correlation of every two is -1 / (count - 1). Each is then made uniform in the ball by
    `Norm.from_normal`.
    """

    drawn = False

    def point(self, task: Task, restarts: int) -> Any:
        count, shape = min(restarts, GROUP), tuple(task.images.shape[1:])
        if count == 1:
            return task.random_start()
        corners = ops.take(code(count, max(2, count - 1)), task.restart % count, axis=0)
        keys = shared(task, 0)
        noise = sum(
            task.per_row(corners[:, i]) * prng.normal(keys, i, shape)
            for i in range(corners.shape[1])
        )
        return task.project(task.images + task.norm.from_normal(noise, task.epsilon, task.keys))


class OutputDiversified(Start):
    """Output-diversified start: two steps of length epsilon that raise a random mixture of the logits.

    The weights of the mixture are uniform in [-1, 1].

    References
    ----------
    Tashiro et al. 2020, arXiv:2003.06878, sec. 4.1, eq. 2.
    """

    steps = 2

    def weights(self, task: Task, classes: int, restarts: int) -> Any:
        return 2 * prng.uniform(task.keys, 2, (classes,)) - 1


class DiverseSpread(Start):
    """Output-diversified start with mixtures that are spread over the restarts and rotated at random."""

    steps = 2

    def weights(self, task: Task, classes: int, restarts: int) -> Any:
        count = min(restarts, GROUP)
        dim = max(2, min(count, classes))
        one = ops.take(code(count, dim), task.restart % count, axis=0)
        turned = frame(shared(task, 1), 0, max(classes, 2), dim)
        return ops.sum(turned * one[:, None, :], axis=-1)


STARTS: dict[str, Start] = {
    "random": Start(),
    "spread": Spread(),
    "ods": OutputDiversified(),
    "ods-spread": DiverseSpread(),
}

MEANING = "how restarts begin: random or spread points, output-diversified steps, spread such steps"
