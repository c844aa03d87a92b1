"""The threat: what the attacker may change (norm, epsilons, mask) and must reach (goal)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robustness.configuration.epsilons import parse_epsilon
from robustness.errors import SettingError
from robustness.plugins import is_foreign
from robustness.threat.goals import Goal, Untargeted
from robustness.threat.mask import Mask
from robustness.threat.norms import Linf, Norm
from robustness.threat.norms.soundness import expect_sound


@dataclass(frozen=True)
class Threat:
    """A norm, epsilons, a goal, and a mask.

    Parameters
    ----------
    epsilons
        Budgets in the unit of the norm, at least 1; they are sorted, and duplicates are removed.
    norm
        The norm that measures changes.
    goal
        Any other class, or a given class.
    mask
        The pixels that may change; None for all.

    Raises
    ------
    SettingError
        There is no epsilon, or one is below 1 count or larger than any change.
    """

    epsilons: tuple[float, ...]
    norm: Norm = Linf()  # noqa: RUF009 - norms have no state
    goal: Goal = Untargeted()  # noqa: RUF009 - frozen
    mask: Mask | None = None

    def __post_init__(self) -> None:
        if not self.epsilons:
            raise SettingError("No epsilon was given; expected at least one budget in counts.")
        ladder = tuple(sorted({parse_epsilon(e) for e in self.epsilons}))
        self.norm.expect_within(ladder)
        object.__setattr__(self, "epsilons", ladder)

    def expect_possible(self, shape: tuple[int, ...]) -> None:
        """Refuse budgets larger than any change of an image, and norms of other packages that are not sound.

        Parameters
        ----------
        shape
            The shape of the images, (height, width, channels).

        Raises
        ------
        SettingError
            An epsilon is larger than any change of the pixels that may change (`Norm.largest`), or the norm
            breaks its contract (`norms.soundness`).
        """
        height, width, channels = shape
        if is_foreign(self.norm):
            expect_sound(self.norm, channels)
        free = height * width if self.mask is None else int(self.mask.free.sum())
        self.norm.expect_within(self.epsilons, free, channels)

    @property
    def weights(self) -> Any:
        """1 where a pixel may change and 0 elsewhere, (height, width, 1) float32; None for all."""
        return None if self.mask is None else self.mask.free[..., None].astype("float32")

    def room(self, images: Any) -> tuple[Any, Any]:
        """Return the least and the largest change of each component of `images` (..., h, w, c), in counts."""
        return room(images, self.weights)


def room(images: Any, weights: Any) -> tuple[Any, Any]:
    """Return the least and the largest change of each component, in counts.

    Parameters
    ----------
    images
        (..., height, width, channels) in counts of 0..255.
    weights
        1 where a pixel may change and 0 elsewhere, (height, width, 1) or one such array per image; None for
        all.

    Returns
    -------
    The least (at most 0) and the largest (at least 0) change that stays within 0..255, shaped like `images`;
    both are 0 where `weights` is 0.
    """
    if weights is None:
        return -images, 255.0 - images
    return -images * weights, (255.0 - images) * weights
