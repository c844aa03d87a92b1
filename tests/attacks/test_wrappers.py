"""Tests of the wrappers: bisection and expectation over transformations."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from robustness.attacks.bim import BIM
from robustness.attacks.ddn import DDN
from robustness.attacks.fgsm import FGSM
from robustness.attacks.mi_fgsm import MIFGSM
from robustness.attacks.pgd import PGD
from robustness.attacks.square import Square
from robustness.attacks.wrappers import EOT, Bisection
from robustness.contract.cost import passes
from robustness.contract.registry import create, find, make
from robustness.engine import compiled_batch, jobs
from robustness.engine.search import run_attack
from robustness.errors import SettingError
from robustness.models.classifier import Classifier
from robustness.numerics import linear_distances
from robustness.testing import check_attack, checks, parametrize_with_checks
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.attacks.test_minimum_distance import found
from tests.robustness.helpers import normal_of, small_cnn, subjects, two_sided

NEAR = Bisection(of=PGD(steps=20, loss="margin"), rounds=6)
NEAREST = Bisection(of=PGD(steps=20, loss="margin", restarts=4), rounds=6)


@pytest.mark.slow
@parametrize_with_checks([NEAR, EOT(of=BIM(step_size=2.0), samples=3)])
def test_the_contract_is_kept(check):
    check()


@pytest.mark.slow
def test_the_contract_is_kept_with_restarts_and_another_seed():
    assert all(check.holds for check in check_attack(NEAREST, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", (0, 2, 3))
def test_other_seeds_reach_similar_distances(seed):
    """The other clauses run the first start only, as they do for `NEAR` and for seed 1.

    That files flip, far within the budget, is checked for seeds 0 and 1.
    """
    clauses = ("stays", "flips", "comes-near") if seed == 0 else ("stays", "comes-near")
    for name, check in checks(NEAREST, seed=seed):
        if name.startswith(clauses):
            check()


@pytest.mark.parametrize("inner", [FGSM(), MIFGSM(steps=5, decay=0.5)])
def test_bisection_finds_the_distance_of_a_linear_model(inner):
    """Along signs a linear model flips at |margin| / ||w||_1, apart from clipping to the box."""
    classifier, images, labels, margins = two_sided(np.random.default_rng(0))
    attack = Bisection(of=inner, rounds=14, tolerance=0.002)
    near = nearest(classifier, attack, Threat((20,)), images, labels)
    normal = normal_of(classifier).reshape(images.shape[1:])
    for image, label, margin, got in zip(images, labels, margins, near, strict=True):
        least = linear_distances.linf(normal if label == 0 else -normal, margin, image)
        assert least * 0.999 < got < least * 1.01


def nearest(classifier, attack, threat, images, labels=None):
    """The distance of each image's nearest evaluated point that flips."""
    some = subjects(classifier, images, labels)
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=len(some), seed=0)
    epsilon = threat.epsilons[-1]
    state = rows.load(None, range(len(some)), [jobs.AttackJob(s, epsilon) for s in some])
    for _ in range(attack.steps):
        state, _ = rows.step(state)
    return ops.convert_to_numpy(state["best"]["distance"])


