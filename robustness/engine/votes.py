"""Verdicts on a model that answers at random: a class counts where draws say it more often than not.

Each draw is a call of its own, since the random numbers of one call may be shared by the pictures in it. What
is decided is whether a picture's class is another one in more than half of all draws there could be: by a
sign test, so that the many pictures of an attack do not flip by luck, with more draws where few do not tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np

ROUNDS = (5, 20, 60)
"""Draws of a picture, in all, after which it is asked whether they suffice."""
DRAWS, MOST = ROUNDS[1], ROUNDS[2]
"""Draws that a verdict rests on at least, and at most."""
LEVEL = 2e-3
"""Chance at most that a picture which goes either way in half of its draws counts as one that does not."""

Predict = Callable[[np.ndarray], np.ndarray]


@cache
def surely(hits: int, draws: int) -> bool:
    """Whether `hits` of `draws` say that there are more hits than not, by a sign test."""
    # Exact, in whole numbers: 17 of 20, 42 of 60.
    return sum(comb(draws, k) for k in range(hits, draws + 1)) <= LEVEL * 2**draws


@dataclass
class Vote:
    """The answers to one picture: how often each class was named, and the sum of the probabilities.

    `counts` and `total` are (classes,); an answer that is not finite names no class.
    """

    counts: np.ndarray
    total: np.ndarray
    draws: int = 0

    @classmethod
    def none(cls, classes: int) -> Vote:
        """Before the first draw."""
        return cls(np.zeros(classes, int), np.zeros(classes))

    def hear(self, row: np.ndarray) -> None:
        """One more draw: probabilities (classes,)."""
        self.draws += 1
        if np.isfinite(row).all():
            self.counts[int(row.argmax())] += 1
            self.total += row

    @property
    def first(self) -> int:
        """The class that is named most often."""
        return int(self.counts.argmax())

    @property
    def steady(self) -> bool:
        """Whether that class is named more often than not."""
        return surely(int(self.counts.max()), self.draws)

    def confidence(self, number: int) -> float:
        """The mean probability of a class."""
        return float(self.total[number] / max(1, int(self.counts.sum())))


def ask(
    predict: Predict,
    pictures: np.ndarray,
    classes: int,
    decided: Callable[[int, Vote], bool] = lambda place, vote: False,
) -> list[Vote]:
    """The votes on `pictures` (n, height, width, channels), each asked until `decided(place, vote)`.

    `predict` gives probabilities (n, classes); it is asked at most `MOST` times of each.
    """
    votes = [Vote.none(classes) for _ in pictures]
    for draws in ROUNDS:
        left = [n for n, vote in enumerate(votes) if not (vote.draws and decided(n, vote))]
        while left and votes[left[0]].draws < draws:
            for place, row in zip(left, predict(pictures[left]), strict=True):
                votes[place].hear(row)
    return votes


def clean(predict: Predict, pictures: np.ndarray, classes: int) -> list[Vote]:
    """The votes on unchanged pictures: asked until one class leads surely."""
    return ask(predict, pictures, classes, lambda _, vote: vote.draws >= DRAWS and vote.steady)


def flips(
    predict: Predict, pictures: np.ndarray, wanted: Sequence[np.ndarray]
) -> list[tuple[Vote, bool]]:
    """The vote on each picture, and whether it surely gets one of the classes `wanted` (classes,) bool.

    Surely: in more than half of its draws. Of what plainly does not flip little is asked.
    """

    def decided(place: int, vote: Vote) -> bool:
        hits = int(vote.counts[wanted[place]].sum())
        hopeless = hits == 0 or (vote.draws >= DRAWS and 2 * hits < vote.draws)
        return hopeless or (vote.draws >= DRAWS and surely(hits, vote.draws))

    votes = ask(predict, pictures, len(wanted[0]), decided) if len(wanted) else []
    told = (int(v.counts[w].sum()) for v, w in zip(votes, wanted, strict=True))
    return [(v, v.draws >= DRAWS and surely(n, v.draws)) for v, n in zip(votes, told, strict=True)]
