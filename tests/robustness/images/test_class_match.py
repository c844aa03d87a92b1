"""Folders are matched with classes by name, never by position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robustness.errors import ImagesError
from robustness.images import open_source
from robustness.images.class_match import match_names, number_orders
from robustness.images.labels import class_table

NAMES = ["cat", "dog", "Great White Shark", "tench (n01440764)", "crane (n02012849)", "crane (n03126707)",
         "bus", "Speed limit (20km/h)", "butterfly", "001.Black_footed_Albatross", "\u00fcber"]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "index", "how"),
    [
        ("cat", 0, "name"),
        ("CAT", 0, "name"),
        ("u\u0308ber", 10, "name"),
        ("tench", 3, "name"),
        ("n01440764", 3, "synset"),
        ("n03126707", 5, "synset"),
        ("great_white-shark", 2, "spelling"),
        ("speed_limit_20kmh", 7, "spelling"),
        ("0 Cat", 0, "spelling"),
        ("Black footed albatross", 9, "spelling"),
        ("speed limit", 7, "part of the name"),
        ("dogs", 1, "plural"),
        ("buses", 6, "plural"),
        ("butterflies", 8, "plural"),
        ("crane", None, r"could be crane (n02012849) or crane (n03126707)"),
        ("fish", None, "none of the classes"),
        ("ca", None, "none of the classes"),
    ],
)
def test_names_are_matched_where_they_are_the_same(found, index, how):
    assert match_names([found], NAMES)[found] == (index, how)


WORD = st.text("abc _-sS012", min_size=1, max_size=5)


@given(st.lists(WORD, min_size=1, max_size=6, unique=True))
def test_every_name_matches_itself_first(names):
    for number, name in enumerate(names):
        assert match_names([name], names)[name] == (number, "name")


@given(st.lists(WORD, min_size=1, max_size=5, unique=True), st.randoms())
def test_the_order_of_the_names_does_not_matter(names, random):
    shuffled = random.sample(names, len(names))
    found = match_names(["cats", "ab", "1", *names], names)
    again = match_names(["cats", "ab", "1", *names], shuffled)
    for one, (index, _) in found.items():
        other = again[one][0]
        assert (None if index is None else names[index]) == (
            None if other is None else shuffled[other]
        )


def test_numbers_of_folders_have_every_order_they_can_mean():
    text = ["0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9"]
    numbers = [str(n) for n in range(12)]
    assert number_orders(text, 12) == [tuple(text), tuple(numbers)]
    assert number_orders(["0", "1", "2"], 3) == [("0", "1", "2")]
    few = number_orders(["2", "11"], 12)
    assert few == [tuple(numbers), tuple(text), *(
        tuple(order) for order in (map(str, range(1, 13)), sorted(map(str, range(1, 13))))
    )]  # fmt: skip
    assert number_orders(["0", "11"], 12) == [tuple(numbers), tuple(text)]
    assert number_orders(["00", "11"], 12) == [tuple(f"{n:02}" for n in range(12))]
    for none in (["a", "1"], ["1", "01"], ["12", "0"]):
        assert number_orders(none, 12) == []


def test_a_table_tells_what_is_left_out_and_what_is_absent():
    table = class_table(
        {"dogs": 3, "birds": 2, "Cat": 1}, ["cat", "dog", "fish"], "They were given."
    )
    assert [(row.found, row.index) for row in table.rows] == [
        ("Cat", 0),
        ("dogs", 1),
        ("birds", None),
    ]
    assert table.doubtful and not class_table({"cat": 1}, ["cat", "dog"]).doubtful
    text = table.text()
    assert "birds (2 images)" in text and "1 of 3 classes without images (fish)" in text
    assert [line.split() for line in text.splitlines()[1:4]] == [
        ["Cat", "1", "0", "cat", "name"], ["dogs", "3", "1", "dog", "plural"],
        ["birds", "2", "-", "left", "out", "none", "of", "the", "classes"],
    ]  # fmt: skip


def test_numbers_are_the_classes_of_these_numbers_where_names_are_given():
    table = class_table({"2": 1, "0": 1}, ["cat", "dog", "fish"])
    assert [(row.found, row.name, row.how) for row in table.rows] == [
        ("0", "cat", "number"), ("2", "fish", "number"),
    ]  # fmt: skip
    with pytest.raises(ImagesError, match="count from 1"):
        class_table({"1": 1, "2": 1, "3": 1}, ["cat", "dog", "fish"])


def test_a_folder_around_folders_of_classes_is_no_class(tmp_path):
    for name in ("dogs/beagle/a.png", "dogs/pug/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    source = open_source(tmp_path, ["dog", "beagle", "pug"])
    assert {e.key: e.label for e in source.entries()} == {
        "dogs/beagle/a.png": 1,
        "dogs/pug/a.png": 2,
    }


def test_words_of_a_list_are_matched_like_folders_if_all_are(tmp_path):
    for n in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{n}.png")
    (tmp_path / "list.csv").write_text("path,label\n0.png,Dogs\n1.png,great_white_shark\n2.png,\n")
    assert [e.label for e in open_source(tmp_path / "list.csv", NAMES).entries()] == [1, 2, None]
    (tmp_path / "list.csv").write_text("path,label\n0.png,Dogs\n1.png,whale\n2.png,\n")
    with pytest.raises(ImagesError, match="is not a class"):
        open_source(tmp_path / "list.csv", NAMES)
