"""Tests that any content of a run folder is read or refused with one sentence, never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.errors import RunError
from robustness.runs.run_json import MOST_DEPTH, loaded, manifest_of
from robustness.runs.schema import SCHEMA
from robustness.runs.store import Run
from tests.fuzz import fuzz_run_folder as fuzz


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return fuzz.sound(tmp_path_factory.mktemp("good") / "run")


@pytest.mark.slow
def test_the_good_run_is_read_in_every_way(good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "run")
    for name, read in fuzz.readings(folder, good).items():
        if name == "rerun":
            # It names a model and pictures, and this user has not started it.
            with pytest.raises(ValueError, match="are not loaded"):
                read()
        elif name == "resume":
            # Its tables are built by hand and differ from those of an audit.
            with pytest.raises(RunError, match="defined differently"):
                read()
        else:
            read()
    fuzz.verified(folder)


@pytest.mark.slow
@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_damaged_runs_are_refused(good, seed):
    done, found = fuzz.one(seed, good, verify=True)
    assert not found, (done, found[0])


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_manifest_is_valid_or_refused(data):
    whole = fuzz.full_manifest()
    path = data.draw(st.sampled_from(list(fuzz.places(whole))[1:]))
    odd = data.draw(
        st.sampled_from(fuzz.ODD)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        )
    )
    text = json.dumps(fuzz.altered(whole, path, odd)).encode("utf-8", "replace")
    try:
        read = manifest_of(text, "run.json")
    except RunError as error:
        assert "run.json" in str(error) and "\n" not in str(error)
        return
    # A valid manifest can be written again.
    json.dumps(read.to_json(), allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("path", "odd", "said"),
    [
        (("config", "epsilons", 1), "two", 'config.epsilons[1] is "two"; expected a number'),
        (("config", "epsilons", 0), -1, "config.epsilons[0] is -1"),
        (("config",), [], "config is a list of 0; expected a table"),
        (("config", "attacks", 0), None, "config.attacks[0] is null; expected a table"),
        (("model", "input_shape"), [16, 16], "model.input_shape is a list of 2"),
        (("model", "input_shape", 0), 10**9, "model.input_shape[0] is 1000000000"),
        (("config", "slots"), 10**9, "config.slots is 1000000000"),
        (("finished",), True, "finished is true; expected a string"),
        (("timing", "seconds"), "long", 'timing.seconds is "long"; expected a number'),
        (("class_names", 0), {}, "class_names[0] is a table of 0; expected a string"),
        (("origin", "options", "attack"), "pgd", "origin.options.attack is"),
        (("gate", "rules", 0, "metric"), "luck", 'gate.rules[0].metric is "luck"'),
        (("config", "evidence"), "²", "config.evidence is"),
        (("config", "mask", "sha256"), "../../x", "config.mask.sha256 is"),
    ],
)
def test_errors_name_value_and_expectation(path, odd, said):
    text = json.dumps(fuzz.altered(fuzz.full_manifest(), path, odd)).encode()
    with pytest.raises(RunError) as told:
        manifest_of(text, "run.json")
    assert said in str(told.value)


def test_runs_of_earlier_versions_are_read():
    """Any part may be missing, and unknown parts may be present."""
    whole = fuzz.full_manifest()
    assert manifest_of(b'{"schema": 1}', "run.json").to_json() == {"schema": SCHEMA}
    whole.pop("budgets")
    needed = ("rules", "suppressions", "baseline", "worst", "attacks", "expires")
    for path in list(fuzz.places(whole))[1:]:
        if (
            path == ("schema",)
            or "gate" in path
            or path[-1] in needed
            or "input_shape" in path[:-1]
        ):
            continue
        manifest_of(json.dumps(fuzz.altered(whole, path, 0, gone=True)).encode(), "r")
    whole |= {"later": {"x": [1]}, "gate": {}}
    whole["config"]["later"] = [None]
    read = manifest_of(json.dumps(whole).encode(), "r").to_json()
    assert read["config"].pop("goal") == {"target": None, "class_name": None}
    whole["config"].pop("goal")
    assert read == json.loads(json.dumps(whole)) | {"schema": SCHEMA}


@pytest.mark.slow
@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 3000, 1_000_000])
def test_nesting_is_limited_before_parsing(depth):
    for text in (b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth):
        with pytest.raises(RunError, match="nested"):
            loaded(text, "run.json")
    shown = json.dumps("[" * depth).encode()
    assert loaded(shown, "run.json") == "[" * depth


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_non_finite_numbers_become_none(text):
    assert loaded(f'{{"x": [{text}, 1.5]}}'.encode(), "run.json") == {"x": [None, 1.5]}


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 30, "-" + "9" * 400])
def test_too_large_integers_are_refused(text):
    with pytest.raises(RunError, match="damaged"):
        loaded(f'{{"x": {text}}}'.encode(), "run.json")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE outcomes SET epsilon = 'four'", "outcomes: epsilon of row 1 is 'four'"),
        ("UPDATE outcomes SET l2 = x'00ff'", "l2 of row 1 is 2 bytes; expected a number"),
        ("UPDATE outcomes SET step = 2.5", "step of row 1 is 2.5; expected a whole number"),
        ("UPDATE outcomes SET forward = -3", "forward of row 1 is -3"),
        ("UPDATE outcomes SET l1 = 9e999", "l1 of row 1 is inf"),
        ("UPDATE outcomes SET status = NULL", "status of row 1 is empty; expected text"),
        ("UPDATE outcomes SET status = 7", "status of row 1 is 7; expected text"),
        ("UPDATE images SET position = 'x'", "images: position of row 1 is 'x'"),
        ("UPDATE images SET key = 'same'", "images has two rows with the same key"),
        ("UPDATE images SET label = 1e300", "label of row 1"),
        ("UPDATE strips SET step = x'01'", "strips: step of row 1"),
    ],
)
def test_a_cell_of_another_kind_is_named(good, tmp_path, statement, said):
    import sqlite3

    folder = shutil.copytree(good, tmp_path / "run")
    database = sqlite3.connect(folder / "run.sqlite")
    database.execute(statement)
    database.commit()
    database.close()
    with Run.open(folder) as run, pytest.raises(RunError) as told:
        run.images(), run.outcomes(), run.strips()
    assert said in str(told.value)


def test_the_fuzzer_detects_foreign_exceptions(good, tmp_path, monkeypatch):
    """A fuzzer that cannot fail would find nothing."""
    folder = shutil.copytree(good, tmp_path / "run")

    def broken(self: Run) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(Run, "images", broken)
    assert any("KeyError" in text for text in fuzz.faults(folder, good))
    assert fuzz.break_manifest(folder, random.Random(1))
