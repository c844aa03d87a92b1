"""Builds control models with known results: one that every attack must break, one without gradients."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from robustness.contract.attack import Attack
from robustness.diagnostics import preflight
from robustness.engine.jobs import Example
from robustness.engine.search import run_attack
from robustness.models.classifier import Classifier
from robustness.models.linear_classifier import linear_classifier
from robustness.threat.threat import Threat

SHAPE = (8, 8, 3)
SHARE = 0.25
"""Largest distance of the control images from the decision boundary, as a share of the attack's reach."""
IMAGES = 32


def linear_control() -> tuple[Classifier, np.ndarray, np.ndarray]:
    """Build a linear model of two classes.

    Returns
    -------
    The classifier, the normal (n,) of its decision boundary with n = 8 * 8 * 3, and random uint8 images
    (m, 8, 8, 3) around the boundary.
    """
    rng = np.random.default_rng(22)
    size = int(np.prod(SHAPE))
    normal = rng.normal(0, 0.05, size)
    images = rng.integers(100, 156, (4000, *SHAPE)).astype(np.uint8)
    edge = float(np.median(images.reshape(len(images), -1) @ normal))
    weights = np.stack([np.zeros(size), normal], axis=1)
    classifier = linear_classifier(
        weights, np.array([0, -edge]), SHAPE, name="control", class_names=("below", "above")
    )
    return classifier, normal, images


def break_control(attack: Attack, threat: Threat) -> float | None:
    """Run an attack on the linear control model at the largest epsilon.

    Parameters
    ----------
    attack : the attack.
    threat : gives the norm and the largest epsilon.

    Returns
    -------
    The share of images that the attack flips; None if the norm has no control.

    Notes
    -----
    The distance of an image to the decision boundary is |margin| over the dual norm of the normal. Only
    images within a quarter of the attack's reach are used, so that all of them can be flipped.
    """
    if not threat.norm.dual:
        return None
    classifier, normal, images = linear_control()
    scores = margins(classifier, images)
    far = np.abs(scores) / threat.norm.gain(normal)
    near = np.flatnonzero((far < SHARE * _reach(attack, threat)) & (np.abs(scores) > 1e-3))[:IMAGES]
    if not len(near):
        return None
    labels = (scores > 0).astype(int)
    examples = [Example(f"control {i}", images[i], int(labels[i])) for i in near]
    largest = Threat((threat.epsilons[-1],), threat.norm)
    results = run_attack(classifier, attack, largest, examples, batch_size=16)
    return float(np.mean([outcomes[-1].flip is not None for _, outcomes in results]))


def margins(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Return logit 1 minus logit 0, (n,), for images (n, height, width, channels)."""
    logits = ops.convert_to_numpy(classifier.logits(images.astype(np.float32)))
    return np.asarray(logits[:, 1] - logits[:, 0])


def _reach(attack: Attack, threat: Threat) -> float:
    """The largest distance that the attack can move an image, at most the largest epsilon."""
    epsilon, size = threat.epsilons[-1], getattr(attack, "step_size", None)
    return min(epsilon, attack.steps * size) if isinstance(size, (int, float)) else epsilon


class _Masked(keras.Model):
    """Classifies by brightness, without a gradient."""

    def call(self, x: Any, training: bool = False) -> Any:
        bright = ops.mean(ops.stop_gradient(x), axis=(1, 2, 3)) - 128
        return ops.stack([-bright, bright], axis=1)


def masked_control_is_flagged() -> bool:
    """Return whether the checks before the attack detect a model without gradients."""
    rng = np.random.default_rng(23)
    images = rng.integers(0, 256, (16, 1, 1, 1)) * np.ones(SHAPE)
    model = _Masked(name="masked", dtype="float32")
    model(np.zeros((1, *SHAPE), "float32"))
    classifier = Classifier(model, scaling="0..255", head="logits", name="masked")
    found = preflight.run(classifier, images.astype(np.uint8), None)
    return any(f.id.startswith(("D03", "D04")) and f.severity == "error" for f in found)
