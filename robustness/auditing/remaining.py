"""Finds the images of a run that an attack has not finished, from a few columns of the tables.

A resumed run may have a million images: the rows of those to attack become objects when they are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustness.auditing.image_queue import ImageQueue
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
    keys: list[str] = []
    attacked: list[str] = []
    positions: list[int] = []
    confidences: list[float | None] = []
    spared: list[tuple[int, str, str]] = []
    settled, count = store.settled(attack, epsilons), 0
    for rows in store.statuses():
        count += len(rows)
        for key, position, confidence, before in rows:
            status = before or (SETTLED if standing.get(key) == 0 else "")
            if not status:
                attacked.append(key)
            if key in settled:
                continue
            if status:
                spared.append((position, key, status))
            else:
                keys.append(key)
                positions.append(position)
                confidences.append(confidence)
    spared.sort()
    # An empty confidence becomes NaN.
    surest = np.nan_to_num(np.array(confidences, float))
    return Remaining(
        attacked,
        count - len(keys) - len(spared),
        ImageQueue([key for _, key, _ in spared], store.images_of),
        [status for _, _, status in spared],
        ImageQueue([keys[n] for n in np.lexsort((positions, -surest)).tolist()], store.images_of),
    )