@pytest.mark.slow
def test_bisection_agrees_with_single_budgets():
    """The inner attack flips at the epsilon found, and not just below the last epsilon that failed."""
    classifier = small_cnn(3)
    images = np.random.default_rng(3).integers(40, 216, (4, 12, 12, 3)).astype(np.uint8)
    inner = BIM(steps=6, step_size=1.5)
    some = subjects(classifier, images)
    attack = Bisection(of=inner, rounds=12, tolerance=0.001, warm_start=False)
    rows = compiled_batch.CompiledBatch(classifier, attack, Threat((40,)), batch_size=4, seed=0)
    state = rows.load(None, range(4), [jobs.AttackJob(s, 40.0) for s in some])
    for _ in range(attack.steps):
        state, _ = rows.step(state)
    own = {k: ops.convert_to_numpy(x) for k, x in state["own"].items()}
    flipped = own["high"] < 1e29
    assert flipped.any()

    def flips(radius):
        """Which images BIM alone flips in float within these radii."""
        alone = compiled_batch.CompiledBatch(classifier, inner, Threat((40,)), batch_size=4, seed=0)
        state = alone.load(
            None, range(4), [jobs.AttackJob(s, float(r)) for s, r in zip(some, radius, strict=True)]
        )
        ever = np.zeros(4, bool)
        for _ in range(inner.steps + 1):
            state, reached = alone.step(state)
            ever |= reached
        return ever

    assert flips(np.where(flipped, own["high"] * 1.0005, 40))[flipped].all()
    tried = flipped & (own["low"] > 0)
    assert tried.any()
    assert not flips(np.where(tried, own["low"], 1))[tried].any()


def distances(attack, top, norm, seed=3):
    """The distance of each image's nearest file for a small network, and the passes used."""
    classifier = small_cnn(seed)
    images = np.random.default_rng(seed).integers(40, 216, (12, 12, 12, 3)).astype(np.uint8)
    rungs = found(classifier, attack, Threat((top,), NORMS[norm]), images)
    return {
        key: (rung.flip.distances.of(norm) if rung.flip else np.inf, rung.forward, rung.backward)
        for key, (rung,) in rungs.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "top"), [("linf", 60), ("l2", 1500)])
def test_bisection_uses_its_steps_and_gets_nearer(norm, top, monkeypatch):
    # Without the engine's refinement, which takes gradients in either search.
    monkeypatch.setattr(Bisection, "refined", False)
    inner = PGD(steps=8, loss="margin")
    spent = distances(Bisection(of=inner, rounds=20), top, norm)
    left = distances(Bisection(of=inner, rounds=20, tolerance=0.01, warm_start=False), top, norm)
    most = passes(Bisection(of=inner, rounds=20), 3)[1]
    gained = []
    for key, (far, _, backward) in spent.items():
        assert backward <= most
        if np.isfinite(far):
            # All steps, unless no file could be nearer.
            assert backward == most or (norm == "linf" and far == 1)
            gained.append(far / left[key][0])
    assert len(gained) > 6
    assert sum(row[2] for row in left.values()) < 0.8 * most * len(left)
    assert np.mean(gained) < 0.995
    assert np.median(gained) <= 1


@pytest.mark.slow
def test_rows_of_bisection_are_independent():
    classifier = small_cnn(3)
    images = np.random.default_rng(3).integers(40, 216, (6, 12, 12, 3)).astype(np.uint8)
    attack = Bisection(of=PGD(steps=4, loss="margin"), rounds=5)
    threat, some = Threat((900,), NORMS["l2"]), subjects(classifier, images)
    together, alone = (
        {
            example.key: outcomes[0]
            for example, outcomes in run_attack(classifier, attack, threat, some, batch_size=size)
        }
        for size in (12, 6)
    )
    for key, rung in together.items():
        assert (rung.flip is None) == (alone[key].flip is None)
        if rung.flip:
            assert rung.flip.png == alone[key].flip.png
            assert (rung.forward, rung.step) == (alone[key].forward, alone[key].step)


def test_a_row_that_cannot_flip_ends_after_one_trial():
    classifier, images, _, margins = two_sided(np.random.default_rng(1))
    far = images[np.argsort(margins)[-2:]]
    rungs = found(classifier, Bisection(of=BIM(steps=3), rounds=10), Threat((1,)), far)
    for (rung,) in rungs.values():
        if rung.flip is None:
            assert rung.backward == 4


def test_bisection_wraps_only_attacks_of_fixed_budget():
    with pytest.raises(SettingError, match="already searches for the smallest change"):
        Bisection(of=DDN())


