"""Tests of bracketing: the search for the smallest number with a property."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.optimization.bracketing import Bracket

NEAR = 1.01
NEARLY = NEAR * (1 + 1e-6)


def searched(least: float, guess: float, top: float, power: int = 1, less: float = 1.0):
    """Search where all numbers from `least` on have the property; return the result and the numbers tested.

    `less`: the number found is this share of the one tested, but still has the property.
    """
    search = Bracket(guess, guess / 2, top, near=NEAR, power=power)
    found, asked = math.inf, []
    while True:
        told = [max(ask * less, least) if ask >= least else None for ask in search.asks]
        assert list(search.asks) == sorted(set(search.asks)) and len(search.asks) in (1, 2)
        found = min([found, *(x for x in told if x is not None)])
        asked.append(list(search.asks))
        if not search.hear(told):
            return found, asked


lengths = st.integers(10_000, 100_000)


@given(guess=lengths, off=st.floats(0.51, 40), less=st.floats(0.97, 1.0))
def test_the_smallest_number_is_found_within_one_percent(guess, off, less):
    least = math.ceil(guess * off)
    found, asked = searched(least, guess, 10**10, less=less)
    assert least <= found <= NEARLY * least
    assert len(asked) <= 13


@given(guess=st.integers(1, 60_000), least=st.integers(1, 60_000), power=st.integers(1, 2))
def test_among_few_integers_the_smallest_is_found_exactly(guess, least, power):
    guess, least = guess ** (1 / power), least ** (1 / power)
    found, asked = searched(least, guess, 65_536, power)
    numbers = [ask**power for asks in asked for ask in asks]
    assert numbers == pytest.approx([round(x) for x in numbers], rel=1e-9)
    assert len(set(numbers)) == len(numbers)
    if 2 * least > guess:
        assert least <= found <= NEARLY * least
        few = least**power * (NEAR**power - 1) < 1
        assert found == least or not few
    else:
        assert found <= max(
            NEARLY * guess / 2, (math.floor((guess / 2) ** power + 1e-9) + 1) ** (1 / power)
        )
    assert len(asked) <= 16


@given(guess=lengths, beyond=st.floats(1.001, 100))
def test_numbers_beyond_the_limit_are_not_tested(guess, beyond):
    found, asked = searched(guess * beyond, guess, guess)
    assert found == math.inf
    assert asked == [[guess]]


@given(guess=lengths, share=st.floats(1e-4, 0.99))
def test_a_good_guess_needs_one_round(guess, share):
    _, asked = searched(math.ceil(guess * (1 + share * (NEAR - 1))), guess, 10**10)
    assert len(asked) == 1


@pytest.mark.parametrize("power", [1, 2])
def test_a_limit_below_the_first_number_ends_the_search(power):
    found, asked = searched(1.0, 5.0, 0.3, power)
    assert found == math.inf and len(asked) == 1


@given(guess=lengths, share=st.floats(0.01, 0.9))
def test_a_number_far_below_the_guess_is_found(guess, share):
    least = math.ceil(share * guess)
    search, found = Bracket(guess, 0.9 * least, 10**10, near=NEAR, power=1), math.inf
    going = True
    while going:
        told = [ask if ask >= least else None for ask in search.asks]
        found = min([found, *(x for x in told if x is not None)])
        going = search.hear(told)
    assert least <= found <= NEARLY * least


def test_contradicting_answers_are_tolerated():
    search = Bracket(100_000.0, 50_000.0, 1e7, near=NEAR, power=1)
    first, second = search.asks
    # The number found is below a number without the property.
    assert search.hear([None, 0.9 * first])
    assert all(50_000 < ask < 90_000 for ask in search.asks)
    assert second == pytest.approx(NEAR * first)
