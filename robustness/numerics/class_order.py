"""Finds the order of the classes under which predictions fit labels best, and tests it on other images."""

from __future__ import annotations

import numpy as np


def best_order(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the permutation of the classes under which most labels agree with the predictions.

    Parameters
    ----------
    predicted, labels
        Class indices (n,).
    classes
        The number of classes.

    Returns
    -------
    numpy.ndarray, shape (classes,)
        For each label the output that it is mapped to. Of equally good permutations one that moves few
        classes; labels without images keep their place if it is free.

    Notes
    -----
    An assignment problem: the sum of ``counts[label, order[label]]`` is maximal.
    """
    # Imported here, since it takes half a second, and most audits need no order.
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415

    present, rows = np.unique(labels, return_inverse=True)
    # Only classes that occur: a model may have tens of thousands.
    columns = np.union1d(present, predicted)
    counts = np.zeros((len(present), len(columns)))
    np.add.at(counts, (rows, np.searchsorted(columns, predicted)), 1)
    counts[np.arange(len(present)), np.searchsorted(columns, present)] += 1e-6
    _, places = linear_sum_assignment(-counts)
    chosen = columns[places]
    order = np.full(classes, -1)
    order[present] = chosen
    free = set(range(classes)) - set(chosen.tolist())
    absent = [label for label in range(classes) if order[label] < 0]
    for label in [label for label in absent if label in free]:
        order[label] = label
        free.discard(label)
    order[order < 0] = sorted(free)
    return order


def held_out_hits(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return for each image whether the best order of the *other half* of the images maps it right.

    The best order of the very images that it is measured on fits by chance where classes are many and images
    are few. So the images of each label are dealt into two halves in turn, and the order that one half gives
    is measured on the other.

    Parameters
    ----------
    predicted, labels
        Class indices (n,).
    classes
        The number of classes.

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    half = np.zeros(len(labels), int)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        half[own] = np.arange(len(own)) % 2
    hits = np.zeros(len(labels), bool)
    for side in (0, 1):
        here = half == side
        order = best_order(predicted[~here], labels[~here], classes)
        hits[here] = order[labels[here]] == predicted[here]
    return hits
