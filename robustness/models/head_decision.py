"""Decides by labelled images what the outputs of a model are, where the model does not show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustness.errors import ModelError
from robustness.numerics.intervals import beats_chance, clearly_better
from robustness.text import percent, shorten


def reason(kind: str, logits: np.ndarray, labels: np.ndarray, names: Sequence[str] = ()) -> str:
    """Return why the outputs are of a kind, a sentence.

    Parameters
    ----------
    kind : `sigmoid-logit` or `sigmoid-argmax`.
    logits : (n, classes) of labelled images.
    labels : true class indices (n,).
    names : the class names, for the message.

    Raises
    ------
    ModelError
        The outputs do not agree with the labels as that kind of head.
    """
    labels = np.asarray(labels)
    if kind == "sigmoid-logit":
        return _unit(np.asarray(logits)[:, 1], labels, names)
    accuracy = float(np.mean(np.asarray(logits).argmax(axis=1) == labels))
    return (
        f"The {logits.shape[1]} sigmoid units are read as one class per image, that of the largest input, "
        f"since each image has one label ({percent(float(accuracy))} of {len(labels)} images are "
        "classified so). "
        "If several labels can hold for an image, these figures are about the largest one only."
    )


def _unit(values: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> str:
    """Why one unit without activation is a logit; ModelError if it is not."""
    count = len(values)
    logit, half = (values > 0) == labels, (values > 0.5) == labels
    spread = (
        f"its values range from {values.min():.3g} to {values.max():.3g}; on {count} labelled images z > 0 "
        f"agrees with {percent(float(logit.mean()))} of the labels, z > 0.5 with "
        f"{percent(float(half.mean()))}"
    )
    means = [float(values[labels == label].mean()) for label in np.unique(labels)]
    if len(means) < 2:
        raise ModelError(
            f"The model has one output and no sigmoid, and all {count} labelled images have one class, which "
            "cannot tell a logit from a regression. Give images of both classes, or say "
            "head='sigmoid-logit' (--head sigmoid-logit)."
        )
    if beats_chance(float(half.mean()), count, 2) and clearly_better(half, logit):
        raise ModelError(
            f"The model has one output without activation that was trained as a regression to 0 and 1: "
            f"{spread}. Its threshold is 0.5, not that of a logit. Expected a logit or a sigmoid: subtract "
            "0.5 in a last layer (keras.layers.Rescaling(1, -0.5)) and say head='sigmoid-logit'."
        )
    right = float(logit.mean())
    if not beats_chance(max(right, 1 - right), count, 2):
        classes = f" ({', '.join(map(shorten, names[:2]))})" if names else ""
        raise ModelError(
            "The model has one output without activation, and it does not tell the classes of these images "
            f"apart: {spread}; the classes' means are {means[0]:.3g} and {means[1]:.3g}. Perhaps the images "
            f"are of other classes{classes} than those the model was trained on, or its scaling is another; "
            "or it is no classifier but a regression (an age, an angle), which is not audited. If it was "
            "trained with from_logits=True, say head='sigmoid-logit' (--head sigmoid-logit)."
        )
    return f"That the unit is a logit was decided by the labels: {spread}."
