"""How well a named convention and a scaling agree with a preprocessing function, in counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustness.models.scalings import Scaling
from robustness.text import plural

_NEAR, _CHANGES_NEAR = 0.999, 0.95
"""Shares of variance from which a convention is called near: of images, and of their changes."""
_SLIGHTLY, _NOWHERE = 1.0, 4.0
"""The mean and the usual difference in counts up to which images are called equal but for rounding."""
_USUAL = 0.999
"""The share of numbers whose difference is usual: a single pixel decides nothing."""


@dataclass(frozen=True)
class Agreement:
    """How near the images of a convention are to those of a function.

    Differences are in counts: the function's numbers are converted back by the scaling.

    Attributes
    ----------
    explained : share of the variance of the function's images (R squared); at most 1, below 0 where the
        convention is worse than a constant.
    mean, median, usual, largest : absolute differences of single numbers; `usual` is that which 999 of 1000
        do not exceed.
    changes : the squared cosine, 0..1, between the changes of both images when pictures change as attacks
        through the convention change them: whether their slopes are those of the function. None if it was
        not measured.
    pictures : the number of pictures.
    """

    explained: float
    mean: float
    median: float
    usual: float
    largest: float
    changes: float | None
    pictures: int

    @property
    def near(self) -> bool:
        """Whether attacks that look through the convention see the function nearly as it is."""
        slopes = self.changes is None or self.changes >= _CHANGES_NEAR
        close = self.mean <= _SLIGHTLY and self.usual <= _NOWHERE
        return self.explained >= _NEAR and close and slopes

    @property
    def sentence(self) -> str:
        """The figures, the end of a sentence."""
        said = (
            f"on average within {_counts(self.mean)} counts (median {_counts(self.median)}, 99.9 % within "
            f"{_counts(self.usual)}, at most {_counts(self.largest)}, {_percent(self.explained)} of the "
            f"variance; {plural(self.pictures, 'picture')})"
        )
        if self.changes is None:
            return said
        return f"{said} and predicts {_percent(self.changes)} of its changes under attack"


def _counts(number: float) -> str:
    if number >= 10:
        return f"{number:.0f}"
    return f"{number:.2g}" if number >= 0.01 else "0.01"


def _percent(share: float) -> str:
    if share <= 0:
        return "0 %"
    # Rounded down, but for what the precision of numbers takes away: 100 % means all.
    return f"{np.floor(min(share + 1e-6, 1.0) * 1e4) / 100:g} %"


def scaled(scaling: Scaling, images: np.ndarray) -> np.ndarray:
    """Return `scaling` of counts (..., channels), float64, in the precision of the numbers."""
    ordered = images[..., ::-1] if scaling.order == "BGR" else images
    return ordered * np.asarray(scaling.multiply) + np.asarray(scaling.offset)


def counts_of(scaling: Scaling, inputs: np.ndarray) -> np.ndarray:
    """Return the counts (..., channels), float64, that `scaling` makes `inputs` of."""
    counts = (inputs.astype(np.float64) - np.asarray(scaling.offset)) / np.asarray(scaling.multiply)
    return counts[..., ::-1] if scaling.order == "BGR" else counts


def agreement_of(
    inputs: np.ndarray, images: np.ndarray, scaling: Scaling, changes: float | None = None
) -> Agreement:
    """Measure the agreement.

    Parameters
    ----------
    inputs : (n, height, width, channels): the function's results.
    images : of the same shape: the convention's images in counts.
    scaling : converts counts to inputs.
    changes : see `Agreement.changes`.
    """
    counts = counts_of(scaling, inputs)
    apart = np.abs(counts - images)
    return Agreement(
        explained(counts, images),
        float(apart.mean()),
        float(np.median(apart)),
        float(np.quantile(apart, _USUAL, method="inverted_cdf")),
        float(apart.max()),
        changes,
        len(inputs),
    )


def explained(values: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of the variance within channels that is predicted, the mean of the channels."""
    axes = tuple(range(values.ndim - 1))
    total = ((values - values.mean(axis=axes)) ** 2).sum(axis=axes)
    rest = ((values - predicted) ** 2).sum(axis=axes)
    return float((1 - rest / np.maximum(total, 1e-12 * max(1, rest.size))).mean())
