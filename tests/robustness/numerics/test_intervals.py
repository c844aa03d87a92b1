"""Tests of Wilson's interval against SciPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from robustness.numerics.intervals import Share, beats_chance, clearly_better, wilson_interval


@pytest.mark.parametrize("n", [1, 2, 7, 20, 126, 1000])
def test_wilson_intervals_match_scipy(n: int) -> None:
    for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        expected = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
        found = wilson_interval(k, n)
        assert math.isclose(found[0], expected.low, rel_tol=1e-9, abs_tol=1e-12)
        assert math.isclose(found[1], expected.high, rel_tol=1e-9, abs_tol=1e-12)


def test_known_intervals() -> None:
    low, high = wilson_interval(0, 20)
    assert (low, round(high, 3)) == (0, 0.161)
    low, high = wilson_interval(126, 126)
    assert (round(low, 3), high) == (0.970, 1)


def test_a_total_of_zero_has_no_interval() -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson_interval(0, 0)
    assert Share.of(0, 0) == Share(0, 0, None, None, None)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (1, 0)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson_interval(k, n)
    with pytest.raises(ValueError, match="is no share"):
        Share.of(k, n)


def test_an_accuracy_beats_chance_by_two_standard_errors() -> None:
    # A coin on 100 images: the standard error is 0.05.
    assert not beats_chance(0.60, 100, 2)
    assert beats_chance(0.601, 100, 2)


def test_a_sign_test_uses_only_differing_images() -> None:
    alike = np.ones(1000, bool)
    wins, losses = np.arange(10) < 9, np.arange(10) >= 9
    # 9 to 1: the difference of 8 is above two standard errors, 2 sqrt(10).
    assert clearly_better(np.append(wins, alike), np.append(losses, alike))
    assert not clearly_better(np.append(losses, alike), np.append(wins, alike))
    assert not clearly_better(wins[5:], losses[5:])
