"""Tests that attacks on gradients or scores flip the same images whatever the model's confidence."""

from __future__ import annotations

from importlib.metadata import entry_points

import numpy as np
import pytest

from robustness.configuration import attack_parameters
from robustness.contract.registry import create, find
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.search import search
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import subjects, two_sided

BUDGETS = {"linf": 4.0, "l2": 25.0, "l1": 250.0, "l0": 12.0}
SCALES = (30.0, 1e6, 2.0**-12, 2.0**100)
"""Below 2^-12 the probabilities of two classes may be equal in float32; 2^100 is 1e30."""
SHORT = {
    "apgd": {"steps": 20}, "apgd-t": {"steps": 20}, "bim": {"steps": 8}, "bisection": {"rounds": 3},
    "cw": {"steps": 300, "binary_search_steps": 3}, "ddn": {"steps": 20}, "ead": {"steps": 90},
    "eot": {"samples": 2}, "fab": {"steps": 10}, "fab-t": {"steps": 10}, "few-pixel": {"steps": 10},
    "fmn": {"steps": 20}, "nes": {"steps": 15, "probes": 10}, "pgd": {"steps": 10},
    "regression": {"steps": 15, "probes": 10}, "sigma-zero": {"steps": 60}, "simba": {"steps": 100},
    "spsa": {"steps": 10, "samples": 10}, "square": {"steps": 60}, "vmi-fgsm": {"neighbours": 4},
}  # fmt: skip
"""Few steps: the test only checks whether confidence makes a difference."""


def cases():
    for name in sorted(entry.name for entry in entry_points(group="robustness.attacks")):
        cls = find(name)
        if name in ("universal", "patch") or cls.knowledge == "decision":
            continue
        field = attack_parameters.settings(cls).get("loss")
        choices = field[1].choices if field else ()
        losses = [c for c in choices or () if c in ("cross_entropy", "margin", "dlr")]
        for loss in losses or (None,):
            yield pytest.param(cls, loss, id=f"{name}-{loss or 'own'}")


def flips(batch, images, labels) -> set[str]:
    some = subjects(batch.classifier, images, labels)
    found = {example.key: outcomes for example, outcomes in search(batch, some)}
    assert not any(rung.reason or rung.blind for rungs in found.values() for rung in rungs)
    return {key for key, rungs in found.items() if rungs[-1].flip}


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "loss"), list(cases()))
def test_flips_do_not_depend_on_the_scale_of_logits(cls, loss):
    classifier, images, labels, _ = two_sided(np.random.default_rng(7), rows=14)
    weights, bias = classifier.model.layers[-1].get_weights()
    attack = create(cls, SHORT.get(cls.name, {}) | ({"loss": loss} if loss else {}))
    threat = Threat((BUDGETS[attack.norms[0]],), NORMS[attack.norms[0]])
    # Compiled once: other weights use the same graph.
    batch = CompiledBatch(classifier, attack, threat, batch_size=12, seed=0)
    expected = flips(batch, images, labels)
    assert expected, "an attack that flips nothing shows nothing"
    for times in SCALES:
        classifier.model.layers[-1].set_weights([times * weights, times * bias])
        assert flips(batch, images, labels) == expected, times
