"""Detects random outputs of a model, from its operations and by running it several times."""

from __future__ import annotations

import numpy as np

from robustness.models.classifier import Classifier
from robustness.models.fixed_size_calls import SMALL_BATCH

SAME, REPEATS = 1e-6, 48
"""Largest difference of outputs for the same batch by rounding, as a share of the largest logit; and the
number of runs of a model that may draw random numbers: if one output in ten differs, fewer than one model in
a hundred is missed."""


def drawn(classifier: Classifier, images: np.ndarray) -> float:
    """Measure how much the logits of one batch differ between runs, as a share of the largest logit.

    Returns
    -------
    The first difference above `SAME`; 0 if there is none, or if no operation of the model is random.

    Notes
    -----
    Logits are compared, since noise does not show in a probability of 1. The same batch is run up to
    `REPEATS` times more, since noise may be rare, and all images of a batch may share it.
    """
    if not classifier.may_draw(images):
        return 0.0
    first = classifier.logits_of(images)
    size = max(float(np.abs(first).max()), 1e-30)
    for _ in range(REPEATS):
        apart = float(np.max(np.abs(classifier.logits_of(images) - first))) / size
        if apart > SAME:
            return apart
    return 0.0


def shared(classifier: Classifier, image: np.ndarray) -> bool:
    """Return whether pictures in one call share their random numbers, so that averaging over them is useless.

    Parameters
    ----------
    classifier : a model with random outputs.
    image : uint8 (height, width, channels); copies of it fill the batch of `REPEATS` calls.
    """
    same = np.repeat(image[None], SMALL_BATCH, axis=0)
    calls = [classifier.logits_of(same) for _ in range(REPEATS)]
    size = max(float(np.abs(calls[0]).max()), 1e-30)
    within = max(float(np.ptp(call, axis=0).max()) for call in calls)
    return within <= SAME * size
