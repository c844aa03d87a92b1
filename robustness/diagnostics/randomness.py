"""Whether a model's outputs are random: by its operations, and by running it again."""

from __future__ import annotations

import numpy as np

from robustness.models.classifier import SMALL_BATCH, Classifier

SAME, REPEATS = 1e-6, 48
"""Share of the largest logit by which outputs for the same batch may differ by rounding; and how often a
model that may draw random numbers is run: where one output in ten differs, fewer than one model in a hundred
is missed."""


def drawn(classifier: Classifier, images: np.ndarray) -> float:
    """The largest difference between logits of the same batch, as a share of the largest logit.

    0 where no operation of the model is random. Logits, since noise does not show in a probability of 1; the
    same batch many times, since noise may be rare and all images of a batch may share it.
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
    """Whether pictures in one call share their random numbers; averaging within a call is then useless.

    Parameters
    ----------
    classifier : a model with random outputs.
    image : (height, width, channels) uint8; it fills the batch of several calls.
    """
    same = np.repeat(image[None], SMALL_BATCH, axis=0)
    calls = [classifier.logits_of(same) for _ in range(REPEATS)]
    size = max(float(np.abs(calls[0]).max()), 1e-30)
    within = max(float(np.ptp(call, axis=0).max()) for call in calls)
    return within <= SAME * size
