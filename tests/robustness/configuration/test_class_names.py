"""Class names of every make of file are read in the order of the outputs, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.configuration.class_names import (
    from_recorded_names,
    parse_class_names,
    read_class_names,
    recorded_names,
)
from robustness.errors import SettingError

TEACHABLE = Path("../shared/cases/models/teachable_machine.labels.txt")
PAIRS = {"0": ["n01440764", "tench"], "1": ["n02012849", "crane"], "2": ["n03126707", "crane"]}


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("labels.txt", "0 Cat\n1 Dog\n\n", ("Cat", "Dog")),
        ("labels.txt", "1 Dog\r\n0 Cat\r\n", ("Cat", "Dog")),
        ("labels.txt", "\ufeffcat\ndog", ("cat", "dog")),
        ("labels.txt", "1 euro\n2 euro", ("1 euro", "2 euro")),
        ("labels.txt", "0 euro\n1 euro", ("0 euro", "1 euro")),
        ("labels.txt", "3 cat\n1 dog", ("3 cat", "1 dog")),
        ("synsets.txt", "n01440764 tench, Tinca tinca\nn01443537 a", ("tench (n01440764)", "a (n01443537)")),
        ("x.json", '["a, b", "c"]', ("a, b", "c")),
        ("x.json", '{"dog": 1, "cat": 0}', ("cat", "dog")),
        ("x.json", '{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("x.json", '{"0": 0, "1": 1, "10": 2, "2": 3}', ("0", "1", "10", "2")),
        ("x.json", '{"0": "7", "1": "3"}', ("7", "3")),
        ("x.json", '{"id2label": {"0": "cat", "1": "dog"}, "hidden": 5}', ("cat", "dog")),
        ("x.json", json.dumps(PAIRS), ("tench (n01440764)", "crane (n02012849)", "crane (n03126707)")),
        ("signs.csv", "ClassId,SignName\n0,Stop\n1,\"Yield, now\"", ("Stop", "Yield, now")),
        ("signs.csv", "b,1\na,0", ("a", "b")),
    ],
)  # fmt: skip
def test_files_of_every_make(tmp_path, name, text, names):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / name) == names
    assert parse_class_names(str(tmp_path / name)) == names


def test_label_encoder_of_scikit_learn(tmp_path):
    np.save(tmp_path / "classes.npy", np.array(["cat", "dog"]))
    assert read_class_names(tmp_path / "classes.npy") == ("cat", "dog")
    np.save(tmp_path / "classes.npy", np.array(["cat", "dog"], object))
    with pytest.raises(SettingError, match="pickled objects"):
        read_class_names(tmp_path / "classes.npy")


@pytest.mark.skipif(not TEACHABLE.exists(), reason="needs the shared cases")
def test_teachable_machine():
    assert read_class_names(TEACHABLE) == ("Cat", "Dog")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", '{"cat": 0, "dog": 2}', "do not run from 0 to 1 .index 1 is missing"),
        ("x.json", '{"cat": 0, "dog": 0}', "missing or given twice"),
        ("x.json", '{"cat": "yes"}', "does not name classes"),
        ("x.json", "[[1, 2]]", "where the name of a class is expected"),
        ("x.json", "{", "cannot be read as JSON"),
        ("x.txt", "cat\ncat", "'cat' more than once"),
        ("x.txt", "", "names 0 classes"),
        ("x.pkl", "", "pickle, which runs code"),
        ("x.csv", "a,b\nc,d", "no list of classes"),
    ],
)
def test_other_files_are_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match=said):
        read_class_names(tmp_path / name)


def test_values_of_every_kind():
    assert parse_class_names("cat,dog") == ("cat", "dog")
    assert parse_class_names('["a, b", "c"]') == ("a, b", "c")
    assert parse_class_names({"dog": 1, "cat": 0}) == ("cat", "dog")
    assert parse_class_names({0: "cat", 1: "dog"}) == ("cat", "dog")
    assert parse_class_names(np.array(["cat", "dog"])) == ("cat", "dog")
    assert parse_class_names(None) is None and parse_class_names("") is None
    with pytest.raises(SettingError, match="cats cannot be read as class names"):
        parse_class_names("cats")


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True))
def test_names_survive_their_record(names):
    assert from_recorded_names(recorded_names(names)) == tuple(names)
