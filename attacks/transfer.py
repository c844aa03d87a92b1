"""Momentum attacks that transfer between models: NI-FGSM, DI-FGSM, TI-FGSM and VMI-FGSM.

All are one recipe with four options that can be combined: each attack sets one of them by default, and
`vmi-fgsm:nesterov=true,diversity=0.5,kernel=15` sets all four.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from robustness.attacks.mi_fgsm import MIFGSM
from robustness.configuration.attack_parameters import setting
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import State
from robustness.numerics.powers_of_two import TINY

NESTEROV, DIVERSITY = (
    "take the gradient one step of momentum ahead",
    "probability that an input is shrunk",
)
KERNEL = "width in pixels of the Gaussian that smooths gradients; 0 for none"
NEIGHBOURS = "nearby points whose gradients correct the direction; 0 for none"


@dataclass(frozen=True, kw_only=True)
class _Transfer(MIFGSM):
    """MI-FGSM with options for its gradient: look-ahead, shrunken inputs, smoothing, variance tuning.

    Parameters
    ----------
    nesterov
        Whether the gradient is taken one step of momentum ahead (`NIFGSM`).
    diversity
        Probability that an input is shrunk (`DIFGSM`).
    smallest
        The least side of a shrunken input, as a share of the image's.
    kernel
        Width in pixels of the Gaussian that smooths gradients (`TIFGSM`); 0 for none.
    neighbours
        Number of points around the last one whose gradients correct the direction (`VMIFGSM`); 0 for none.
    reach
        Size of the neighbourhood in epsilons.
    steps, decay, step_size, loss
        As in `MIFGSM`.
    """

    nesterov: bool = setting(False, NESTEROV)
    diversity: float = setting(0.0, DIVERSITY, low=0, high=1)
    smallest: float = setting(0.9, "least side of a shrunken input, as a share", low=0.1, high=1)
    kernel: int = setting(0, KERNEL, low=0, high=999)
    neighbours: int = setting(0, NEIGHBOURS, low=0, high=1000)
    reach: float = setting(1.5, "size of the neighbourhood in epsilons", low=0, high=100)

    @property
    def width(self) -> int:
        return max(1, self.neighbours)

    def init(self, task: Task) -> State:
        zero = ops.zeros_like(task.images)
        return {"point": task.images, "momentum": zero, "variance": zero}

    def step(self, task: Task, state: State, look: Look) -> State:
        point, length = state["point"], task.per_row(self.length(task.epsilon))
        drift = length * self.decay * state["momentum"] if self.nesterov else 0.0
        ahead = self.nesterov or self.diversity
        gradient = self._gradient(task, look, ops.expand_dims(point - drift, 1), judged=not ahead)
        steady = self._smooth(gradient + state["variance"])
        size = ops.mean(ops.abs(steady), axis=(1, 2, 3), keepdims=True)
        momentum = self.decay * state["momentum"] + steady / ops.maximum(size, TINY)
        after = {"point": task.project(point - length * task.norm.steepest(momentum))}
        return after | {
            "momentum": momentum,
            "variance": self._variance(task, point, gradient, look),
        }

    def _gradient(self, task: Task, look: Look, points: Any, *, judged: bool) -> Any:
        """The mean gradient at points (rows, k, h, w, c), with inputs shrunk at random."""
        if not self.diversity:
            return ops.mean(look(points, judged=judged).gradient, axis=1)
        down, across = shrinking(task, self.diversity, self.smallest)
        output = look(sandwich(down, points, across), judged=judged)
        turned = [ops.transpose(m, (0, 2, 1)) for m in (down, across)]
        return ops.mean(sandwich(turned[0], output.gradient, turned[1]), axis=1)

    def _smooth(self, gradient: Any) -> Any:
        if not self.kernel:
            return gradient
        down, across = (smoothing(n, self.kernel)[None] for n in gradient.shape[1:3])
        return sandwich(down, gradient[:, None], across)[:, 0]

    def _variance(self, task: Task, point: Any, gradient: Any, look: Look) -> Any:
        if not self.neighbours:
            return ops.zeros_like(gradient)
        noise = 2 * task.uniform((self.neighbours, *point.shape[1:]), 4) - 1
        flat = ops.reshape(noise, (-1, *point.shape[1:]))
        size = ops.reshape(task.norm.size(flat), (-1, self.neighbours, 1, 1, 1))
        far = self.reach * ops.reshape(task.epsilon, (-1, 1, 1, 1, 1)) * noise / size
        return self._gradient(task, look, point[:, None] + far, judged=False) - gradient


@dataclass(frozen=True, kw_only=True)
class NIFGSM(_Transfer):
    """NI-FGSM: MI-FGSM with the gradient taken one step of momentum ahead (Nesterov).

    Parameters
    ----------
    nesterov, diversity, smallest, kernel, neighbours, reach
        The options of all transfer attacks, see `_Transfer`; only `nesterov` is set by default.
    steps, decay, step_size, loss
        As in `MIFGSM`.

    References
    ----------
    Lin et al. 2020, arXiv:1908.06281, alg. 1, without the scaled copies.
    """

    name: ClassVar[str] = "ni-fgsm"
    paper: ClassVar[str] = "Lin et al. 2020, arXiv:1908.06281"

    nesterov: bool = setting(True, NESTEROV)


@dataclass(frozen=True, kw_only=True)
class DIFGSM(_Transfer):
    """DI-FGSM: MI-FGSM with inputs that are shrunk at random and placed on black.

    Parameters
    ----------
    nesterov, diversity, smallest, kernel, neighbours, reach
        The options of all transfer attacks, see `_Transfer`; only `diversity` is set by default.
    steps, decay, step_size, loss
        As in `MIFGSM`.

    Notes
    -----
    The paper enlarges images by up to a tenth. Here the model fixes the size of its input, so images are
    shrunk instead.

    References
    ----------
    Xie et al. 2019, arXiv:1803.06978, eq. 5.
    """

    name: ClassVar[str] = "di-fgsm"
    padded: ClassVar[bool] = False
    paper: ClassVar[str] = "Xie et al. 2019, arXiv:1803.06978"

    diversity: float = setting(0.5, DIVERSITY, low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class TIFGSM(_Transfer):
    """TI-FGSM: MI-FGSM with smoothed gradients, which approximate gradients at shifted images.

    Parameters
    ----------
    nesterov, diversity, smallest, kernel, neighbours, reach
        The options of all transfer attacks, see `_Transfer`; only `kernel` is set by default.
    steps, decay, step_size, loss
        As in `MIFGSM`.

    Notes
    -----
    The kernel is a Gaussian of 15 pixels, cut at three standard deviations.

    References
    ----------
    Dong et al. 2019, arXiv:1904.02884, eq. 7 and sec. 3.3.
    """

    name: ClassVar[str] = "ti-fgsm"
    paper: ClassVar[str] = "Dong et al. 2019, arXiv:1904.02884"

    kernel: int = setting(15, KERNEL, low=0, high=999)


@dataclass(frozen=True, kw_only=True)
class VMIFGSM(_Transfer):
    """VMI-FGSM: MI-FGSM with the gradient corrected by those around the last point (variance tuning).

    Parameters
    ----------
    nesterov, diversity, smallest, kernel, neighbours, reach
        The options of all transfer attacks, see `_Transfer`; only `neighbours` is set by default.
    steps, decay, step_size, loss
        As in `MIFGSM`.

    Notes
    -----
    As in the paper, 20 neighbours within 1.5 epsilon.

    References
    ----------
    Wang & He 2021, arXiv:2103.15571, alg. 1, eq. 4-5.
    """

    name: ClassVar[str] = "vmi-fgsm"
    paper: ClassVar[str] = "Wang & He 2021, arXiv:2103.15571"

    neighbours: int = setting(20, NEIGHBOURS, low=0, high=1000)


def sandwich(down: Any, pictures: Any, across: Any) -> Any:
    """``down @ picture @ across.T`` for pictures (rows, k, h, w, c), each channel by itself."""
    if down.shape[0] == 1:
        return ops.einsum("ij,nkjlc,ml->nkimc", down[0], pictures, across[0])
    return ops.einsum("nij,nkjlc,nml->nkimc", down, pictures, across)


def smoothing(size: int, kernel: int) -> Any:
    """A Gaussian of `kernel` pixels as a matrix (size, size); outside the image the values are zero."""
    radius = kernel // 2
    shape = np.exp(-0.5 * np.linspace(-3, 3, 2 * radius + 1) ** 2) if radius else np.ones(1)
    shape = shape / shape.sum()
    apart = np.arange(size)[:, None] - np.arange(size)[None, :]
    near = np.abs(apart) <= radius
    return np.where(near, shape[np.clip(apart + radius, 0, 2 * radius)], 0.0).astype("float32")


def shrinking(task: Task, chance: float, smallest: float) -> tuple[Any, Any]:
    """Matrices (rows, h, h) and (rows, w, w) that shrink an image and place it on black, at random."""
    height, width = task.images.shape[1:3]
    draw = task.uniform((4,), 5)
    least = round(smallest * height)
    side = least + ops.floor(draw[:, 0] * (height - least + 1))
    share = ops.where(draw[:, 1] < chance, ops.minimum(side, height) / height, 1.0)
    return _resized(height, share, draw[:, 2]), _resized(width, share, draw[:, 3])


def _resized(size: int, share: Any, place: Any) -> Any:
    """Bilinear resizing of `size` pixels by the factor `share`, placed at 0..1 of the remaining range."""
    new = ops.round(share * size)[:, None, None]
    first = ops.floor(place[:, None, None] * (size - new + 1))
    pixel = ops.arange(size, dtype="float32")
    to, source = pixel[None, :, None] - first, pixel[None, None, :]
    at = ops.clip((to + 0.5) * size / new - 0.5, 0.0, size - 1.0)
    inside = ops.logical_and(to >= 0, to < new)
    return ops.where(inside, ops.maximum(1.0 - ops.abs(at - source), 0.0), 0.0)
