"""Finds what the outputs of a model are: by its last activation, and by the values of its outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustness.errors import ModelError


class AmbiguousHeadError(ModelError):
    """The outputs can be read in several ways; labelled images may decide.

    Attributes
    ----------
    kind : the head that is meant if the images have one class each and the answers agree with their labels.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def kind_of(
    given: str, activation: str, values: np.ndarray, ends_in_sigmoids: Callable[[], bool]
) -> str:
    """Return the kind of a head.

    Parameters
    ----------
    given : the kind that the user states; "" for none.
    activation : the name of the last activation; `linear` for none, "" if it is not known.
    values : outputs of the model, (n, units).
    ends_in_sigmoids : whether the operations at the end are sigmoids, asked if the graph is not known.

    Raises
    ------
    AmbiguousHeadError
        The outputs can be read in several ways.
    ModelError
        They are no classes.
    """
    units = values.shape[1]
    if given:
        return given
    unknown = activation == "" and between(values) and not _distributions(values)
    if units > 1 and (activation == "sigmoid" or (unknown and ends_in_sigmoids())):
        raise AmbiguousHeadError(
            f"The model ends in {units} independent sigmoid units (several labels per image); "
            "expected one class per image: a softmax, logits, or one sigmoid unit. If each image has one "
            "class, that of the largest output, say head='sigmoid-argmax' (--head sigmoid-argmax), or give "
            "labelled images; if it has several labels, --head multi-label.",
            "sigmoid-argmax",
        )
    if activation == "sigmoid" or (activation == "softmax" and units > 1):
        return activation
    if units == 1:
        # A softmax of one unit is constant; a subclassed model may still end in a sigmoid.
        if activation == "" and between(values):
            return "sigmoid"
        if activation not in ("", "linear"):
            raise ModelError(
                f"The model has one output with the activation {activation}; expected one sigmoid unit, or "
                "one unit without activation that was trained with from_logits=True. Such an output is no "
                "probability of a class."
            )
        raise AmbiguousHeadError(
            "The model has one output and no sigmoid, so it could be a logit or a regression. If "
            "it was trained with from_logits=True, say head='sigmoid-logit' (--head sigmoid-logit), or give "
            "labelled images, which decide it.",
            "sigmoid-logit",
        )
    return "softmax" if activation != "linear" and _distributions(values) else "logits"


def _distributions(values: np.ndarray) -> bool:
    return between(values) and bool(np.allclose(values.sum(axis=1), 1.0, atol=1e-2))


def between(values: np.ndarray) -> bool:
    """Return whether all values lie between 0 and 1, up to rounding."""
    return bool(np.all((values >= -1e-6) & (values <= 1 + 1e-6)))
