"""Computes gradients of the margin at pictures, for the search of nearer files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import Example
from robustness.models.fixed_size_calls import GROUP
from robustness.numerics.losses import LOSSES


def margin_gradients(
    batch: CompiledBatch, pictures: Sequence[np.ndarray], examples: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of the negative margin at each picture, and the negative margin, in logits.

    Each picture takes a forward and a backward pass, in whole groups, so that no row depends on the others.

    Parameters
    ----------
    batch
        The compiled attack.
    pictures
        Pictures (height, width, channels) uint8.
    examples
        The image from which each picture is made.

    Returns
    -------
    The gradients (n, height, width, channels), and the negative margins (n,), which are negative where
    the goal is not reached.

    Raises
    ------
    AttackError
        The attack is not a white-box attack.
    """
    groups = [
        _group_gradients(batch, pictures[i : i + GROUP], examples[i : i + GROUP])
        for i in range(0, len(pictures), GROUP)
    ]
    return np.concatenate([g for g, _ in groups]), np.concatenate([v for _, v in groups])


def _group_gradients(
    batch: CompiledBatch, pictures: Sequence[np.ndarray], examples: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray]:
    spare = GROUP - len(pictures)
    points = np.stack([*pictures, *[pictures[0]] * spare]).astype("float32")
    filled = [*examples, *[examples[0]] * spare]
    aims = ops.convert_to_tensor(batch.threat.goal.aims(np.array([e.label for e in filled])))
    zeros = ops.zeros_like(aims)
    arrays = {"images": np.stack([e.pixels for e in filled]), "aims": aims, "restart": zeros}
    arrays |= {"epsilon": ops.cast(zeros, "float32"), "step": zeros}
    arrays["keys"] = np.zeros((GROUP, 2), np.int32)
    arrays["input"] = batch.input.arrays(filled)
    output = batch.make_look(batch.task(arrays), arrays["input"])(ops.convert_to_tensor(points))

    def margin(logits: Any) -> Any:
        return batch.threat.goal.loss(LOSSES["margin"], logits, aims)

    gradient, value = output.gradient_of(margin), margin(output.logits)
    count = len(pictures)
    return -ops.convert_to_numpy(gradient)[:count], -ops.convert_to_numpy(value)[:count]
