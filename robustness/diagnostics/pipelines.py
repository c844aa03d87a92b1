"""Compares named pipelines by the accuracy of the model behind each: P08."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustness.diagnostics.finding import Finding
from robustness.errors import PipelineError, SettingError
from robustness.models.classifier import Classifier
from robustness.numerics.intervals import clearly_better
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.preprocessing import LinearConvention
from robustness.text import percent

FEWEST = 20
"""The fewest labelled pictures by which pipelines are compared."""
CANDIDATES = (
    "pillow:bilinear",
    "keras.load_img",
    "keras.load_img:interpolation=bilinear",
    "keras.image_dataset_from_directory",
    "keras.image_dataset_from_directory:crop_to_aspect_ratio=true",
    "tf.image.resize:antialias=true",
    "torchvision:resize={short},crop={height}x{width}",
    "opencv:linear",
    "opencv:area",
)
SHORT = 256 / 224
"""The short side before a crop, as a multiple of the model's side: the usual evaluation on ImageNet."""


def pipeline(
    classifier: Classifier,
    pictures: Sequence[np.ndarray],
    labels: np.ndarray,
    chosen: LinearConvention,
) -> Finding | None:
    """Make P08: no other named pipeline is clearly more accurate than the chosen one.

    Parameters
    ----------
    classifier : the user's model, of images of its own size.
    pictures : uint8 (height, width, channels), of any sizes.
    labels : true class indices (n,).
    chosen : the pipeline of the audit.

    Returns
    -------
    None if there are too few pictures, or most have the model's size already, so that nothing is resized.
    """
    shape = classifier.input_shape
    other_size = sum(picture.shape != shape for picture in pictures)
    if len(pictures) < FEWEST or 2 * other_size < len(pictures):
        return None
    right: dict[str, np.ndarray] = {}
    for convention in (chosen, *_candidates(shape)):
        if convention.text in right:
            continue
        try:
            images = np.stack([convention.image(picture, shape) for picture in pictures])
        except PipelineError:
            continue
        right[convention.text] = classifier.probabilities(images).argmax(axis=1) == labels
    if chosen.text not in right:
        return None
    own, count = right[chosen.text], len(pictures)
    table = ", ".join(f"{text} {percent(float(hits.mean()))}" for text, hits in right.items())
    best = max(right, key=lambda text: right[text].mean())
    gain = 100 * float(right[best].mean() - own.mean())
    if gain > 0 and clearly_better(right[best], own):
        return Finding(
            "P08-pipeline",
            "warning",
            f"Behind {best} the model is more accurate than behind {chosen.text}, which makes its images "
            f"here, by {gain:.1f} points on {count} pictures ({table}). If the deployment resizes so, state "
            f"it: --pipeline {best}.",
        )
    return Finding(
        "P08-pipeline",
        "ok",
        f"Images are made by {chosen.text}: no other pipeline tried is clearly more accurate on {count} "
        f"pictures ({table}).",
    )


def _candidates(shape: tuple[int, int, int]) -> list[LinearConvention]:
    """The named pipelines whose libraries are installed."""
    height, width, _ = shape
    found = []
    for text in CANDIDATES:
        words = text.format(short=round(SHORT * min(height, width)), height=height, width=width)
        try:
            found.append(parse_pipeline(words).convention)
        except SettingError:
            continue
    return found
