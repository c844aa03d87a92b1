"""Common corruptions: noise, blur, compression, brightness and contrast, as cameras and files cause them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops
from PIL import Image

from robustness.attacks.components.jpeg import compressed
from robustness.attacks.transfer import sandwich
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import Attack
from robustness.contract.look import Look
from robustness.contract.task import Task, where_rows
from robustness.contract.types import Knowledge, State
from robustness.numerics.batch_invariant import batch_invariant
from robustness.threat.norms import Norm

SIDE = 224
"""Side of the images for which the blur widths are defined; for others they are scaled."""


def _gaussian(task: Task, x: Any, size: Any) -> Any:
    return x + size * task.normal(tuple(x.shape[1:]), 0)


def _shot(task: Task, x: Any, size: Any) -> Any:
    rate, drawn = x * size, task.uniform(tuple(x.shape[1:]), 1)

    def more(number: Any, share: Any, below: Any, count: Any) -> tuple[Any, Any, Any, Any]:
        count = count + ops.where(drawn > below, 1.0, 0.0)
        share = share * rate / (number + 1)
        return number + 1, share, below + share, count

    # Poisson numbers by inverting the distribution function; 128 terms suffice for a rate of 60.
    first = batch_invariant(ops.exp, -rate)
    begin = (ops.zeros(()), first, first, 0 * rate)
    *_, count = ops.while_loop(lambda *_: True, more, begin, maximum_iterations=128)
    return count / size


def _impulse(task: Task, x: Any, size: Any) -> Any:
    drawn = task.uniform(tuple(x.shape[1:]), 2)
    return ops.where(drawn < size / 2, 0.0, ops.where(drawn > 1 - size / 2, 1.0, x))


def _speckle(task: Task, x: Any, size: Any) -> Any:
    return x * (1 + size * task.normal(tuple(x.shape[1:]), 3))


def _brightness(task: Task, x: Any, size: Any) -> Any:
    value = ops.max(x, axis=-1, keepdims=True)
    lifted = ops.clip(value + size, 0.0, 1.0)
    return ops.where(value > 0, x * lifted / ops.maximum(value, 1e-6), lifted)


def _contrast(task: Task, x: Any, size: Any) -> Any:
    mean = ops.mean(x, axis=(1, 2), keepdims=True)
    return (x - mean) * size + mean


def _gaussian_table(side: int) -> np.ndarray:
    """Matrices (5, side, side), one per severity, that blur an axis; edge pixels are repeated."""
    tables = []
    for sigma in np.array([1, 2, 3, 4, 6]) * side / SIDE:
        reach = int(4 * sigma + 0.5)
        wave = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        table = np.zeros((side, side))
        for k, share in enumerate(wave / wave.sum()):
            table[np.arange(side), np.clip(np.arange(side) + k - reach, 0, side - 1)] += share
        tables.append(table)
    return np.stack(tables).astype("float32")


def _pixel_table(side: int) -> np.ndarray:
    """Matrices (5, side, side), one per severity, that pixelate an axis (Pillow's box filter)."""
    tables = []
    for share in (0.6, 0.5, 0.4, 0.3, 0.25):
        unit = Image.fromarray(np.eye(side, dtype="float32"))
        box = Image.Resampling.BOX
        small = unit.resize((side, max(1, int(side * share))), box)
        tables.append(np.asarray(small.resize((side, side), box)))
    return np.stack(tables).astype("float32")


def _by_table(tables: Callable[[int], np.ndarray]) -> Callable[[Task, Any, Any], Any]:
    def changed(task: Task, x: Any, size: Any) -> Any:
        level = ops.cast(ops.reshape(size, (-1,)), "int32")
        down, across = (ops.take(ops.convert_to_tensor(tables(n)), level, 0) for n in x.shape[1:3])
        return sandwich(down, x[:, None], across)[:, 0]

    return changed


def _jpeg(task: Task, x: Any, size: Any) -> Any:
    return compressed(255.0 * x, ops.reshape(size, (-1,))) / 255.0


Kind = tuple[tuple[float, ...], Callable[[Task, Any, Any], Any]]
LEVELS = 0.0, 1.0, 2.0, 3.0, 4.0

KINDS: dict[str, Kind] = {
    "gaussian-noise": ((0.08, 0.12, 0.18, 0.26, 0.38), _gaussian),
    "shot-noise": ((60, 25, 12, 5, 3), _shot),
    "impulse-noise": ((0.03, 0.06, 0.09, 0.17, 0.27), _impulse),
    "speckle-noise": ((0.15, 0.2, 0.35, 0.45, 0.6), _speckle),
    "gaussian-blur": (LEVELS, _by_table(_gaussian_table)),
    "pixelate": (LEVELS, _by_table(_pixel_table)),
    "jpeg": ((25, 18, 15, 10, 7), _jpeg),
    "brightness": ((0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
    "contrast": ((0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
}
"""For each corruption its constants at severities 1 to 5, and its function on images in 0..1."""


@dataclass(frozen=True, kw_only=True)
class Corruptions(Attack):
    """Common corruptions: does noise, blur, compression, brightness or contrast change the class?

    Evaluates each image under the corruptions of ImageNet-C. Epsilon is the severity, 1 to 5.

    Parameters
    ----------
    steps
        How often random noise is drawn.
    kind
        The corruption, a key of `KINDS`; "all" evaluates all of them in one step.

    Notes
    -----
    The constants are those of ImageNet-C. The width of a blur is scaled from images of 224 pixels to the
    side of the image.

    References
    ----------
    Hendrycks & Dietterich 2019, arXiv:1903.12261, sec. 4.
    """

    name: ClassVar[str] = "corruptions"
    padded: ClassVar[bool] = False
    paper: ClassVar[str] = "Hendrycks & Dietterich 2019, arXiv:1903.12261"
    knowledge: ClassVar[Knowledge] = "decision"
    norms: ClassVar[tuple[str, ...]] = ("free",)
    baseline: ClassVar[bool] = True

    steps: int = setting(1, "number of draws of the noise", low=1, high=100_000)
    kind: str = setting("all", "which corruption", choices=("all", *KINDS))

    @property
    def kinds(self) -> list[str]:
        """The names of the corruptions that are evaluated."""
        return list(KINDS) if self.kind == "all" else [self.kind]

    @property
    def width(self) -> int:
        return len(self.kinds)

    def farthest(self, norm: Norm, epsilon: float, shape: tuple[int, ...]) -> float:
        return 5.0

    def init(self, task: Task) -> State:
        return {"point": task.images}

    def step(self, task: Task, state: State, look: Look) -> State:
        level = ops.clip(ops.cast(ops.floor(task.epsilon), "int32"), 0, 5)
        variants = []
        for name in self.kinds:
            constants, change = KINDS[name]
            sizes = ops.convert_to_tensor(np.array(constants, "float32"))
            size = task.per_row(ops.take(sizes, ops.maximum(level - 1, 0), axis=0))
            changed = 255.0 * change(task, task.images / 255.0, size)
            variants.append(where_rows(level > 0, changed, task.images))
        points = task.clip(ops.stack(variants, axis=1))
        look(points)
        return {"point": points[:, 0]}
