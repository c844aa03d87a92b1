"""Tests of NI-, DI-, TI- and VMI-FGSM: the papers' recursions by hand, components against other libraries."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from robustness.attacks import MIFGSM
from robustness.attacks.transfer import (
    DIFGSM,
    NIFGSM,
    TIFGSM,
    VMIFGSM,
    sandwich,
    shrinking,
    smoothing,
)
from robustness.contract.task import Task
from robustness.engine import compiled_batch, jobs
from robustness.numerics.prng import key_for
from robustness.testing import parametrize_with_checks
from robustness.threat.goals import Untargeted
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import small_cnn, subjects

SHAPE = (12, 12, 3)


@pytest.mark.slow
@parametrize_with_checks(
    [
        NIFGSM(),
        DIFGSM(),
        TIFGSM(kernel=5),
        VMIFGSM(neighbours=5),
    ]
)
def test_the_contract_is_kept(check):
    check()


def walked(classifier, attack, images, steps, epsilon=8.0):
    some = subjects(classifier, images)
    rows = compiled_batch.CompiledBatch(
        classifier, attack, Threat((epsilon,)), batch_size=len(some), seed=0
    )
    state = rows.load(None, range(len(some)), [jobs.AttackJob(s, epsilon) for s in some])
    for _ in range(steps):
        state, _ = rows.step(state)
    return ops.convert_to_numpy(state["own"]["point"]), rows


@pytest.fixture(scope="module")
def material():
    classifier = small_cnn(4)
    images = np.random.default_rng(0).integers(20, 236, (4, *SHAPE)).astype(np.uint8)
    return classifier, images, np.array([s.label for s in subjects(classifier, images)])


def gradient(classifier, x, labels):
    import tensorflow as tf

    x = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = classifier.logits(x)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, z)
    return tape.gradient(loss, x).numpy()


def ascent(classifier, images, labels, steps, decay, *, ahead=False, smooth=lambda g: g):
    """The loop of all four papers, ascending the cross-entropy."""
    x, momentum, alpha = images.astype("float32"), np.zeros((4, *SHAPE)), 8.0 / steps
    for _ in range(steps):
        at = x + alpha * decay * momentum if ahead else x
        g = smooth(gradient(classifier, at, labels))
        momentum = decay * momentum + g / np.abs(g).mean(axis=(1, 2, 3), keepdims=True)
        x = np.clip(x + alpha * np.sign(momentum), images - 8.0, images + 8.0)
        x = np.clip(x, 0, 255).astype("float32")
    return x


def test_ni_evaluates_the_gradient_one_step_ahead(material):
    classifier, images, labels = material
    expected = ascent(classifier, images, labels, 4, 0.7, ahead=True)
    got, rows = walked(classifier, NIFGSM(steps=4, decay=0.7), images, 4)
    assert (np.abs(got - expected) > 1e-3).mean() < 3e-3
    assert rows.passes == (1, 1)
    without = ascent(classifier, images, labels, 4, 0.7)
    assert (np.abs(got - without) > 1).mean() > 0.02


def test_ti_smooths_the_gradient(material):
    classifier, images, labels = material
    side = np.exp(-0.5 * np.linspace(-3, 3, 5) ** 2)
    kernel = np.outer(side, side)[None, :, :, None] / np.outer(side, side).sum()

    def smooth(g):
        return ndimage.convolve(g, kernel, mode="constant")

    expected = ascent(classifier, images, labels, 4, 1.0, smooth=smooth)
    got, _ = walked(classifier, TIFGSM(steps=4, kernel=5), images, 4)
    assert (np.abs(got - expected) > 1e-3).mean() < 3e-3


def test_gaussian_weights_sum_to_one_and_fall_towards_the_edge():
    matrix = smoothing(40, 15)
    np.testing.assert_allclose(matrix[20].sum(), 1, rtol=1e-6)
    assert np.count_nonzero(matrix[20]) == 15
    assert matrix[0].sum() < 0.7
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(smoothing(5, 1), np.eye(5))


def task(rows, shape, step=0):
    keys = np.stack([key_for(1, n) for n in range(rows)])
    whole = np.full(rows, step, np.int32)
    images = np.zeros((rows, *shape), "float32")
    return Task(
        images,
        0 * whole,
        np.ones(rows, "float32"),
        keys,
        0 * whole,
        whole,
        NORMS["linf"],
        Untargeted(),
    )


def test_shrunken_inputs_are_bilinear_and_padded_with_black():
    shape = (20, 30, 3)
    pictures = np.random.default_rng(2).uniform(1, 255, (24, *shape)).astype("float32")
    down, across = (ops.convert_to_numpy(m) for m in shrinking(task(24, shape), 1.0, 0.5))
    got = ops.convert_to_numpy(sandwich(down, pictures[:, None], across))[:, 0]
    heights = set()
    for picture, shrunk in zip(pictures, got, strict=True):
        rows, columns = np.nonzero(shrunk.any(-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        heights.add(height)
        assert 10 <= height <= 20
        assert width == round(height / 20 * 30)
        expected = keras.ops.image.resize(picture[None], (int(height), int(width)))
        inside = shrunk[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        np.testing.assert_allclose(inside, ops.convert_to_numpy(expected)[0], rtol=1e-3, atol=0.05)
    assert len(heights) > 4


def test_the_probability_sets_the_share_of_shrunken_inputs():
    many = task(400, (10, 10, 1))
    down, _ = (ops.convert_to_numpy(m) for m in shrinking(many, 0.3, 0.5))
    whole = (down == np.eye(10)).all(axis=(1, 2))
    # One in six shrunken inputs draws the full side length.
    assert 0.65 < whole.mean() < 0.85
    down, _ = (ops.convert_to_numpy(m) for m in shrinking(many, 0.0, 0.5))
    assert (down == np.eye(10)).all()


def test_di_differentiates_through_the_same_shrinking(material):
    """The gradient equals that of the loss of the shrunken picture, computed with a tape."""
    import tensorflow as tf

    classifier, images, labels = material
    some = subjects(classifier, images)
    keys = np.stack([key_for(0, s.key, "di-fgsm", 0) for s in some])
    whole = np.zeros(4, np.int32)
    epsilon = np.full(4, 8, "float32")
    here = Task(
        images.astype("float32"), labels, epsilon, keys, whole, whole, NORMS["linf"], Untargeted()
    )
    down, across = shrinking(here, 1.0, 0.6)
    x = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        seen = tf.einsum("nij,njlc,nml->nimc", down, x, across)
        z = classifier.logits(seen)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, z)
    g = tape.gradient(loss, x).numpy()
    expected = np.clip(images + 8.0 * np.sign(g), 0, 255)
    attack = DIFGSM(steps=1, diversity=1.0, smallest=0.6)
    got, _ = walked(classifier, attack, images, 1)
    # The gradient of the black padding is zero, so that nothing moves there.
    assert (np.abs(got - expected) > 1e-3).mean() < 5e-3


@pytest.mark.slow
def test_without_their_extension_all_equal_mi_fgsm(material):
    classifier, images, _ = material
    expected, _ = walked(classifier, MIFGSM(steps=5), images, 5)
    for attack in (
        NIFGSM(steps=5, nesterov=False),
        DIFGSM(steps=5, diversity=0),
        DIFGSM(steps=5, smallest=1.0),
        TIFGSM(steps=5, kernel=1),
        VMIFGSM(steps=5, neighbours=0),
        VMIFGSM(steps=5, neighbours=2, reach=0),
    ):
        got, _ = walked(classifier, attack, images, 5)
        assert (np.abs(got - expected) > 1e-3).mean() < 2e-3, attack.label


@pytest.mark.slow
def test_vmi_counts_the_passes_of_its_neighbours_and_changes_the_path(material):
    classifier, images, _ = material
    plain, _ = walked(classifier, MIFGSM(steps=5), images, 5)
    got, rows = walked(classifier, VMIFGSM(steps=5, neighbours=4), images, 5)
    assert rows.passes == (5, 5)
    assert (np.abs(got - plain) > 1).mean() > 0.02
