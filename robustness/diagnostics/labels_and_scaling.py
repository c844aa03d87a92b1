"""Checks by labels: accuracy (D21), the scaling of the inputs (P02), and the order of the classes (P03)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from robustness.diagnostics.finding import NO_CLASSES, Finding
from robustness.models.classifier import Classifier
from robustness.models.scaling_choice import Labelled, reordered
from robustness.models.scalings import Scaling, text_of
from robustness.numerics.class_order import best_order, held_out_hits
from robustness.numerics.intervals import beats_chance, clearly_better
from robustness.text import percent, plural

BETTER, FAR_BETTER = 0.05, 0.2
"""Gains in accuracy that are reported, and that make an audit inconclusive."""


def accuracy(probabilities: np.ndarray, labels: np.ndarray, head: str = "") -> Finding:
    """Make D21: the model is better than chance.

    Parameters
    ----------
    probabilities : (n, classes).
    labels : true class indices (n,).
    head : the kind of the model's head.
    """
    count, classes = probabilities.shape
    right = float(np.mean(probabilities.argmax(axis=1) == labels))
    said = f"{percent(right)} of {plural(count, 'image is', 'images are')} classified as labelled"
    if beats_chance(right, count, classes):
        return Finding("D21-clean-accuracy", "ok", f"{said}.")
    if count < 20:
        return Finding(
            "D21-clean-accuracy",
            "note",
            f"{said}; too few to tell from chance ({percent(1 / classes)}).",
        )
    return Finding(
        "D21-clean-accuracy",
        "error",
        f"{said}, no better than chance ({percent(1 / classes)}): labels, class order or preprocessing "
        f"are wrong, or the model is untrained{NO_CLASSES.get(head, '')}.",
    )


def label_order(
    classifier: Classifier,
    probabilities: np.ndarray,
    labels: np.ndarray,
    more: Iterable[Labelled] = (),
) -> Finding:
    """Make P03: no other order of the classes fits the labels better.

    Parameters
    ----------
    classifier : the user's model.
    probabilities : (n, classes), for the first images.
    labels : their true class indices (n,).
    more : further labelled images, which are classified where the first leave it open.
    """
    predicted = probabilities.argmax(axis=1)
    classes = len(classifier.class_names)
    found = _order_of(predicted, labels, classifier)
    parts = iter(more)
    while found is None and _open(predicted, labels, classes) and (part := next(parts, None)):
        some, truth = part
        predicted = np.concatenate([predicted, classifier.probabilities(some).argmax(axis=1)])
        labels = np.concatenate([labels, truth])
        found = _order_of(predicted, labels, classifier)
    count = len(labels)
    return found or Finding(
        "P03-label-order",
        "ok",
        f"No other order of the class names fits better, on {plural(count, 'image')}.",
    )


def _order_of(predicted: np.ndarray, labels: np.ndarray, classifier: Classifier) -> Finding | None:
    """The finding that another order fits clearly better, on images not used to find it, or None."""
    names = classifier.class_names
    right = predicted == labels
    other = held_out_hits(predicted, labels, len(names))
    gain = float(other.mean() - right.mean())
    plausible = beats_chance(float(other.mean()), len(labels), len(names))
    if gain <= BETTER or not plausible or not clearly_better(other, right):
        return None
    order = best_order(predicted, labels, len(names))
    moved = ", ".join(
        f"{names[label]} as {names[output]}"
        for label, output in enumerate(order)
        if label != output and label in labels
    )
    option = reordered(names, order)
    by_chance = not beats_chance(float(right.mean()), len(labels), len(names))
    return Finding(
        "P03-label-order",
        "error" if by_chance or gain >= FAR_BETTER else "warning",
        "The class names seem to be in another order than the model's outputs: "
        f"{percent(float(right.mean()))} of {len(labels)} images are right as they stand, "
        f"{percent(float(other.mean()))} if "
        f"reordered (images labelled {moved}). Give the class names in the order of the outputs"
        f"{': ' if option else ''}{option}.",
    )


def _open(predicted: np.ndarray, labels: np.ndarray, classes: int) -> bool:
    """Whether more images could show another order: there is room for one that is far better."""
    right = float(np.mean(predicted == labels))
    fitted = float(np.mean(best_order(predicted, labels, classes)[labels] == predicted))
    return fitted - right > FAR_BETTER


def scaling(
    classifier: Classifier,
    images: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray | None,
) -> Finding:
    """Make P02: no other scaling of the inputs is clearly more accurate.

    Parameters
    ----------
    classifier : the user's model.
    images : uint8 (n, height, width, channels).
    probabilities : its outputs for them, (n, classes).
    labels : true class indices (n,), or None.
    """
    chosen = classifier.scaling
    if classifier.whole_inputs:
        said = (
            "The model takes whole numbers, which hold no fractions: no other scaling can be meant."
        )
        return Finding("P02-scaling", "ok", f"Scaling {chosen.name}. {said}")
    if labels is None:
        given = classifier.scaling_reason
        return Finding(
            "P02-scaling",
            "note",
            f"Scaling {chosen.name} is taken as it is ({given.rstrip('.')}); without labels nothing can "
            "check it.",
        )
    own = probabilities.argmax(axis=1) == labels
    accuracies = dict(classifier.choose_scaling(images, labels, probabilities).accuracies)
    accuracies.setdefault(chosen.name, float(own.mean()))
    swapped = _swapped(chosen)
    others: dict[str, Scaling | str] = {name: name for name in accuracies}
    if classifier.input_shape[-1] == 3:
        outputs = classifier.outputs_under(swapped, images)
        accuracies[swapped.name] = float(np.mean(outputs.argmax(axis=1) == labels))
        others[swapped.name] = swapped
    table = ", ".join(f"{name} {percent(share)}" for name, share in accuracies.items())
    best = max(accuracies, key=lambda name: accuracies[name])
    gain = accuracies[best] - accuracies[chosen.name]
    if gain > BETTER:
        theirs = classifier.with_scaling(others[best]).probabilities(images).argmax(axis=1)
        if clearly_better(theirs == labels, own):
            return Finding(
                "P02-scaling",
                "warning",
                f"Scaling {best} is more accurate than the chosen {chosen.name} by "
                f"{100 * gain:.1f} points on {plural(len(images), 'image')} ({table}); the model seems to "
                f"expect it: --scaling={best}.",
            )
    return Finding(
        "P02-scaling",
        "ok",
        f"Scaling {chosen.name}: no other is clearly more accurate on {plural(len(images), 'image')} "
        f"({table}). How it was chosen: {classifier.scaling_reason}",
    )


def _swapped(chosen: Scaling) -> Scaling:
    """The scaling with red and blue exchanged; it is called by the text that gives it."""
    order = "RGB" if chosen.order == "BGR" else "BGR"
    other = replace(chosen, multiply=chosen.multiply[::-1], offset=chosen.offset[::-1], order=order)
    return replace(other, name=text_of(other))
