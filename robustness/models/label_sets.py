"""Makes classes of sets of labels, so that a multi-label model is audited like any other.

A multi-label model has one unit z_k per label, which holds where z_k > 0. For a set of labels, with signs
s_k of 1 for those in it and -1 for the others, ``min_k s_k z_k`` is positive exactly where the model gives
that set. With 0 for any other set, the largest of these numbers is the set that the model gives, and the
difference of two is the margin of the label that changes first: an attack on them flips any label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops

from robustness.backend.types import Tensor
from robustness.errors import ModelError

MOST_SETS = 512
"""Most sets of labels; each is a class, and costs every pass as many numbers as there are labels."""
OTHER = "another set"
NONE = "no label"


@dataclass(frozen=True)
class LabelSets:
    """Sets of labels as classes, and one class for any other set, the last.

    Attributes
    ----------
    labels : names of the labels, in the order of the units.
    sets : a text of 0 and 1 for each set, one character per label; each once.
    """

    labels: tuple[str, ...]
    sets: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [
            bits for bits in self.sets if len(bits) != len(self.labels) or set(bits) - set("01")
        ]
        if wrong or not 0 < len(self.sets) <= MOST_SETS or len(set(self.names)) <= len(self.sets):
            raise ModelError(
                f"Sets of {len(self.labels)} labels are expected as 1 to {MOST_SETS} texts of 0 and 1, whose "
                f"names differ; got {self.sets!r:.80}."
            )

    @classmethod
    def seen(cls, labels: tuple[str, ...], values: np.ndarray) -> LabelSets:
        """Return the sets that a model gives to images, and their neighbours by one label if few.

        Parameters
        ----------
        labels : names of the labels.
        values : inputs of the sigmoids, (images, labels).

        Raises
        ------
        ModelError
            The images have more than `MOST_SETS` sets.
        """
        given = sorted({_text(row) for row in np.asarray(values) > 0})
        if len(given) > MOST_SETS:
            raise ModelError(
                f"The model gives {len(given):,} different sets of labels to the images; at most "
                f"{MOST_SETS} are audited together. Audit fewer images: --limit."
            )
        near = {_flipped(bits, place) for bits in given for place in range(len(labels))}
        both = sorted(near | set(given))
        return cls(tuple(labels), tuple(both if len(both) <= MOST_SETS else given))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        named = [
            " + ".join(label for label, bit in zip(self.labels, bits, strict=True) if bit == "1")
            for bits in self.sets
        ]
        return (*(name or NONE for name in named), OTHER)

    def logits(self, values: Tensor) -> Tensor:
        """Return logits (n, sets + 1) for inputs of the sigmoids, (n, labels)."""
        signs = np.array(
            [[1.0 if bit == "1" else -1.0 for bit in bits] for bits in self.sets], "float32"
        )
        least = ops.min(values[:, None, :] * ops.convert_to_tensor(signs), axis=-1)
        return ops.concatenate([least, ops.zeros_like(least[:, :1])], axis=-1)


def _text(row: np.ndarray) -> str:
    return "".join("1" if holds else "0" for holds in row)


def _flipped(bits: str, place: int) -> str:
    return f"{bits[:place]}{'01'[bits[place] == '0']}{bits[place + 1 :]}"
