"""Tests of transfer: attacks evaluate a surrogate, the target judges."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import robustness
from robustness.attacks.bim import BIM
from robustness.attacks.ddn import DDN
from robustness.attacks.pgd import PGD
from robustness.engine.search import run_attack
from robustness.errors import ModelError, RunError
from robustness.images.png import from_png
from robustness.models.classifier import Classifier
from robustness.runs.store import Run
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from robustness.verification.verify import verify
from tests.robustness.helpers import linear, small_cnn, subjects

SHAPE = (6, 6, 3)


def pair(cosine, seed=0):
    """Two linear two-class models whose normals have the given cosine, and images near both planes."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))
    one, other = np.linalg.qr(rng.normal(size=(size, 2)))[0].T
    normals = one, cosine * one + np.sqrt(1 - cosine**2) * other
    base = rng.integers(100, 156, SHAPE)
    images = np.clip(base + rng.integers(-4, 5, (8, *SHAPE)), 0, 255).astype(np.uint8)
    models = []
    for normal in normals:
        scores = images.reshape(8, -1) @ normal
        # All of class 1, a few counts (Euclidean) from the plane.
        weights = np.stack([np.zeros(size), normal], axis=1)
        models.append(linear(weights, np.array([0, 2 - scores.min()]), SHAPE))
    return *models, images


def flips(target, images, threat, attack, **more):
    results = run_attack(target, attack, threat, subjects(target, images), batch_size=4, **more)
    return {example.key: outcomes[0] for example, outcomes in results}


class Retreating(BIM):
    """Changes by 0.4 counts after the first step, by 0.2 after all later ones."""

    name = "retreating"

    def step(self, task, state, look):
        far = ops.where(task.step == 0, 0.4, 0.2)
        return {**super().step(task, state, look), "point": task.images + task.per_row(far)}


@pytest.mark.parametrize("steps", [3, 30])
def test_intermediate_float_flips_of_the_target_are_reported(steps):
    """Every point flips the surrogate, only the first one the target in float, none as a file."""
    size = 4 * 4 * 3
    weights = np.stack([np.zeros(size), np.full(size, 1 / size)], axis=1)
    target, surrogate = (linear(weights, np.array([0, -e]), (4, 4, 3)) for e in (100.3, 100.1))
    images = np.full((3, 4, 4, 3), 100, np.uint8)
    threat = Threat((2.0,))
    found = flips(target, images, threat, Retreating(steps=steps), surrogate=surrogate)
    assert [(rung.flip, rung.flips_in_float_only) for rung in found.values()] == [(None, True)] * 3
    # If flips of the surrogate counted, all images would be reported here, too.
    farther = linear(weights, np.array([0, -100.45]), (4, 4, 3))
    found = flips(farther, images, threat, Retreating(steps=steps), surrogate=surrogate)
    assert [(rung.flip, rung.flips_in_float_only) for rung in found.values()] == [(None, False)] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack", [PGD(steps=40, random_start=False, loss="margin"), DDN(steps=40)]
)
def test_float_flips_of_the_surrogate_are_not_float_flips_of_the_target(attack):
    """The models use different features: every image flips one and is unchanged for the other."""
    target, surrogate, images = pair(0.0)
    found = flips(target, images, Threat((40.0,), NORMS["l2"]), attack, surrogate=surrogate)
    held = [rung for rung in found.values() if rung.flip is None]
    assert held
    assert not any(rung.flips_in_float_only for rung in held)


@pytest.mark.slow
def test_transfer_follows_the_agreement_of_the_models():
    """Along the surrogate's normal the target's margin falls by the cosine of the two."""
    for cosine, epsilon in ((0.9, 40.0), (0.0, 40.0)):
        target, surrogate, images = pair(cosine)
        attack = PGD(steps=40, random_start=False, loss="margin")
        threat = Threat((epsilon,), NORMS["l2"])
        direct = flips(target, images, threat, attack)
        assert all(rung.flip for rung in direct.values())
        found = flips(target, images, threat, attack, surrogate=surrogate)
        for rung in found.values():
            if rung.flip:
                picture = from_png(rung.flip.png)[None]
                assert target.probabilities(picture).argmax() == 0
        share = np.mean([rung.flip is not None for rung in found.values()])
        assert share == 1 if cosine else share == 0


def test_the_target_is_not_evaluated_by_attacks():
    target, surrogate, images = pair(0.9)
    threat = Threat((40.0,), NORMS["l2"])
    asked = {"logits": 0}

    def logits(points):
        asked["logits"] += 1
        raise AssertionError("an attack looked at the target")

    some = subjects(target, images)
    target.logits = logits
    attack = PGD(steps=20, loss="margin")
    results = list(run_attack(target, attack, threat, some, batch_size=4, surrogate=surrogate))
    assert asked["logits"] == 0
    assert any(outcomes[0].flip for _, outcomes in results)


def test_smallest_changes_are_measured_on_the_target():
    """DDN finds the surrogate's boundary; the nearest file that flips the target counts."""
    target, surrogate, images = pair(0.8)
    found = flips(target, images, Threat((80.0,), NORMS["l2"]), DDN(), surrogate=surrogate)
    for rung in found.values():
        if rung.flip:
            assert target.probabilities(from_png(rung.flip.png)[None]).argmax() == 0
    assert sum(rung.flip is not None for rung in found.values()) >= 4


@pytest.mark.slow
def test_an_audit_records_its_surrogate_and_verifies(tmp_path):
    target, surrogate, images = pair(0.9)
    labels = np.ones(len(images), int)

    def run(**more):
        return robustness.audit(
            target, images, labels=labels, attacks=[PGD(steps=20)], norm="l2", epsilons=[40],
            out=tmp_path / "run", batch_size=4, **more,
        )  # fmt: skip

    result = run(surrogate=surrogate, thorough=True)
    assert result.flip_rate > 0
    with Run.open(tmp_path / "run") as opened:
        manifest = opened.manifest.to_json()
        assert manifest["surrogate"]["weights_sha256"] == surrogate.digest
        assert manifest["model"]["weights_sha256"] == target.digest
        assert not [d for d in manifest["diagnostics"] if d["status"] == "fail"]
        assert verify(opened, target).exit_code == 0
        assert verify(opened, surrogate).exit_code == 1
    page = result.report().read_text(encoding="utf-8")
    assert "the target only judges the pictures" in page
    with pytest.raises(RunError, match="setting surrogate"):
        run(resume=True)
    run(resume=True, surrogate=surrogate)


def test_a_surrogate_must_accept_the_images_of_the_target():
    target, _, images = pair(0.9)
    other = keras.Sequential(
        [keras.layers.Input((5, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    with pytest.raises(ModelError, match=r"expected those of the target, \(6, 6, 3\) and 2"):
        robustness.audit(
            target, images, labels=np.ones(8, int),
            surrogate=Classifier(other, scaling="0..255", head="logits"),
        )  # fmt: skip
    with pytest.raises(ModelError, match="has 3 classes"):
        robustness.audit(target, images, labels=np.ones(8, int), surrogate=small_cnn(0, (6, 6, 3)))
