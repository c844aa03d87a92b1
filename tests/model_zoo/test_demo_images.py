"""Tests of the demonstration images: `pets:N` has exactly N images, balanced by class."""

from __future__ import annotations

from collections import Counter

import pytest

from robustness.errors import SettingError
from robustness.model_zoo.dogs_vs_cats.demo import CHELSEA, COUNT, pets_from


@pytest.mark.parametrize("count", [1, 2, 7, 8, 64])
def test_pets_with_a_number_have_exactly_that_number_of_images(count):
    source = pets_from(f"pets:{count}")
    assert source is not None
    entries = source.entries()
    assert len({entry.key for entry in entries}) == len(entries) == count
    assert entries[0].key == CHELSEA
    classes = Counter(entry.label for entry in entries)
    assert abs(classes[0] - classes[1]) <= 1
    rendered = f" and {count - 1} rendered" if count > 1 else ""
    assert source.description.partition(" cats")[0] == f"one photograph (Chelsea){rendered}"


def test_every_number_draws_the_same_images_first():
    few, many = pets_from("pets:8"), pets_from("pets:64")
    assert few is not None and many is not None
    assert many.entries()[:8] == few.entries()
    assert {entry.name[:3] for entry in few.entries() if entry.label == 1} == {"dog"}


def test_pets_alone_are_the_photograph_and_all_renderings_of_the_readme():
    source = pets_from("pets")
    assert source is not None and len(source.entries()) == 1 + COUNT == 129


def test_other_names_are_not_pets_and_numbers_have_limits():
    assert pets_from("pets:") is None and pets_from("photos") is None
    for count in (0, 1_000_001):
        with pytest.raises(SettingError, match=f"pets:{count} is not .*expected 1 to 1000000"):
            pets_from(f"pets:{count}")
