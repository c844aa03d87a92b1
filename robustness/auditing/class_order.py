"""Decides by labelled images in which order folders that are called by numbers are the outputs of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from robustness.models.classifier import Classifier
from robustness.models.scaling_choice import Labelled
from robustness.models.scalings import Scaling
from robustness.numerics.intervals import beats_chance, clearly_better, wilson_interval
from robustness.text import percent, plural


def decide_order(
    classifier: Classifier,
    scalings: Mapping[str, Scaling],
    parts: Iterable[Labelled],
    orders: Mapping[str, np.ndarray],
) -> tuple[int | None, str]:
    """Decide which of several orders of the classes is that of the model.

    Parameters
    ----------
    classifier : the model.
    scalings : the scalings of its inputs that come into question.
    parts : images with their labels under the first order, part by part; taken until it is clear.
    orders : for each order, by its name, the output of each label of the first order, (classes,).

    Returns
    -------
    The number of the order, None if none is clearly the most accurate one; and what was found, a sentence.
    """
    labels = np.zeros(0, int)
    predicted = {name: np.zeros(0, int) for name in scalings}
    said = "No labelled image could be read."
    for images, some in parts:
        labels = np.concatenate([labels, some])
        for name, scaling in scalings.items():
            found = classifier.outputs_under(scaling, images).argmax(axis=1)
            predicted[name] = np.concatenate([predicted[name], found])
        # Each order under the scaling that suits it best.
        hits = [
            max((order[labels] == one for one in predicted.values()), key=np.sum)
            for order in orders.values()
        ]
        first, second = sorted(range(len(hits)), key=lambda n: -float(hits[n].mean()))[:2]
        said = f"Of {plural(len(labels), 'labelled image')} {'; '.join(map(_share, hits, orders))}."
        sure = beats_chance(float(hits[first].mean()), len(labels), len(classifier.class_names))
        if sure and clearly_better(hits[first], hits[second]):
            return first, said
    return None, said


def _share(hits: np.ndarray, order: str) -> str:
    low, high = wilson_interval(int(hits.sum()), len(hits))
    share = percent(float(hits.mean()))
    return f"{share} ({percent(low)} to {percent(high)}) are right if the outputs are {order}"
