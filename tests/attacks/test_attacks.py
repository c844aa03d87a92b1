"""Tests of the gradient attacks: linear models in closed form, first steps of the papers, the contract."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from robustness.attacks import BIM, FGSM, MIFGSM, PGD
from robustness.attacks.wrappers import Bisection
from robustness.contract.attack import Attack
from robustness.contract.registry import create, find, make
from robustness.engine import compiled_batch, jobs
from robustness.engine.search import run_attack
from robustness.errors import SettingError
from robustness.testing import parametrize_with_checks
from robustness.threat.goals import Targeted, Untargeted
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import normal_of, small_cnn, subjects, two_sided

DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


def verdicts(classifier, attack, threat, some, **kwargs):
    results = run_attack(classifier, attack, threat, some, **kwargs)
    return {example.key: outcomes for example, outcomes in results}


@pytest.mark.slow
@parametrize_with_checks([FGSM, BIM, PGD, MIFGSM])
def test_the_contract_is_kept(check):
    check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (FGSM(), "linf"),
        (BIM(steps=20), "linf"),
        (PGD(steps=20), "linf"),
        (MIFGSM(steps=20), "linf"),
        (FGSM(), "l2"),
        (PGD(steps=20), "l2"),
        (MIFGSM(steps=20), "l2"),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_a_linear_model_flips_above_its_distance_only(attack, norm):
    rng = np.random.default_rng(5)
    classifier, images, labels, margins = two_sided(rng)
    distance = margins / np.linalg.norm(normal_of(classifier), DUAL[norm])
    # Rounding may cost half a count per component. In l2 the grid is coarse for so few components,
    # hence the tolerance above the distance.
    enough = distance + 1 if norm == "linf" else 1.6 * distance + 8
    ladder = tuple(np.unique(np.ceil(np.geomspace(1, enough.max() + 1, 10))))
    some = subjects(classifier, images, labels)
    found = verdicts(classifier, attack, Threat(ladder, NORMS[norm]), some)
    assert distance.max() > 3 * max(1, distance.min())
    for subject, least, most in zip(some, distance, enough, strict=True):
        flipped = [rung.epsilon for rung in found[subject.key] if rung.flip]
        assert flipped, (subject.key, least)
        assert min(flipped) >= least * (1 - 1e-6)
        assert min(flipped) <= min(e for e in ladder if e >= most)


def points(classifier, attack, threat, some, steps):
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=len(some), seed=0)
    places = [jobs.AttackJob(s, threat.epsilons[0]) for s in some]
    state = rows.load(None, range(len(some)), places)
    for _ in range(steps):
        state, _ = rows.step(state)
    return ops.convert_to_numpy(state["own"]["point"])


def gradient(classifier, images, labels):
    """The gradient of the negative cross-entropy, by central differences in float64."""
    import tensorflow as tf

    x = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = classifier.logits(x)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, z)
    return -tape.gradient(loss, x).numpy()


def test_bim_matches_the_recursion_of_the_paper():
    classifier = small_cnn(3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    some = subjects(classifier, images)
    labels = np.array([s.label for s in some])
    x = images.astype("float32")
    for _ in range(3):
        x = x - 1.5 * np.sign(gradient(classifier, x, labels))
        x = np.clip(np.clip(x, images - 2.0, images + 2.0), 0, 255)
    got = points(classifier, BIM(steps=5, step_size=1.5), Threat((2,)), some, 3)
    assert (np.abs(got - x) > 1e-3).mean() < 1e-3


def test_mi_fgsm_accumulates_gradients_not_signs():
    classifier = small_cnn(4)
    rng = np.random.default_rng(0)
    images = rng.integers(20, 236, (4, 12, 12, 3)).astype(np.uint8)
    some = subjects(classifier, images)
    labels = np.array([s.label for s in some])
    x, momentum = images.astype("float32"), 0.0
    for _ in range(4):
        g = gradient(classifier, x, labels)
        momentum = 0.7 * momentum + g / np.abs(g).sum(axis=(1, 2, 3), keepdims=True)
        x = np.clip(x - 2.0 * np.sign(momentum), images - 8.0, images + 8.0)
        x = np.clip(x, 0, 255)
    got = points(classifier, MIFGSM(steps=4, decay=0.7), Threat((8,)), some, 4)
    assert (np.abs(got - x) > 1e-3).mean() < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_pgd_starts_in_the_ball_and_restarts_differ(norm):
    classifier = small_cnn(5)
    images = np.full((2, 12, 12, 3), 128, np.uint8)
    some = subjects(classifier, images)
    epsilon = {"linf": 8.0, "l2": 60.0, "l1": 300.0}[norm]
    rows = compiled_batch.CompiledBatch(
        classifier, PGD(), Threat((epsilon,), NORMS[norm]), batch_size=3, seed=0
    )
    places = [jobs.AttackJob(some[0], epsilon, r) for r in (0, 1)] + [
        jobs.AttackJob(some[1], epsilon)
    ]
    start = ops.convert_to_numpy(rows.load(None, range(3), places)["own"]["point"])
    size = ops.convert_to_numpy(NORMS[norm].size(start - 128.0))
    assert (size <= epsilon * (1 + 1e-5)).all()
    assert (size > 0.2 * epsilon).all()
    assert not np.allclose(start[0], start[1])
    assert not np.allclose(start[0], start[2])


@pytest.mark.slow
def test_restarts_only_add_flips():
    classifier = small_cnn(6)
    images = np.random.default_rng(1).integers(0, 256, (16, 12, 12, 3)).astype(np.uint8)
    some = subjects(classifier, images)
    threat = Threat((1,))
    once = verdicts(classifier, PGD(steps=3), threat, some)
    often = verdicts(classifier, PGD(steps=3, restarts=4), threat, some)
    first = {k for k, r in once.items() if r[0].flip}
    more = {k for k, r in often.items() if r[0].flip}
    assert first <= more
    held = [r[0] for r in often.values() if r[0].flip is None]
    assert all(r.backward == 12 for r in held)


def test_only_flips_to_the_target_count():
    classifier = small_cnn(7)
    images = np.random.default_rng(2).integers(0, 256, (24, 12, 12, 3)).astype(np.uint8)
    some = [s for s in subjects(classifier, images) if s.label != 2]
    found = verdicts(classifier, PGD(steps=20), Threat((16,), goal=Targeted(2)), some)
    classes = {r[0].flip.adversarial_class for r in found.values() if r[0].flip}
    assert classes == {2}
    free = verdicts(classifier, PGD(steps=20), Threat((16,), goal=Untargeted()), some)
    assert sum(bool(r[0].flip) for r in free.values()) >= sum(
        bool(r[0].flip) for r in found.values()
    )


def test_attacks_are_created_from_names_and_texts():
    assert find("pgd") is PGD
    assert create(PGD, {"steps": "7", "random-start": "false", "step_size": "auto"}) == PGD(
        steps=7, random_start=False
    )
    assert make("bim", steps=2) == BIM(steps=2)
    assert make(BIM()) == BIM()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: find("pgdd"), "Did you mean pgd"),
        (lambda: BIM(steps=0), "bim: steps=0 is out of range; expected 1 .. 100000"),
        (
            lambda: Bisection(of=BIM(), rounds=0),
            "bisection: rounds=0 is out of range; expected 1 .. 100",
        ),
        (lambda: BIM(steps=2.5), "whole number"),  # type: ignore[arg-type]
        (lambda: BIM(step_size=float("nan")), "expected a number"),
        (lambda: PGD(random_start="maybe"), "true or false"),  # type: ignore[arg-type]
        (lambda: create(PGD, {"step": "3"}), "Did you mean steps"),
        (lambda: create(PGD, {"restart": 3}), "Did you mean restarts"),
        (lambda: FGSM(loss="hinge"), "cross_entropy | margin"),
    ],
)
def test_invalid_parameters_are_refused_with_the_expected_values(call, said):
    with pytest.raises(SettingError) as caught:
        call()
    assert said in str(caught.value)


def test_labels_of_attacks_in_a_run_are_unique():
    assert BIM().label == "bim(steps=4)"
    assert PGD(steps=5, step_size=0.5, random_start=False).label == (
        "pgd(steps=5, step_size=0.5, random_start=False)"
    )
    assert issubclass(PGD, Attack)


def test_parameters_keep_their_type_in_a_module_that_evaluates_annotations():
    from dataclasses import make_dataclass

    from robustness.configuration import attack_parameters

    made = make_dataclass("Made", [("steps", int, attack_parameters.setting(3, "steps", low=1))])(
        4.0
    )
    attack_parameters.check(made)
    assert made.steps == 4
    assert isinstance(made.steps, int)
