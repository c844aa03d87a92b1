"""Tests of the compiled functions that the tests of a module share: equal ones only."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from robustness import backend
from robustness.attacks import PGD, Square
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.jobs import AttackJob, Example
from robustness.models.classifier import Classifier
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import small_cnn
from tests.shared_graphs import UnknownError, key_of, shared_graphs

__all__ = ["shared_graphs"]
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)


def batch(classifier, attack=PGD(steps=3), threat=Threat((8,)), rows=4):  # noqa: B008 - frozen
    return CompiledBatch(classifier, attack, threat, batch_size=rows, seed=0)


def test_functions_have_the_same_key_if_all_that_they_hold_is_equal():
    def key(seed=1, **how):
        return key_of(batch(small_cnn(seed), **how)._step_rows)

    assert key() == key()
    others: list[dict[str, Any]] = [
        {"seed": 2},
        {"attack": PGD(steps=4)},
        {"attack": Square()},
        {"threat": Threat((9,))},
        {"threat": Threat((8,), NORMS["l2"])},
        {"rows": 5},
    ]
    seen = [key(), *(key(**how) for how in others)]
    assert len(set(seen)) == len(seen)


def test_functions_that_hold_anything_else_are_not_shared(shared_graphs):
    held = [1]
    with pytest.raises(UnknownError):
        key_of(lambda x: x + held[0])
    for number in (1, 2):
        held[0] = number
        assert float(backend.compile(lambda x: x + held[0])(np.float32(1))) == 1 + number
    assert not shared_graphs


def test_models_with_code_of_their_own_are_not_shared():
    def model(factor):
        scaled = keras.layers.Lambda(lambda x: factor * x)
        layers = [keras.layers.Input((4, 4, 3)), keras.layers.Flatten(), scaled]
        return Classifier(keras.Sequential(layers), scaling="0..255", head="logits")

    with pytest.raises(UnknownError, match="code of their own"):
        key_of(model(2).logits)
    changed = small_cnn(3)
    changed.logits = lambda images: -Classifier.logits(changed, images)
    with pytest.raises(UnknownError, match="logits"):
        key_of(changed._forward)


def test_changed_weights_are_noticed(shared_graphs):
    first, second = small_cnn(3), small_cnn(3)
    usual = first.probabilities(IMAGES)
    assert np.array_equal(second.probabilities(IMAGES), usual)
    assert second._predict is first._predict
    first.model.layers[-1].set_weights([w + 1 for w in first.model.layers[-1].get_weights()])
    third = small_cnn(3)
    assert third._predict is not first._predict
    assert np.array_equal(third.probabilities(IMAGES), usual)


def test_a_batch_with_the_graphs_of_another_has_its_states_and_counts_its_passes(shared_graphs):
    jobs = [AttackJob(Example(str(n), pixels, 0), 8.0) for n, pixels in enumerate(IMAGES)]
    states: list[np.ndarray] = []
    graphs: list[int] = []
    for _ in range(2):
        rows = batch(small_cnn(4))
        state, _ = rows.step(rows.load(None, range(4), jobs))
        states.append(np.asarray(state["own"]["point"]))
        assert rows.passes == (1, 1) and rows.watched
        graphs.append(len(shared_graphs))
    assert np.array_equal(states[0], states[1]) and graphs[0] == graphs[1]
