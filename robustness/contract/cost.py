"""Counts the passes that an attack costs, in one step on a small image."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.threat import norms
from robustness.threat.goals import Untargeted

SHAPE = (16, 16, 3)


def passes(attack: Attack, classes: int) -> tuple[int, int]:
    """Count the passes of an image that never flips, over all steps and restarts.

    Parameters
    ----------
    attack
        The attack.
    classes
        The number of classes of the model.

    Returns
    -------
    The numbers of forward and backward passes.

    Notes
    -----
    Every step costs the same because it is compiled once. One step on a linear model is counted.
    """
    adapted, _ = attack.adapted_to(Untargeted(), classes)
    rng = np.random.default_rng(0)
    weights = ops.convert_to_tensor(
        rng.normal(0, 0.01, (int(np.prod(SHAPE)), classes)).astype("float32")
    )

    def logits(points: Any) -> Any:
        return ops.matmul(ops.reshape(points, (-1, weights.shape[0])), weights)

    zeros = ops.zeros((1,), "int32")
    task = Task(
        images=ops.full((1, *SHAPE), 128.0),
        aims=zeros,
        epsilon=ops.full((1,), 4.0),
        keys=ops.zeros((1, 2), "int32"),
        restart=zeros,
        step=zeros,
        norm=norms.parse(adapted.norms[0]),
        goal=Untargeted(),
    )
    look = Look(logits, task, adapted.loss, adapted.knowledge)
    adapted.step(task, adapted.init(task), look)
    times = adapted.steps * adapted.restarts
    return times * look.forward, times * look.backward