def test_wrappers_are_created_from_texts():
    made = create(find("bisection"), {"of": "bim", "steps": "7", "rounds": "4", "step-size": "0.5"})
    assert made == Bisection(of=BIM(steps=7, step_size=0.5), rounds=4)
    assert made.label == "bisection(bim(steps=7, step_size=0.5), rounds=4)"
    assert made.parameters() == {
        "rounds": 4,
        "tolerance": None,
        "warm_start": True,
        "of": "bim",
        "of.loss": "cross_entropy",
        "of.steps": 7,
        "of.step_size": 0.5,
    }
    assert make("eot", of=PGD(steps=3), samples=2) == EOT(of=PGD(steps=3), samples=2)
    assert EOT().inner == PGD(loss="margin")
    assert getattr(create(find("eot"), {"steps": "5"}), "inner", None) == PGD(
        steps=5, loss="margin"
    )
    with pytest.raises(SettingError, match="Did you mean steps"):
        create(find("bisection"), {"of": "bim", "stepz": "7"})
    with pytest.raises(SettingError, match="Did you mean pgd"):
        create(find("eot"), {"of": "pgdd"})
    with pytest.raises(SettingError, match="cannot be given beside an attack object"):
        make("eot", of=PGD(), steps=3)


def test_wrappers_inherit_properties_of_the_inner_attack():
    square = Bisection(of=Square(steps=50))
    assert (square.knowledge, square.norms, square.seeks) == ("score", ("linf", "l2"), "closest")
    assert EOT(of=DDN()).seeks == "closest"
    assert EOT(of=PGD(restarts=4)).restarts == 4
    assert passes(EOT(of=PGD(steps=5), samples=8), 3) == (40, 40)
    assert passes(Bisection(of=PGD(steps=5), rounds=3), 3) == (18, 18)


@keras.saving.register_keras_serializable()
class Shaken(keras.layers.Layer):
    """Add one fixed random picture times a random number of either sign."""

    def __init__(self, direction=None, **kwargs):
        super().__init__(**kwargs)
        self.direction = np.asarray(direction, "float32")
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        z = keras.random.normal((ops.shape(x)[0], 1), seed=self.seeds)
        share = ops.sum(ops.reshape(x, (ops.shape(x)[0], -1)) * self.direction, axis=1)
        return ops.concatenate([x, z * share[:, None]], axis=1)


def test_eot_averages_out_the_noise_of_the_gradient():
    """Logits w x plus noise times v x: a single gradient is mostly v, their mean is w."""
    rng = np.random.default_rng(0)
    shape, size = (6, 6, 3), 108
    w, v = rng.normal(0, 0.01, size), rng.normal(0, 0.1, size)
    inputs = keras.layers.Input(shape)
    shaken = Shaken(v)(keras.layers.Flatten()(inputs))
    outputs = keras.layers.Dense(2)(shaken)
    model = keras.Model(inputs, outputs)
    kernel = np.zeros((size + 1, 2), "float32")
    kernel[:size, 1], kernel[size, 1] = w, 1.0
    image = rng.integers(100, 156, (1, *shape)).astype(np.uint8)
    model.layers[-1].set_weights([kernel, np.array([0, -image.ravel() @ w - 1], "float32")])
    classifier = Classifier(model, scaling="0..255", head="logits", name="shaken")

    def cosine(attack):
        rows = compiled_batch.CompiledBatch(
            classifier, attack, Threat((200,), NORMS["l2"]), batch_size=1, seed=0
        )
        place = jobs.AttackJob(jobs.Example("0", image[0], 0), 200.0)
        state = rows.load(None, [0], [place])
        state, _ = rows.step(state)
        moved = ops.convert_to_numpy(state["own"]["point"])[0].ravel() - image.ravel()
        return moved @ w / np.linalg.norm(moved) / np.linalg.norm(w), rows.passes

    one = MIFGSM(steps=1, loss="margin")
    alone, _ = cosine(one)
    mean, cost = cosine(EOT(of=one, samples=4000))
    assert abs(alone) < 0.5
    assert mean > 0.95
    assert cost == (4000, 4000)
