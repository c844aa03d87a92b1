"""Columns of the table of images as arrays: a run may have a million images, of which few become rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustness.runs.records import FAILED, MISCLASSIFIED, UNREADABLE

BEFORE_ATTACK = ("", UNREADABLE, MISCLASSIFIED, FAILED)
"""What the numbers of `ImageColumns.statuses` stand for; "" for an image that attacks run on."""

MOST_CONFIDENCE = 1.01
"""More than any confidence: outputs of a model that sum up to 1 are rounded."""


@dataclass(frozen=True, eq=False)
class ImageColumns:
    """Columns of the table of images, in the order of its rows.

    Attributes
    ----------
    keys : ndarray of object, shape (images,).
    positions : ndarray of int.
    labels, classes, confidences : ndarray of float; NaN where there is none.
    explained : ndarray of bool, whether there is a reason why the image has no outcome.
    pictures : ndarray of object, the path of the original within the run folder; None if it has none.
    """

    keys: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    confidences: np.ndarray
    explained: np.ndarray
    pictures: np.ndarray

    NAMES = ("key", "position", "label", "clean_class", "confidence", "reason", "png")

    @classmethod
    def of(cls, parts: Iterable[Sequence[tuple[Any, ...]]]) -> ImageColumns:
        """Return the columns `NAMES` of the rows in lists of tuples."""
        columns: list[list[np.ndarray]] = [[] for _ in cls.NAMES]
        kinds = (object, np.int64, float, float, float, bool, object)
        for rows in parts:
            for column, kind, cells in zip(columns, kinds, zip(*rows, strict=True), strict=True):
                # None becomes NaN, and no reason False.
                column.append(np.array(cells, object if kind is bool else kind).astype(kind))
        empty = (np.empty(0, kind) for kind in kinds)
        return cls(*(np.concatenate([*c, e]) for c, e in zip(columns, empty, strict=True)))

    @property
    def statuses(self) -> np.ndarray:
        """What `status_before_attack` returns for each image, as indices of `BEFORE_ATTACK`."""
        wrong = ~np.isnan(self.labels) & (self.labels != self.classes)
        return np.select([np.isnan(self.classes), wrong, self.explained], [1, 2, 3], default=0)

    def whole(self, classes: int, *, unsteady: bool) -> np.ndarray:
        """Return whether each row has the model's answer, or the reason why there is none.

        Parameters
        ----------
        classes : the number of the model's classes.
        unsteady : whether an answer may have a reason too, which says that it changes from draw to draw.
        """
        answered = (self.classes >= 0) & (self.classes < classes)
        answered &= (self.confidences >= 0) & (self.confidences <= MOST_CONFIDENCE)
        nothing = np.isnan(self.classes) & np.isnan(self.confidences)
        return (answered & (unsteady | ~self.explained)) | (nothing & self.explained)
