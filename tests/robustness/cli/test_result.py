"""Tests of the lines below the table: what was not read, converted or is absent, with counts."""

from __future__ import annotations

import pandas as pd

from robustness.cli.result import absent_classes, conversions, selected
from robustness.runs.schema import Data


def test_conversions_are_counted_by_kind_whatever_the_size():
    notes = [
        "",
        "resized from 10x20, aspect not kept",
        "resized from 30x20, aspect not kept",
        "resized from 30x30",
        "CMYK converted to RGB; resized from 40x40",
    ]
    assert conversions(notes) == ("2 resized, aspect not kept; 2 resized; 1 CMYK converted to RGB")
    assert conversions(["", ""]) == ""


def test_classes_without_images_are_named_with_their_number():
    names = [f"class {n}" for n in range(1000)]
    assert absent_classes(names, pd.Series([0.0, 1.0, None])) == (
        "no images of 998 of 1,000 classes (class 2, class 3, class 4, ...)"
    )
    assert absent_classes(["cat", "dog"], pd.Series([0, 1])) == ""
    assert absent_classes(["cat", "dog"], pd.Series([1, 1])) == "no images of 1 of 2 classes (cat)"
    # Images of the target class are left out by the audit itself.
    assert absent_classes(["cat", "dog"], pd.Series([1, 1]), target=0) == ""
    assert absent_classes(["cat", "dog", "emu"], pd.Series([1, 1]), target=0) == (
        "no images of 1 of 2 classes other than the target (emu)"
    )
    assert absent_classes(["cat", "dog"], pd.Series([None, None], dtype=float)) == ""


def test_a_limit_is_told_with_both_counts():
    assert selected(Data(selected=20, available=1200)) == "; 20 of 1,200 selected"
    for whole in (Data(selected=20, available=20), Data(selected=20), Data()):
        assert selected(whole) == ""
