"""Finds the images of a run that an attack has not finished, from a few columns of the tables.

A resumed run may have a million images: the rows of those to attack become objects when they are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustness.auditing.image_queue import ImageQueue
from robustness.runs.image_columns import BEFORE_ATTACK
from robustness.runs.records import SETTLED
from robustness.runs.store import Run


@dataclass(frozen=True)
class Remaining:
    """What an attack has to do.

    Attributes
    ----------
    attacked : the keys of all images that the attack runs on, with or without outcomes, in any order.
    done : how many images have their outcomes.
    spared : the images without outcomes that the attack does not run on, in the run's order.
    statuses : the status of each of them.
    to_attack : the others. Those of which the model is surest come first: images that take many steps start
        first and end with the others.
    """

    attacked: Collection[str]
    done: int
    spared: ImageQueue
    statuses: Sequence[str]
    to_attack: ImageQueue


def remaining(store: Run, attack: str, epsilons: int, standing: Mapping[str, int]) -> Remaining:
    """Find what an attack has to do.

    Parameters
    ----------
    store : the run.
    attack : the label of the attack.
    epsilons : the number of its outcomes for each image.
    standing : by key, the number of epsilons, from the smallest on, that need an outcome; all if absent.
    """
    images, settled = store.image_columns(), store.settled(attack, epsilons)
    nothing_left = {key for key, count in standing.items() if count == 0}
    done, before = _among(images.keys, settled), images.statuses
    flipped = _among(images.keys, nothing_left)
    runs_on = (before == 0) & ~flipped
    spared = np.flatnonzero(~done & ~runs_on)
    spared = spared[np.argsort(images.positions[spared], kind="stable")]
    to_attack = np.flatnonzero(~done & runs_on)
    surest = np.nan_to_num(images.confidences[to_attack])
    to_attack = to_attack[np.lexsort((images.positions[to_attack], -surest))]
    return Remaining(
        images.keys[runs_on].tolist(),
        int(done.sum()),
        ImageQueue(images.keys[spared].tolist(), store.images_of),
        [BEFORE_ATTACK[status] or SETTLED for status in before[spared]],
        ImageQueue(images.keys[to_attack].tolist(), store.images_of),
    )


def _among(keys: np.ndarray, some: Collection[str]) -> np.ndarray:
    """Whether each key is one of `some`."""
    if not some:
        return np.zeros(len(keys), bool)
    return np.fromiter(map(some.__contains__, keys.tolist()), bool, len(keys))
