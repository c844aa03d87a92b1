"""Whether a model answers at random: by what it computes, and by asking it again."""

from __future__ import annotations

import numpy as np

from robustness.models.classifier import SMALL_BATCH, Classifier

SAME, REPEATS = 1e-6, 48
"""Share of the largest logit by which answers to the same batch may differ by rounding; and how often a
model that may draw random numbers is asked: where one answer in ten differs, less than one model in a
hundred is missed."""


def drawn(classifier: Classifier, images: np.ndarray) -> float:
    """How far logits of the same batch are apart, at most, as a share of the largest.

    0 where what the model computes holds nothing random. Logits, since noise does not show in a probability
    of 1; the same batch again and again, since the noise may be rare and all of its images may share it.
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
    """Whether pictures of one call share their random numbers: an average within it averages nothing then.

    Parameters
    ----------
    classifier: a model that answers at random.
    image: uint8 (height, width, channels); it is asked about many times in each of some calls.
    """
    same = np.repeat(image[None], SMALL_BATCH, axis=0)
    calls = [classifier.logits_of(same) for _ in range(REPEATS)]
    size = max(float(np.abs(calls[0]).max()), 1e-30)
    within = max(float(np.ptp(call, axis=0).max()) for call in calls)
    return within <= SAME * size
