"""Checks whether `model(images)` gives what the audit judges, the model in inference mode: P09."""

from __future__ import annotations

import numpy as np

from robustness.diagnostics.finding import Finding
from robustness.models.classifier import Classifier
from robustness.models.training_mode import may_depend_on_mode, outputs_by_mode

IMAGES = 4
"""The number of images; a batch of one would not show batch normalisation."""
SAME = 1e-4
"""The largest difference by rounding, as a share of the largest output."""


def training_mode(classifier: Classifier, images: np.ndarray) -> Finding:
    """Make P09: calling the model without a mode gives the outputs of inference mode.

    Parameters
    ----------
    classifier : the user's model, whose outputs are not random.
    images : uint8 (n, height, width, channels).
    """
    what = "The audit judges the model in inference mode, as model.predict(images) evaluates it"
    alike = Finding("P09-mode", "ok", f"{what}; model(images) is the same.")
    if not may_depend_on_mode(classifier.model):
        return alike
    some = np.resize(images[:IMAGES], (IMAGES, *images.shape[1:]))
    outputs = outputs_by_mode(classifier.model, classifier.as_input(some))
    if outputs is None or not all(np.isfinite(one).all() for one in outputs):
        return Finding("P09-mode", "note", f"{what}; model(images) could not be compared.")
    plain, inference = outputs
    change = float(np.abs(plain - inference).max())
    if change <= SAME * max(float(np.abs(inference).max()), 1e-30):
        return alike
    return Finding(
        "P09-mode",
        "warning",
        f"{what}. model(images) without training=False gives other outputs (up to {change:.2g} apart on "
        f"{IMAGES} images): layers such as dropout, noise or batch normalisation then run in training mode. "
        "If the deployment calls the model so, this audit is about another model.",
    )
