"""Tests of APGD against its paper: checkpoints, step halving, sparsity and target classes."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from robustness.attacks.apgd import APGD, APGDT
from robustness.attacks.components.step_sizes import checkpoints, largest
from robustness.attacks.components.target_classes import ranked
from robustness.engine import compiled_batch, jobs
from robustness.numerics import losses
from robustness.numerics.powers_of_two import HUGE
from robustness.testing import parametrize_with_checks
from robustness.threat.goals import Targeted, Untargeted
from robustness.threat.norms import NORMS
from robustness.threat.threat import Threat
from tests.robustness.helpers import linear, small_cnn, subjects

SHAPE = (12, 12, 3)


@pytest.mark.slow
@parametrize_with_checks([APGD(steps=30), APGDT(steps=30, targets=2)])
def test_the_contract_is_kept(check):
    check()


def test_checkpoints_match_the_paper():
    # Croce & Hein 2020, sec. 3.1: p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99.
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1000) == [0, 220, 410, 570, 700, 800, 870, 930, 990]
    # With few steps p * steps is fractional; the paper rounds up.
    assert checkpoints(10) == [0, 3, 5, 6, 7, 8, 9, 10]


class Trajectory:
    """The states of an attack on some images, step by step."""

    def __init__(self, classifier, attack, threat, images, restart=0):
        some = subjects(classifier, images)
        self.labels = np.array([s.label for s in some])
        rows = compiled_batch.CompiledBatch(
            classifier, attack, threat, batch_size=len(some), seed=0
        )
        places = [jobs.AttackJob(s, threat.epsilons[0], restart) for s in some]
        state = rows.load(None, range(len(some)), places)
        self.states = [self.own(state)]
        for _ in range(attack.steps):
            state, _ = rows.step(state)
            self.states.append(self.own(state))

    @staticmethod
    def own(state):
        return {name: ops.convert_to_numpy(x) for name, x in state["own"].items()}

    def __getitem__(self, name):
        return np.stack([state[name] for state in self.states])


def loss_and_gradient(classifier, points, labels):
    """The minimised loss (negative margin loss) and its gradient, computed directly with TensorFlow."""
    import tensorflow as tf

    x = tf.constant(points, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = classifier.logits(x)
        mine = tf.gather(z, labels, batch_dims=1)
        others = tf.reduce_max(z - 1e9 * tf.one_hot(labels, z.shape[-1]), axis=1)
        loss = mine - others
    return loss.numpy().astype("float64"), tape.gradient(loss, x).numpy().astype("float64")


def algorithm_1(classifier, images, labels, epsilon, steps, norm, trajectory):
    """Algorithm 1 of the paper in NumPy, one image after another.

    Each step starts from the point of the attack under test and uses its loss, once the two losses agree, so
    that rounding does not accumulate. The caller compares the next point and the step size.
    """
    marks = checkpoints(steps)
    for i, image in enumerate(images.astype("float64")):
        eta, gains, halved, best_before = 2 * epsilon, 0, False, None
        f_old, x_old, f_best = None, None, np.inf
        for k in range(steps):
            x = trajectory["point"][k, i].astype("float64")
            value, g = (v[0] for v in loss_and_gradient(classifier, x[None], labels[i : i + 1]))
            f = trajectory["loss"][k + 1, i]
            assert f == pytest.approx(value, rel=1e-4, abs=1e-4)
            gains += f_old is not None and f < f_old
            if f < f_best:
                f_best, x_best, g_best = f, x, g
            here, gradient = x, g
            if k == 0:
                best_before, halved = f_best, False
            elif k in marks:
                span = k - marks[marks.index(k) - 1]
                reduce = gains < 0.75 * span or (not halved and f_best == best_before)
                if reduce:
                    eta, here, gradient = eta / 2, x_best, g_best
                halved, best_before, gains = reduce, f_best, 0
            x_new = move(image, here, x_old, gradient, eta, epsilon, norm, first=k == 0)
            yield i, k, eta, x_new
            f_old, x_old = f, here


def move(image, x, x_old, gradient, eta, epsilon, norm, *, first):
    direction = np.sign(gradient) if norm == "linf" else gradient / np.linalg.norm(gradient)
    y = project(image, x - eta * direction, epsilon, norm)
    if first:
        return y
    return project(image, x + 0.75 * (y - x) + 0.25 * (x - x_old), epsilon, norm)


def project(image, point, epsilon, norm):
    low, high, delta = -image, 255 - image, point - image
    if norm == "linf":
        return image + np.clip(delta, np.maximum(low, -epsilon), np.minimum(high, epsilon))
    inside = np.clip(delta, low, high)
    if np.linalg.norm(inside) <= epsilon:
        return image + inside
    least, most = 0.0, 1.0
    for _ in range(100):
        s = (least + most) / 2
        fits = np.linalg.norm(np.clip(s * delta, low, high)) <= epsilon
        least, most = (s, most) if fits else (least, s)
    return image + np.clip(least * delta, low, high)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 6.0), ("l2", 60.0)])
def test_every_step_matches_algorithm_1(norm, epsilon):
    classifier = small_cnn(8)
    images = np.random.default_rng(3).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    attack = APGD(steps=24, loss="margin")
    trajectory = Trajectory(classifier, attack, Threat((epsilon,), NORMS[norm]), images)
    points, lengths = trajectory["point"], trajectory["length"]
    expected = algorithm_1(
        classifier, images, trajectory.labels, epsilon, attack.steps, norm, trajectory
    )
    for i, k, eta, x_new in expected:
        assert lengths[k + 1, i] == pytest.approx(eta), (i, k)
        # The sign of a gradient that is only rounding error is arbitrary.
        assert (np.abs(points[k + 1, i] - x_new) > 2e-2).mean() < 5e-3, (i, k)
    # Step sizes were halved more than once, so that the test covers the rule.
    assert (lengths[-1] < epsilon).all()


@pytest.mark.slow
def test_the_best_point_has_the_lowest_evaluated_loss():
    classifier = small_cnn(8)
    images = np.random.default_rng(4).integers(0, 256, (4, *SHAPE)).astype(np.uint8)
    trajectory = Trajectory(classifier, APGD(steps=30, loss="margin"), Threat((4,)), images)
    seen = [
        loss_and_gradient(classifier, p, trajectory.labels)[0] for p in trajectory["point"][:-1]
    ]
    np.testing.assert_allclose(
        trajectory["best_loss"][-1], np.min(seen, axis=0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_l1_steps_are_sparse_and_points_are_within_ball_and_box():
    classifier = small_cnn(8)
    images = np.random.default_rng(5).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    trajectory = Trajectory(classifier, APGD(steps=50), Threat((400.0,), NORMS["l1"]), images)
    delta = trajectory["point"] - images
    assert (np.abs(delta).sum(axis=(2, 3, 4)) <= 400 * (1 + 1e-5)).all()
    assert trajectory["point"].min() >= 0
    assert trajectory["point"].max() <= 255
    size = np.prod(SHAPE)
    # arXiv:2103.01208: a fifth of all components at first; then the support of the best point / 1.5, every
    # 4 % of the steps.
    np.testing.assert_allclose(trajectory["dense"][1], 0.2 * size)
    support = (trajectory["best"] != images).sum(axis=(2, 3, 4))
    for k in range(2, 50, 2):
        np.testing.assert_allclose(trajectory["dense"][k + 1], np.maximum(support[k + 1] / 1.5, 1))
    length = trajectory["length"]
    assert length.max() == pytest.approx(400)
    assert length.min() >= 40 * (1 - 1e-6)
    fell = support[3] < 0.95 * size
    np.testing.assert_allclose(length[3][fell], 400)


def test_largest_keeps_the_requested_number():
    values = np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype("float32")
    counts = np.array([1, 7, 30, 90], "float32")
    kept = ops.convert_to_numpy(largest(values, counts))
    np.testing.assert_array_equal((kept != 0).sum(axis=(1, 2, 3)), counts)
    for row, count, own in zip(values, counts, kept, strict=True):
        least = np.sort(np.abs(row).ravel())[-int(count)]
        np.testing.assert_array_equal(own, np.where(np.abs(row) >= least, row, 0))
    nothing = ops.convert_to_numpy(largest(0 * values, counts))
    assert not nothing.any()


def many_classes(seed=0, classes=5):
    rng = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))
    weights = rng.normal(0, 0.01, (size, classes))
    images = rng.integers(60, 196, (4, *SHAPE)).astype(np.uint8)
    centre = images.reshape(4, -1).mean(0) @ weights
    return linear(weights, -centre, SHAPE), images


@pytest.mark.slow
@pytest.mark.parametrize("restart", [0, 1, 3, 4])
def test_apgd_t_targets_another_class_at_each_start(restart):
    classifier, images = many_classes()
    trajectory = Trajectory(classifier, APGDT(steps=6), Threat((2,)), images, restart)
    clean = ops.convert_to_numpy(classifier.logits(images.astype("float32")))
    order = np.argsort(-clean, axis=1)
    # The best class is the true one; after the last other class the order starts again.
    wanted = order[:, 1 + restart % 4]
    np.testing.assert_array_equal(trajectory["other"][1], wanted)
    np.testing.assert_array_equal(trajectory["other"][-1], wanted)
    # The first step only evaluates the model.
    np.testing.assert_array_equal(trajectory["point"][0], trajectory["point"][1])
    after = ops.convert_to_numpy(classifier.logits(trajectory["point"][-1]))
    rows = np.arange(4)
    before_gap = clean[rows, order[:, 0]] - clean[rows, wanted]
    after_gap = after[rows, order[:, 0]] - after[rows, wanted]
    assert (after_gap < before_gap).all()


def test_ranks_exclude_the_goal_class():
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]], "float32")
    aims = np.array([0, 0], np.int32)
    for rank, expected in [(0, [2, 1]), (1, [1, 2]), (2, [2, 1])]:
        got = ops.convert_to_numpy(ranked(logits, aims, np.full(2, rank, np.int32)))
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("goal", "classes", "targets", "said"),
    [
        (Untargeted(), 10, 9, ""),
        (Untargeted(), 5, 4, ""),
        (Untargeted(), 3, 2, "with 3 the margin"),
        (Untargeted(), 2, 1, "with 2 the margin"),
        (Targeted(1), 10, 1, ""),
    ],
)
def test_apgd_t_limits_targets_to_the_other_classes(goal, classes, targets, said):
    adapted, why = APGDT().adapted_to(goal, classes)
    assert adapted.restarts == targets
    assert said in why
    assert bool(why) == bool(said)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spread", "ods", "ods-spread"])
def test_output_diversified_steps_precede_the_first_checkpoint(start):
    classifier = small_cnn(8)
    images = np.random.default_rng(6).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    attack = APGD(steps=22, loss="margin", start=start, restarts=3)
    trajectory = Trajectory(classifier, attack, Threat((4,)), images, restart=1)
    opening = 0 if start == "spread" else 2
    # Nothing is kept from the diversification steps; the first evaluation after them counts as the first.
    assert (trajectory["best_loss"][opening] == HUGE).all()
    first = loss_and_gradient(classifier, trajectory["point"][opening], trajectory.labels)[0]
    np.testing.assert_allclose(trajectory["best_loss"][opening + 1], first, rtol=1e-4, atol=1e-4)
    assert (np.abs(trajectory["point"] - images) <= 4 + 1e-4).all()
    lengths = trajectory["length"]
    marks = [opening + m for m in checkpoints(22 - opening)]
    changed = np.nonzero((lengths[1:] != lengths[:-1]).any(axis=1))[0]
    assert set(changed.tolist()) <= set(marks)


def test_dlr_becomes_the_margin_with_two_classes_and_notes_it():
    adapted, why = APGD(loss="dlr").adapted_to(Untargeted(), 2)
    assert adapted == APGD(loss="margin")
    assert "DLR needs three classes" in why
    assert APGD(loss="dlr").adapted_to(Untargeted(), 3) == (APGD(loss="dlr"), "")
    logits = np.random.default_rng(0).normal(size=(9, 2)).astype("float32")
    labels = np.arange(9) % 2
    np.testing.assert_array_equal(losses.dlr(logits, labels), losses.margin(logits, labels))
