"""Finds the images of a run that an attack has not finished, from a few columns of the tables.

A resumed run may have a million images with outcomes: rows become objects only for images without them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.runs.records import (
    FAILED,
    MISCLASSIFIED,
    SETTLED,
    UNREADABLE,
    ImageRow,
    status_before_attack,
)
from robustness.runs.store import Run


@dataclass(frozen=True)
class Remaining:
    """What an attack has to do.

    Attributes
    ----------
    store : the run.
    attacked : the keys of all images that the attack runs on, with or without outcomes, in any order.
    done : how many images have their outcomes.
    unfinished : the keys of the others, attacked or not.
    standing : as for `remaining`.
    """

    store: Run
    attacked: Collection[str]
    done: int
    unfinished: Collection[str]
    standing: Mapping[str, int]

    def rows(self) -> Iterator[tuple[ImageRow, str]]:
        """Yield the images without outcomes, in the run's order, and their status; "" for one to attack."""
        for row in self.store.image_rows(self.unfinished):
            spared = SETTLED if self.standing.get(row.key) == 0 else ""
            yield row, status_before_attack(row) or spared


def remaining(store: Run, attack: str, epsilons: int, standing: Mapping[str, int]) -> Remaining:
    """Find what an attack has to do.

    Parameters
    ----------
    store : the run.
    attack : the label of the attack.
    epsilons : the number of its outcomes for each image.
    standing : by key, the number of epsilons, from the smallest on, that need an outcome; all if absent.
    """
    images = store.columns_of("images", "key", "label", "clean_class", "reason")
    keys = images["key"].to_numpy(object)
    attacked = statuses_before_attack(images) == ""
    if standing:
        attacked &= np.array([standing.get(key) != 0 for key in keys], bool)
    settled = store.settled(attack, epsilons)
    unfinished = {key for key in keys if key not in settled}
    return Remaining(
        store, keys[attacked].tolist(), len(keys) - len(unfinished), unfinished, standing
    )


def statuses_before_attack(images: pd.DataFrame) -> np.ndarray:
    """Return what `status_before_attack` does for each row of a table, as (n,) texts; "" for None.

    Parameters
    ----------
    images : the columns `label`, `clean_class` and `reason` of the table of images.
    """
    read, label = images["clean_class"].notna(), images["label"]
    wrong = label.notna() & label.ne(images["clean_class"])
    unsteady = images["reason"].fillna("").ne("")
    return np.select(
        [~read, wrong, unsteady], [UNREADABLE, MISCLASSIFIED, FAILED], default=""
    ).astype(object)
