"""Whether a model answers at random: by what it computes, and by asking it again."""

from __future__ import annotations

import numpy as np

from robustness.classifier import Classifier

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
