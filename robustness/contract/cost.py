"""What an attack costs, counted where it is taken: one step on a small picture."""

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
    """Forward and backward passes of an image that never flips, with all steps and restarts.

    Every step costs the same (`Rows` traces it once), so one is counted, on a linear model of so many
    classes.
    """
    made, _ = attack.adapted_to(Untargeted(), classes)
    rng = np.random.default_rng(0)
    weights = ops.convert_to_tensor(
        rng.normal(0, 0.01, (int(np.prod(SHAPE)), classes)).astype("float32")
    )

    def logits(points: Any) -> Any:
        return ops.matmul(ops.reshape(points, (-1, weights.shape[0])), weights)

    whole = ops.zeros((1,), "int32")
    task = Task(
        images=ops.full((1, *SHAPE), 128.0),
        aims=whole,
        epsilon=ops.full((1,), 4.0),
        keys=ops.zeros((1, 2), "int32"),
        restart=whole,
        step=whole,
        norm=norms.parse(made.norms[0]),
        goal=Untargeted(),
    )
    look = Look(logits, task, made.loss, made.knowledge)
    made.step(task, made.init(task), look)
    times = made.steps * made.restarts
    return times * look.forward, times * look.backward
