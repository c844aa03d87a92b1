"""Votes on a model with random outputs: a class counts if more than half of all draws predict it.

Each draw is a separate call, since pictures in one call may share random numbers. A sign test decides whether
a picture gets another class in more than half of all possible draws, so that the many pictures of an attack
do not flip by chance. Where a few draws do not decide, more follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Any

import numpy as np

ROUNDS = (5, 20, 60)
"""The total numbers of draws of a picture after which the test is made."""
DRAWS, MOST = ROUNDS[1], ROUNDS[2]
"""The smallest number of draws that proves a class, and the largest number of draws of a verdict."""
LEVEL = 2e-3
"""The largest chance that a picture which flips in exactly half of all draws counts as flipped."""

Pictures = Sequence[Any] | np.ndarray
Predict = Callable[[Pictures], np.ndarray]


@cache
def surely(hits: int, draws: int) -> bool:
    """Return whether `hits` of `draws` prove a hit rate above one half, by a sign test at `LEVEL`."""
    # Exact, in whole numbers: 17 of 20, 42 of 60.
    return sum(comb(draws, k) for k in range(hits, draws + 1)) <= LEVEL * 2**draws


@dataclass
class Vote:
    """The model's outputs for one picture; an output that is not finite predicts no class.

    Parameters
    ----------
    counts
        (classes,) int: the number of draws that predicted each class.
    total
        (classes,) the sum of the probabilities.
    draws
        The number of draws.
    """

    counts: np.ndarray
    total: np.ndarray
    draws: int = 0

    @classmethod
    def none(cls, classes: int) -> Vote:
        """Return a vote without draws."""
        return cls(np.zeros(classes, int), np.zeros(classes))

    def add(self, row: np.ndarray) -> None:
        """Add one draw: probabilities (classes,)."""
        self.draws += 1
        if np.isfinite(row).all():
            self.counts[int(row.argmax())] += 1
            self.total += row

    @property
    def first(self) -> int:
        """The class that was predicted most often."""
        return int(self.counts.argmax())

    @property
    def steady(self) -> bool:
        """Whether the class `first` is proven to be predicted in more than half of all draws."""
        return surely(int(self.counts.max()), self.draws)

    def confidence(self, number: int) -> float:
        """Return the mean probability of a class."""
        return float(self.total[number] / max(1, int(self.counts.sum())))


def ask(
    predict: Predict,
    pictures: Pictures,
    classes: int,
    decided: Callable[[int, Vote], bool] = lambda place, vote: False,
) -> list[Vote]:
    """Draw outputs for pictures until each is decided.

    Parameters
    ----------
    predict
        Maps pictures to probabilities (n, classes).
    pictures
        (n, height, width, channels) uint8.
    classes
        The number of classes of the model.
    decided
        Returns whether a picture, given its index and vote, is decided; a picture gets at most `MOST` draws.

    Returns
    -------
    One vote per picture.
    """
    votes = [Vote.none(classes) for _ in pictures]
    for draws in ROUNDS:
        left = [n for n, vote in enumerate(votes) if not (vote.draws and decided(n, vote))]
        while left and votes[left[0]].draws < draws:
            for place, row in zip(left, predict(_some(pictures, left)), strict=True):
                votes[place].add(row)
    return votes


def _some(pictures: Pictures, places: Sequence[int]) -> Pictures:
    """The pictures at `places`; an array if they are one."""
    if isinstance(pictures, np.ndarray):
        return pictures[list(places)]
    return [pictures[place] for place in places]


def clean(predict: Predict, pictures: Pictures, classes: int) -> list[Vote]:
    """Return the votes on unchanged pictures, drawn until one class is proven to be in the majority."""
    return ask(predict, pictures, classes, lambda _, vote: vote.draws >= DRAWS and vote.steady)


def flips(
    predict: Predict, pictures: Pictures, wanted: Sequence[np.ndarray]
) -> list[tuple[Vote, bool]]:
    """Return the vote on each picture, and whether it is proven to get one of the wanted classes.

    Parameters
    ----------
    predict
        Maps pictures to probabilities (n, classes).
    pictures
        (n, height, width, channels) uint8.
    wanted
        For each picture the classes that count, (classes,) bool.

    Notes
    -----
    Proven: in more than half of all draws. Pictures that clearly do not flip get few draws.
    """

    def decided(place: int, vote: Vote) -> bool:
        hits = int(vote.counts[wanted[place]].sum())
        hopeless = hits == 0 or (vote.draws >= DRAWS and 2 * hits < vote.draws)
        return hopeless or (vote.draws >= DRAWS and surely(hits, vote.draws))

    votes = ask(predict, pictures, len(wanted[0]), decided) if len(wanted) else []
    hits = (int(v.counts[w].sum()) for v, w in zip(votes, wanted, strict=True))
    return [(v, v.draws >= DRAWS and surely(n, v.draws)) for v, n in zip(votes, hits, strict=True)]
