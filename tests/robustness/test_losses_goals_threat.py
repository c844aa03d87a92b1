"""Losses against numpy, goals, threats and budgets as people write them."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops
from scipy import special

from robustness import goals, losses
from robustness.errors import SettingError
from robustness.threat import Threat
from robustness.units import parse_epsilon, parse_epsilons

LOGITS = np.array([[2.0, -1.0, 0.5], [90.0, 3.0, -40.0], [0.0, 0.0, 0.0]], "float32")
CLASSES = np.array([0, 2, 1])


def test_cross_entropy_is_minus_the_log_probability():
    expected = -special.log_softmax(LOGITS.astype("float64"), axis=1)[np.arange(3), CLASSES]
    got = ops.convert_to_numpy(losses.cross_entropy(LOGITS, CLASSES))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_margin_is_the_lead_of_the_best_other_class():
    got = ops.convert_to_numpy(losses.margin(LOGITS, CLASSES))
    np.testing.assert_allclose(got, [-1.5, 130.0, 0.0])


def test_goals_own_sign_and_predicate():
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
def test_targets_are_named_or_numbered(text, goal):
    assert goals.parse(text, ("cat", "dog")) == goal


@pytest.mark.parametrize("text", ["cow", "2", "-1"])
def test_unknown_targets_name_the_classes(text):
    with pytest.raises(SettingError, match="cat, dog"):
        goals.parse(text, ("cat", "dog"))


@pytest.mark.parametrize(
    ("text", "counts"), [(4, 4.0), ("4", 4.0), ("4/255", 4.0), (" 8 / 255", 8.0), (1.5, 1.5)]
)
def test_budgets_are_counts(text, counts):
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
def test_budgets_that_cannot_be_say_why(text, said):
    with pytest.raises(SettingError, match=said):
        parse_epsilon(text)


def test_a_threat_sorts_its_ladder_and_wants_one():
    assert Threat(parse_epsilons("4, 1,2,4")).epsilons == (1.0, 2.0, 4.0)
    with pytest.raises(SettingError, match="No epsilon"):
        Threat(())
