"""Tests that a row's bits do not depend on its slot, so that resumed runs give the same outcomes."""

from __future__ import annotations

from importlib.metadata import entry_points

import keras
import numpy as np
import pytest
from keras import ops, tree

from robustness import plugins
from robustness.contract.registry import find
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import AttackJob
from robustness.models.classifier import Classifier
from robustness.threat import norms
from robustness.threat.goals import parse
from robustness.threat.threat import Threat
from tests.robustness.helpers import subjects

SHAPE, ROWS, STEPS = (4, 4, 3), 12, 3
EPSILON = {"linf": 8.0, "l2": 60.0, "l1": 300.0, "l0": 4.0, "free": 5.0}
FITTED = {"patch", "universal"}
"""Attacks that need a fitted file."""
CASES = [
    (entry.name, norm)
    for entry in sorted(entry_points(group=plugins.ATTACKS), key=lambda e: e.name)
    if entry.value.startswith("robustness.attacks.") and entry.name not in FITTED
    for norm in find(entry.name).norms
]


class Sums(keras.layers.Layer):
    """Logits as weighted sums of each row, without a matrix kernel, whose bits may depend on the slot."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def call(self, inputs):
        numbers = np.arange(self.classes * np.prod(SHAPE), dtype="float32")
        weights = ops.convert_to_tensor(np.cos(numbers).reshape(-1, *SHAPE))
        return ops.sum(inputs[:, None] * weights, axis=(2, 3, 4))


@pytest.fixture(scope="module")
def case():
    model = keras.Sequential([keras.layers.Input(SHAPE), Sums(5)])
    classifier = Classifier(model, scaling="0..1", head="logits")
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, *SHAPE)).astype(np.uint8)
    return classifier, subjects(classifier, pixels)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_row_has_the_same_bits_in_any_slot(case, name, norm):
    classifier, some = case
    attack, _ = find(name)().adapted_to(parse(None, classifier.class_names), 5)
    epsilon = EPSILON[norm]
    rows = CompiledBatch(
        classifier, attack, Threat((epsilon,), norms.parse(norm)), batch_size=ROWS, seed=0
    )

    def walked(order):
        state = rows.load(None, range(ROWS), [AttackJob(some[i], epsilon) for i in order])
        for _ in range(STEPS):
            state, _ = rows.step(state)
        return tree.map_structure(ops.convert_to_numpy, state)

    order = np.random.default_rng(1).permutation(ROWS)
    first, moved = walked(range(ROWS)), walked(order)
    tree.map_structure(lambda a, b: np.testing.assert_array_equal(a[order], b), first, moved)
