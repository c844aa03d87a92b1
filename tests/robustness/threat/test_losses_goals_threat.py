"""Tests of losses against NumPy, of goals, threats and parsed budgets."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops
from scipy import special

from robustness.configuration.epsilons import parse_epsilon, parse_epsilons
from robustness.errors import SettingError
from robustness.numerics import losses
from robustness.threat import goals
from robustness.threat.threat import Threat

LOGITS = np.array([[2.0, -1.0, 0.5], [90.0, 3.0, -40.0], [0.0, 0.0, 0.0]], "float32")
CLASSES = np.array([0, 2, 1])


def test_cross_entropy_is_minus_the_log_probability():
    expected = -special.log_softmax(LOGITS.astype("float64"), axis=1)[np.arange(3), CLASSES]
    got = ops.convert_to_numpy(losses.cross_entropy(LOGITS, CLASSES))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_margin_is_the_lead_of_the_best_other_class():
    got = ops.convert_to_numpy(losses.margin(LOGITS, CLASSES))
    np.testing.assert_allclose(got, [-1.5, 130.0, 0.0])


def ratio(z, label):
    """Croce & Hein 2020, eq. 6, for one row."""
    ordered = np.sort(z)[::-1]
    return -(z[label] - np.delete(z, label).max()) / (ordered[0] - ordered[2])


def targeted_ratio(z, label, target):
    """Eq. 7, for one row."""
    ordered = np.sort(z)[::-1]
    return -(z[label] - z[target]) / (ordered[0] - (ordered[2] + ordered[3]) / 2)


def test_dlr_matches_the_paper_and_ignores_scale_and_shift():
    z = np.random.default_rng(1).normal(size=(20, 6)).astype("float32")
    labels, targets = np.arange(20) % 6, (np.arange(20) + 2) % 6
    expected = [ratio(row.astype("float64"), y) for row, y in zip(z, labels, strict=True)]
    got = ops.convert_to_numpy(losses.dlr(z, labels))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_allclose(losses.dlr(50 * z + 3, labels), got, rtol=1e-3, atol=1e-4)
    # Minimised here, maximised in the paper: the sign is opposite.
    expected = [
        -targeted_ratio(row.astype("float64"), y, t)
        for row, y, t in zip(z, labels, targets, strict=True)
    ]
    got = ops.convert_to_numpy(losses.toward(z, labels, targets))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses.toward(9 * z - 7, labels, targets), got, rtol=1e-3, atol=1e-4)


def test_with_few_classes_dlr_has_no_divisor():
    z = np.array([[4.0, 1.0, -1.0]], "float32")
    label, target = np.array([0]), np.array([1])
    np.testing.assert_allclose(losses.toward(z, label, target), [3.0])
    np.testing.assert_allclose(losses.dlr(z, label), [-3 / 5], rtol=1e-6)
    np.testing.assert_allclose(losses.toward(z[:, :2], label, target), [3.0])
    np.testing.assert_allclose(losses.dlr(z[:, :2], label), losses.margin(z[:, :2], label))
    assert losses.stand_in("dlr", 2)[0] == "margin"
    assert losses.stand_in("dlr", 3) == ("dlr", "")
    assert losses.stand_in("cross_entropy", 2) == ("cross_entropy", "")
    assert losses.toward_says(4) == ""
    assert "with 3 the margin" in losses.toward_says(3)
    assert "with 2 the margin" in losses.toward_says(2)


def test_goals_give_source_and_target_classes():
    aims, others = np.array([0, 1]), np.array([2, 2])
    leave, reach = goals.Untargeted().route(aims, others)
    np.testing.assert_array_equal((leave, reach), (aims, others))
    leave, reach = goals.Targeted(1).route(aims, others)
    np.testing.assert_array_equal((leave, reach), (others, aims))
    assert goals.Untargeted().destinations(10) == 9
    assert goals.Targeted(3).destinations(10) == 1


def test_goals_define_sign_and_predicate():
    away, to = goals.Untargeted(), goals.Targeted(2)
    np.testing.assert_array_equal(away.aims(CLASSES), CLASSES)
    np.testing.assert_array_equal(to.aims(CLASSES), [2, 2, 2])
    plain = ops.convert_to_numpy(losses.cross_entropy(LOGITS, CLASSES))
    np.testing.assert_allclose(away.loss(losses.cross_entropy, LOGITS, CLASSES), -plain)
    np.testing.assert_allclose(to.loss(losses.cross_entropy, LOGITS, CLASSES), plain)
    predicted = np.array([0, 0, 2])
    np.testing.assert_array_equal(away.reached(predicted, CLASSES), [False, True, True])
    np.testing.assert_array_equal(to.reached(predicted, np.array([2, 2, 2])), [False, False, True])
    assert not to.concerns(2)
    assert to.concerns(1)


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        (None, goals.Untargeted()),
        ("dog", goals.Targeted(1)),
        ("0", goals.Targeted(0)),
        (1, goals.Targeted(1)),
    ],
)
def test_targets_are_names_or_numbers(text, goal):
    assert goals.parse(text, ("cat", "dog")) == goal


def test_capital_letters_do_not_matter_where_one_class_fits():
    assert goals.parse("Dog", ("cat", "dog")) == goals.Targeted(1)
    assert goals.parse("Dog", ("dog", "Dog")) == goals.Targeted(1)
    with pytest.raises(SettingError, match="dog, Dog"):
        goals.parse("DOG", ("dog", "Dog"))


@pytest.mark.parametrize("text", ["cow", "2", "-1"])
def test_unknown_targets_are_refused_with_the_classes(text):
    with pytest.raises(SettingError, match="cat, dog"):
        goals.parse(text, ("cat", "dog"))


@pytest.mark.parametrize(
    ("text", "counts"), [(4, 4.0), ("4", 4.0), ("4/255", 4.0), (" 8 / 255", 8.0), (1.5, 1.5)]
)
def test_budgets_are_parsed_to_counts(text, counts):
    assert parse_epsilon(text) == counts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (0.5, "below 1 count"),
        (0.031, "write 8"),
        ("four", "not a budget"),
        ("4/256", "not a budget"),
        ("nan", "not a budget"),
        (-3, "below 1"),
        ("inf", "not a budget"),
    ],
)
def test_invalid_budgets_are_refused(text, said):
    with pytest.raises(SettingError, match=said):
        parse_epsilon(text)


def test_a_threat_sorts_its_ladder_and_needs_one():
    assert Threat(parse_epsilons("4, 1,2,4")).epsilons == (1.0, 2.0, 4.0)
    with pytest.raises(SettingError, match="No epsilon"):
        Threat(())
