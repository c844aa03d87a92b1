"""Tests of the versions of Keras that the scan supports, and of Keras' module layout, which it relies on."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import keras
import pytest

from robustness.models.scan import keras_range
from robustness.models.scan.config_safety import CODE_LAYERS, LOOKUP_LAYERS, config_findings

ROOT = Path(__file__).parents[4]
REVIEWED = set(Path(__file__).with_name("reviewed_layers.txt").read_text("utf-8").split())
LAYERS = {name: kind for name, kind in vars(keras.layers).items() if inspect.isclass(kind)}


def test_every_layer_of_keras_was_reviewed():
    """When this fails, read each new layer: does it run code or read files of the model's author?

    If so, add it to `CODE_LAYERS`. Then add its name to reviewed_layers.txt, and raise `NEWEST_TESTED`.
    """
    assert set(LAYERS) - REVIEWED == set()


def test_layers_that_carry_code_keep_their_names():
    """A renamed layer would no longer be found by the scan."""
    assert set(CODE_LAYERS) | (LOOKUP_LAYERS - {"IndexLookup"}) <= set(LAYERS)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_modules_of_layers_are_where_the_scan_expects_them(name):
    kind = LAYERS[name]
    config = {"class_name": kind.__name__, "module": kind.__module__, "config": {}}
    assert bool(config_findings(config)) == (kind.__name__ in CODE_LAYERS)


def test_the_installed_keras_is_within_the_tested_range():
    """When this fails, run all tests with the new Keras, then raise `NEWEST_TESTED`."""
    assert keras_range.notes(keras_range.installed()) == ()
    assert keras_range.installed() == keras.__version__


def test_the_requirement_states_the_same_bounds():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "dependencies"
    ]
    (found,) = [text for text in dependencies if text.startswith("keras")]
    oldest, newest = re.findall(r"[\d.]+", found)
    assert tuple(map(int, oldest.split("."))) == keras_range.OLDEST_SAFE
    assert int(newest) == keras_range.NEWEST_TESTED[0] + 1


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("3.15.1", None),
        ("3.15.9", None),
        ("3.15.0", "known holes.*upgrade to 3.15.1 or later"),
        ("3.9.2", "known holes"),
        ("3.16.0", "newer than the versions this scan was tested with.*'keras<3.16'"),
        ("3.16.0.dev2026", "newer than"),
        ("4.0", "newer than"),
        (None, "not installed"),
    ],
)
def test_only_versions_outside_the_range_have_a_note(version, words):
    found = keras_range.notes(version)
    assert len(found) == (words is not None)
    assert words is None or re.search(words, found[0])
