"""Score-based descent (NES, regression): the gradient is estimated from the losses of nearby points."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from keras import ops

from robustness.attacks.components.starts import code, frame
from robustness.attacks.components.step_length import Stepping
from robustness.configuration.attack_parameters import setting
from robustness.contract.attack import LEAST_PROBE, Attack
from robustness.contract.look import Look
from robustness.contract.task import Task
from robustness.contract.types import Knowledge, State
from robustness.errors import SettingError
from robustness.numerics.losses import LOSSES
from robustness.optimization.regression.factored import Factored


@dataclass(frozen=True, kw_only=True)
class _Probing(Stepping, Attack):
    """The common part: steepest descent along an estimated gradient; a step costs `probes` queries.

    Probes are images, clipped to 0..255, and candidates like any other point. Their root mean square
    difference from the point is `sigma` counts.
    """

    knowledge: ClassVar[Knowledge] = "score"
    padded: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    steps: int = setting(100, "number of steps, each of `probes` queries", low=1, high=100_000)
    probes: int = setting(50, "queries per step", low=2, high=10_000)
    antithetic: bool = setting(True, "probe in pairs, on both sides of the point")
    sigma: float = setting(0.5, "root mean square of a probe, in counts", low=0.001, high=255)
    momentum: float = setting(0.9, "weight of earlier estimates", low=0, high=0.999)
    step_size: float | None = setting(
        None, "length of a step, in the unit of epsilon", low=0.001, automatic="epsilon / 5"
    )
    frequencies: int | None = setting(
        None, "lowest frequencies of each axis to probe in", low=2, automatic="all pixels"
    )
    loss: str = setting("margin", "loss that is lowered", choices=tuple(LOSSES))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.antithetic and self.probes % 2:
            raise SettingError(
                f"probes={self.probes} cannot be paired; expected an even number, or antithetic=false."
            )

    @property
    def width(self) -> int:
        return self.probes

    def on_files(self) -> Attack:
        return replace(self, sigma=max(self.sigma, LEAST_PROBE))

    def usual(self, epsilon: Any) -> Any:
        return epsilon / 5

    @abstractmethod
    def estimate(self, task: Task, size: int, losses: Callable[[Any], Any]) -> Any:
        """Estimate the slopes of a loss along `size` orthonormal axes.

        Parameters
        ----------
        task
            The rows.
        size
            Number of axes.
        losses
            A function from probes (rows, probes, size) of length about one to their losses (rows, probes).

        Returns
        -------
        (rows, size).
        """

    def init(self, task: Task) -> State:
        return {"point": task.images, "average": ops.zeros_like(task.images)}

    def step(self, task: Task, state: State, look: Look) -> State:
        image = tuple(task.images.shape[1:])
        waves = Waves.of(image, self.frequencies)
        far = self.sigma * math.sqrt(math.prod(image))

        def losses(probes: Any) -> Any:
            return (
                look(task.clip(state["point"][:, None] + far * waves.pictures(probes))).level / far
            )

        slopes = self.estimate(task, waves.size, losses)
        gradient = waves.pictures(slopes[:, None])[:, 0]
        average = self.momentum * state["average"] + (1 - self.momentum) * gradient
        direction = task.norm.steepest(average)
        point = task.descend(state["point"], direction, self.length(task.epsilon))
        return {"point": point, "average": average}


@dataclass(frozen=True, kw_only=True)
class NES(_Probing):
    """Natural evolution strategies: find a flip in the ball by a gradient estimated from Gaussian probes.

    The estimate is ``g = mean(L(x + sigma u) u) / sigma`` over Gaussian u; a step of steepest descent
    follows its moving average.

    Parameters
    ----------
    steps
        Number of steps, each of `probes` queries.
    probes
        Queries per step.
    antithetic
        Whether probes come in pairs u, -u. If not, the mean of the losses is subtracted first, which reduces
        the variance.
    sigma
        Root mean square of a probe, in counts.
    momentum
        Weight of the earlier estimates in the moving average.
    step_size
        Length of a step in the norm's unit; by default epsilon / 5.
    frequencies
        Probe only in the lowest cosine frequencies of each axis, this many; by default in all pixels.
    loss
        The loss that is lowered.

    Notes
    -----
    The paper uses 50 antithetic probes and a sigma of 0.001 of the pixel range.

    References
    ----------
    Ilyas et al. 2018, arXiv:1804.08598, alg. 1.
    """

    name: ClassVar[str] = "nes"
    paper: ClassVar[str] = "Ilyas et al. 2018, arXiv:1804.08598"

    def estimate(self, task: Task, size: int, losses: Callable[[Any], Any]) -> Any:
        drawn = task.normal((self.probes // (1 + self.antithetic), size)) / math.sqrt(size)
        probes = ops.concatenate([drawn, -drawn], axis=1) if self.antithetic else drawn
        values = losses(probes)
        centred = values - ops.mean(values, axis=1, keepdims=True)
        return size / self.probes * ops.sum(centred[:, :, None] * probes, axis=1)


@dataclass(frozen=True, kw_only=True)
class Regression(_Probing):
    """Regression: find a flip in the ball by a gradient fitted to the losses of evenly spread probes.

    As `NES`, but the probes form a spherical code (a simplex, or a cross-polytope for pairs), rotated at
    random for each row and step, among the lowest frequencies. The slopes are the linear least-squares fit
    of the losses to the probes; it is factored once, since a rotation does not change it.

    Parameters
    ----------
    steps, probes, sigma, momentum, step_size, loss
        As in `NES`.
    antithetic
        Whether probes come in pairs u, -u. Not by default: pairs measure curvature, and half as many
        directions.
    frequencies
        As in `NES`; by default 8.

    References
    ----------
    Ilyas et al. 2018, arXiv:1804.08598, alg. 1.
    Guo et al. 2019, arXiv:1809.08758, for low frequencies.
    Berahas et al. 2022, arXiv:1905.01332, sec. 2.3, for linear regression.
    """

    name: ClassVar[str] = "regression"
    paper: ClassVar[str] = "after Ilyas et al. 2018, arXiv:1804.08598, and arXiv:1905.01332"

    antithetic: bool = setting(False, "probe in pairs, on both sides of the point")
    frequencies: int | None = setting(
        8, "lowest frequencies of each axis to probe in", low=2, automatic="all pixels"
    )

    def estimate(self, task: Task, size: int, losses: Callable[[Any], Any]) -> Any:
        probes, regression = design(self.probes, size, self.antithetic)
        axes = frame(task.keys, 16 + 4096 * (1 + task.step), size, probes.shape[1])
        values = losses(ops.matmul(probes, ops.transpose(axes, (0, 2, 1))))
        slopes = regression.solve(values)[:, :-1]
        return ops.sum(axes * slopes[:, None, :], axis=-1)


@lru_cache(maxsize=16)
def design(probes: int, size: int, antithetic: bool) -> tuple[np.ndarray, Factored]:
    """Probes, and the factored regression of losses on them; its last coefficient is the loss at the point.

    Parameters
    ----------
    probes
        Number of probes.
    size
        Number of components of a probe.
    antithetic
        Whether probes come in pairs.

    Returns
    -------
    The probes (probes, axes), of length one, with as many axes as they can determine, and the regression.
    """
    count = probes // 2 if antithetic else probes
    axes = min(max(2, count if antithetic else count - 1), size)
    spread = code(count, axes, antithetic) if count > 1 else np.eye(1, axes, dtype="float32")
    probes_at = np.concatenate([spread, -spread]) if antithetic else spread
    # The small penalty makes the solution unique if there are fewer probes than axes.
    penalty = np.append(np.full(axes, 1e-6), 0.0)
    return probes_at, Factored.of(np.column_stack([probes_at, np.ones(probes)]), penalty)


@dataclass(frozen=True)
class Waves:
    """Images (h, w, c) as sums of the lowest cosines of each axis, which are orthonormal, or of pixels."""

    image: tuple[int, ...]
    down: np.ndarray | None
    across: np.ndarray | None

    @classmethod
    def of(cls, image: tuple[int, ...], frequencies: int | None) -> Waves:
        """The lowest `frequencies` of each axis, at most all of them; None for pixels."""
        if frequencies is None:
            return cls(image, None, None)
        return cls(image, *(cosines(n, min(frequencies, n)) for n in image[:2]))

    @property
    def size(self) -> int:
        """The number of coefficients of an image."""
        if self.down is None or self.across is None:
            return math.prod(self.image)
        return len(self.down) * len(self.across) * self.image[2]

    def pictures(self, values: Any) -> Any:
        """Turn coefficients (rows, k, size) into images (rows, k, h, w, c) of the same length."""
        if self.down is None or self.across is None:
            return ops.reshape(values, (-1, values.shape[1], *self.image))
        sides = (len(self.down), len(self.across), self.image[2])
        flat = ops.reshape(values, (-1, values.shape[1], *sides))
        tall = ops.einsum("rkabc,ah->rkhbc", flat, ops.convert_to_tensor(self.down))
        return ops.einsum("rkhbc,bw->rkhwc", tall, ops.convert_to_tensor(self.across))


def cosines(length: int, count: int) -> np.ndarray:
    """The first `count` vectors of the orthonormal DCT-II (count, length) float32."""
    wave = np.cos(np.pi / length * np.outer(np.arange(count), np.arange(length) + 0.5))
    return (wave / np.linalg.norm(wave, axis=1, keepdims=True)).astype("float32")
