"""Records which pixels of the pictures the deployed pipeline reads, for `run.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from robustness.errors import PipelineError
from robustness.pipeline.deployment import Deployment
from robustness.pipeline.read_share import PixelsRead
from robustness.runs.deployed_schema import PixelsReadEntry


class Deployed(Protocol):
    """A model behind an input pipeline."""

    @property
    def deployment(self) -> object:
        """The pipeline; None if there is none."""


_DIGITS = 3
"""The significant digits of a row's influence: it colours a heat map."""


def pixels_read(
    classifier: Deployed, sizes: Iterable[tuple[int, int]], *, stands_in: bool = False
) -> PixelsReadEntry | None:
    """Return which pixels the pipeline reads of the most frequent, and of the median size.

    Parameters
    ----------
    classifier : the model behind the named convention through which attacks see it.
    sizes : height and width of each picture of the run.
    stands_in : whether the convention stands in for the user's own function.

    Returns
    -------
    None if no pipeline is before the model, there is no picture, or the linear part of the pipeline is not
    known for these sizes.
    """
    deployment, ordered = classifier.deployment, sorted(sizes, key=lambda s: (s[0] * s[1], s))
    if not isinstance(deployment, Deployment) or not ordered:
        return None
    # The larger one of several that are as frequent.
    (size, count) = max(Counter(ordered).items(), key=lambda item: (item[1], item[0]))
    middle = ordered[len(ordered) // 2]
    try:
        read, median = (PixelsRead.of(deployment.geometry(one)) for one in (size, middle))
    except PipelineError:
        return None
    return PixelsReadEntry(
        height=size[0],
        width=size[1],
        pictures=count,
        total=len(ordered),
        share=read.share,
        share_of_window=read.share_of_window,
        rows=_short(read.rows),
        columns=_short(read.columns),
        median=middle,
        median_share=median.share,
        median_share_of_window=median.share_of_window,
        convention=deployment.convention.text,
        stands_in=stands_in,
    )


def _short(influence: np.ndarray) -> tuple[float, ...]:
    """The numbers with few digits: `run.json` has one for each row and column."""
    return tuple(float(f"{value:.{_DIGITS}g}") for value in influence.tolist())
