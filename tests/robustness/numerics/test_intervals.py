"""Wilson's interval against SciPy and by hand."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binomtest

from robustness.reports import Share, wilson


@pytest.mark.parametrize("n", [1, 2, 7, 20, 126, 1000])
def test_equals_scipy(n: int) -> None:
    for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        expected = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
        found = wilson(k, n)
        assert found is not None
        assert math.isclose(found[0], expected.low, rel_tol=1e-9, abs_tol=1e-12)
        assert math.isclose(found[1], expected.high, rel_tol=1e-9, abs_tol=1e-12)


def test_known_intervals() -> None:
    low, high = wilson(0, 20) or (-1, -1)
    assert (low, round(high, 3)) == (0, 0.161)
    low, high = wilson(126, 126) or (-1, -1)
    assert (round(low, 3), high) == (0.970, 1)


def test_nothing_counted_has_no_interval() -> None:
    assert wilson(0, 0) is None
    assert Share.of(0, 0) == Share(0, 0, None, None, None)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (1, 0)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson(k, n)
