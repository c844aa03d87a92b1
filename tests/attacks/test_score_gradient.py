"""Tests of gradients estimated from probes of scores: accuracy, formulas and query counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from keras import ops
from scipy import fft

from robustness.attacks.components.starts import frame
from robustness.attacks.score_gradient import NES, Regression, Waves, cosines, design
from robustness.contract.cost import passes
from robustness.contract.look import Look
from robustness.engine import compiled_batch, jobs
from robustness.errors import SettingError
from robustness.testing import parametrize_with_checks
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, small_cnn, subjects

SHAPE = (6, 6, 3)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(0, 0.02, (108, 3))
IMAGES = RANDOM.integers(60, 196, (4, *SHAPE)).astype(np.uint8)


def estimated(attack, classifier, images=IMAGES):
    """The first estimate (images, h, w, c) and the true gradient, of the margin loss."""
    some = subjects(classifier, images)
    threat = Threat((8,))
    rows = compiled_batch.CompiledBatch(classifier, attack, threat, batch_size=len(some), seed=0)
    state = rows.load(None, range(len(some)), [jobs.AttackJob(s, 8.0) for s in some])
    task = rows.task(state["task"])
    attack = replace(attack, momentum=0.0)
    look = Look(classifier.logits, task, attack.loss, "score")
    found = attack.step(task, attack.init(task), look)["average"]
    truth = Look(classifier.logits, task, attack.loss, "white-box")(task.images).gradient
    return ops.convert_to_numpy(found), ops.convert_to_numpy(truth), task


def cosine(a, b):
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.slow
@parametrize_with_checks([NES(probes=16, steps=60), Regression(probes=16, steps=60, frequencies=6)])
def test_the_contract_is_kept(check):
    check()


@pytest.mark.slow
@pytest.mark.parametrize(("probes", "antithetic"), [(109, False), (216, True), (140, False)])
def test_enough_probes_give_the_exact_gradient_of_a_linear_model(probes, antithetic):
    classifier = linear(WEIGHTS, np.zeros(3), SHAPE)
    attack = Regression(probes=probes, antithetic=antithetic, frequencies=6, sigma=4.0)
    found, truth, _ = estimated(attack, classifier)
    np.testing.assert_allclose(found, truth, atol=2e-3 * np.abs(truth).max())


@pytest.mark.slow
@pytest.mark.parametrize("antithetic", [False, True])
def test_fewer_probes_give_the_gradient_within_their_span(antithetic):
    classifier = linear(WEIGHTS, np.zeros(3), SHAPE)
    attack = Regression(probes=20, antithetic=antithetic, frequencies=6, sigma=4.0)
    found, truth, task = estimated(attack, classifier)
    axes = 10 if antithetic else 19
    turned = ops.convert_to_numpy(frame(task.keys, 16 + 4096 * (1 + task.step), 108, axes))
    np.testing.assert_allclose(turned[0].T @ turned[0], np.eye(axes), atol=1e-5)
    spectrum = fft.dctn(truth, axes=(1, 2), norm="ortho").reshape(4, 108)
    inside = np.einsum("rdm,rem,re->rd", turned, turned, spectrum)
    expected = fft.idctn(inside.reshape(4, *SHAPE), axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(found, expected, atol=3e-3 * np.abs(truth).max())
    # A direction's cosine with a random m-dimensional subspace of n dimensions is about sqrt(m / n).
    assert cosine(found, truth).mean() == pytest.approx(np.sqrt(axes / 108), abs=0.12)


@pytest.mark.slow
def test_spread_probes_beat_gaussian_ones_on_a_linear_model():
    classifier = linear(WEIGHTS, np.zeros(3), SHAPE)
    images = RANDOM.integers(60, 196, (24, *SHAPE)).astype(np.uint8)
    spread = Regression(probes=60, frequencies=6, sigma=4.0)
    pairs = NES(probes=60, frequencies=6, sigma=4.0)
    plain = NES(probes=60, frequencies=6, sigma=4.0, antithetic=False)
    means = [cosine(*estimated(a, classifier, images)[:2]).mean() for a in (spread, plain, pairs)]
    # The expected cosine of m measured slopes of Gaussian probes in n dimensions is sqrt(m / (n + m + 1)).
    for mean, expected in zip(means, [(59 / 108), 59 / 168, 30 / 139], strict=True):
        assert mean == pytest.approx(np.sqrt(expected), abs=0.05)


def test_nes_matches_its_formula():
    classifier = small_cnn(2, SHAPE)
    attack = NES(probes=10, sigma=2.0)
    found, _, task = estimated(attack, classifier)
    drawn = ops.convert_to_numpy(task.normal((5, 108))).reshape(4, 5, *SHAPE)
    both = np.concatenate([drawn, -drawn], axis=1)
    images = ops.convert_to_numpy(task.images)
    points = np.clip(images[:, None] + 2.0 * both, 0, 255).reshape(-1, *SHAPE)
    z = ops.convert_to_numpy(classifier.logits(points)).reshape(4, 10, 3)
    labels = ops.convert_to_numpy(task.aims)
    margins = []
    for logits, label in zip(z, labels, strict=True):
        others = np.delete(logits, label, axis=1).max(1)
        margins.append(logits[:, label] - others)
    expected = np.einsum("rk,rkhwc->rhwc", np.array(margins), both) / (10 * 2.0)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


def test_low_frequencies_match_the_dct():
    np.testing.assert_allclose(
        cosines(7, 4), fft.dct(np.eye(7), axis=0, norm="ortho")[:4], atol=1e-6
    )
    waves = Waves.of((7, 5, 2), 4)
    assert waves.size == 4 * 4 * 2
    pictures = ops.convert_to_numpy(waves.pictures(ops.eye(waves.size)[None]))
    flat = pictures.reshape(waves.size, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(waves.size), atol=1e-5)
    assert Waves.of((7, 5, 2), None).size == Waves.of((7, 5, 2), 9).size == 70


@pytest.mark.slow
def test_spread_probes_have_maximal_angles():
    probes, _ = design(12, 50, False)
    np.testing.assert_allclose(probes @ probes.T, (12 * np.eye(12) - 1) / 11, atol=1e-3)
    pairs, _ = design(12, 50, True)
    np.testing.assert_allclose(np.abs(pairs @ pairs.T).round(3).sum(1), 2.0, atol=0.02)
    many, regression = design(30, 4, False)
    assert many.shape == (30, 4) and regression.undetermined is None
    cosine = (many @ many.T - 2 * np.eye(30)).max()
    assert cosine < np.cos(np.radians(40))


def test_all_queries_are_counted_and_no_gradient_is_used():
    assert passes(NES(probes=6, steps=4), 3) == (24, 0)
    assert passes(Regression(probes=7, steps=4), 3) == (28, 0)
    assert NES.knowledge == Regression.knowledge == "score"


def test_antithetic_pairs_need_an_even_number():
    with pytest.raises(SettingError, match="probes=5 cannot be paired"):
        NES(probes=5)
    assert NES(probes=5, antithetic=False).width == 5
