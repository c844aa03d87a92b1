"""Tests of the sample of images: a reproducible, balanced subset, not the first n."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.errors import SettingError
from robustness.images import Entry, select
from robustness.images.compact import CompactSource, Listing
from robustness.images.picture_index import Index
from robustness.images.selection import select_from

LABELLED = st.dictionaries(
    st.text(max_size=6), st.one_of(st.none(), st.integers(0, 3)), max_size=40
).map(lambda labels: [Entry(key, key, label) for key, label in labels.items()])
LIMITS = st.integers(1, 50)


@pytest.mark.slow
@given(LABELLED, LIMITS, st.integers(), st.randoms())
@settings(deadline=None)
def test_the_order_of_entries_does_not_matter(entries, limit, seed, random):
    shuffled = entries.copy()
    random.shuffle(shuffled)
    chosen = select(entries, limit=limit, seed=seed)
    assert chosen == select(shuffled, limit=limit, seed=seed)
    assert len(chosen) == min(limit, len(entries))
    assert len({entry.key for entry in chosen}) == len(chosen)
    assert set(chosen) <= set(entries)


def compact(entries: list[Entry]) -> CompactSource:
    """A source that lists pictures with these keys and labels."""
    index = Index()
    for number, entry in enumerate(entries):
        index.add(entry.key, 0, number, 1)
    labels = np.array([-1 if entry.label is None else entry.label for entry in entries], np.int64)
    return CompactSource(Listing("pictures", None, index, labels), [])


NAMES = (
    st.text(st.characters(codec="ascii"), max_size=4) | st.text(max_size=4) | st.just("a/ä/b.png")
)


@given(
    st.dictionaries(NAMES, st.none() | st.integers(0, 3), max_size=30),
    LIMITS | st.none(),
    st.integers(1, 5) | st.none(),
    st.integers(),
)
@settings(deadline=None)
def test_selecting_from_a_listing_selects_the_same_of_its_entries(labels, limit, per_class, seed):
    source = compact([Entry(key, key, label) for key, label in labels.items()])
    entries = source.entries()
    assert entries == [Entry(key, key.split("/")[-1], label) for key, label in labels.items()]
    options = {"limit": limit, "per_class": per_class, "seed": seed}
    assert select_from(source, **options) == select(entries, **options)
    some = {"only": lambda entry: entry.label != 1} | options
    assert select_from(source, **some) == select(entries, **some)


def test_entries_of_a_class_of_its_own_stay_what_they_are():
    class WithPlace(Entry):
        """Has attributes."""

    entries = [WithPlace("a", "a", 0), WithPlace("b", "b", 1), Entry("c", "c", 0)]
    chosen = select(entries)
    assert sorted(chosen) == entries
    assert {id(one) for one in chosen} == {id(one) for one in entries}


@given(LABELLED, LIMITS)
@settings(deadline=None)
def test_classes_are_balanced_as_far_as_they_last(entries, limit):
    available = Counter(entry.label for entry in entries)
    chosen = Counter(entry.label for entry in select(entries, limit=limit))
    most = max(chosen.values(), default=0)
    for label, count in available.items():
        assert chosen[label] >= min(count, most - 1)


@given(LABELLED, LIMITS, LIMITS)
@settings(deadline=None)
def test_a_smaller_limit_is_the_beginning_of_a_larger_one(entries, one, two):
    small, large = sorted((one, two))
    assert select(entries, limit=small) == select(entries, limit=large)[:small]


@given(LABELLED, st.integers(1, 5))
@settings(deadline=None)
def test_per_class_takes_the_given_number_of_each_class(entries, per_class):
    available = Counter(entry.label for entry in entries)
    chosen = Counter(entry.label for entry in select(entries, per_class=per_class))
    assert chosen == {label: min(n, per_class) for label, n in available.items()}


@given(LABELLED)
@settings(deadline=None)
def test_only_filters_before_counting(entries):
    chosen = select(entries, per_class=2, only=lambda entry: entry.label == 1)
    assert {entry.label for entry in chosen} <= {1}
    assert len(chosen) == min(2, sum(entry.label == 1 for entry in entries))


def test_without_limits_all_images_are_taken():
    entries = [Entry(str(n), str(n), n % 3) for n in range(30)]
    assert sorted(select(entries), key=lambda e: int(e.key)) == entries


def test_the_sample_is_not_the_first_n_and_follows_the_seed():
    entries = [Entry(f"{n:04}", "", None) for n in range(1000)]
    chosen = select(entries, limit=100)
    assert select(entries, limit=100, seed=1) != chosen
    mean = sum(int(entry.key) for entry in chosen) / 100
    assert (
        500 - 4 * 29 < mean < 500 + 4 * 29
    )  # 29 = 289 / sqrt(100), the standard deviation of the mean


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "3"])
@pytest.mark.parametrize("name", ["limit", "per_class"])
def test_an_invalid_limit_is_refused(name, bad):
    with pytest.raises(SettingError, match=f"`{name}` is .*expected a whole number above 0"):
        select([], **{name: bad})
