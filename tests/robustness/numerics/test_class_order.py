"""The best order of classes is the best of all, and fits nothing by chance."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustness.numerics.class_order import best_order, held_out_hits


@given(st.integers(2, 4), st.data())
def test_no_permutation_is_better(classes, data):
    pairs = st.lists(
        st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1
    )
    predicted, labels = map(np.array, zip(*data.draw(pairs), strict=True))
    order = best_order(predicted, labels, classes)
    assert sorted(order) == list(range(classes))
    most = max(int(np.sum(np.array(p)[labels] == predicted)) for p in permutations(range(classes)))
    assert int(np.sum(order[labels] == predicted)) == most


def test_labels_that_are_right_stay_where_they_are():
    labels = np.array([0, 1, 3, 3])
    assert best_order(labels, labels, 5).tolist() == [0, 1, 2, 3, 4]


def test_an_order_is_found_on_other_images_only():
    rng = np.random.default_rng(0)
    labels = np.arange(86) % 43
    order = rng.permutation(43)
    assert held_out_hits(order[labels], labels, 43).all()
    # Guesses: the best order of the same images fits half of them, that of the others almost none.
    guesses = rng.integers(0, 43, 86)
    fitted = np.mean(best_order(guesses, labels, 43)[labels] == guesses)
    assert fitted > 0.4 and held_out_hits(guesses, labels, 43).mean() < 0.1


def test_many_classes_take_little_memory():
    labels = np.arange(60) * 300
    order = best_order(labels[::-1], labels, 20_000)
    assert order[labels].tolist() == labels[::-1].tolist()
    assert np.array_equal(np.sort(order), np.arange(20_000))
