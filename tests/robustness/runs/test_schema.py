"""Tests of the typed manifest: every older format is read, and written manifests can be read back."""

from __future__ import annotations

import copy
import json
import sqlite3
from typing import Any

import pytest

from robustness.errors import RunError, RunUsageError, SettingError
from robustness.runs import json_schema, run_folder
from robustness.runs.run_json import manifest_of, new_text_of, recorded, summary_of, text_of
from robustness.runs.schema import (
    SCHEMA,
    GoalEntry,
    Manifest,
    ModelEntry,
    Options,
    Origin,
    Settings,
)
from robustness.runs.store import Run
from tests.fuzz import fuzz_run_folder as fuzz

FIRST: dict[str, Any] = {
    "schema": 1,
    "tool": {"name": "robustness-toolkit", "version": "0.1.0"},
    "created": "2026-11-20T04:00:00+00:00",
    "finished": "2026-11-20T04:01:00+00:00",
    "config": {
        "attacks": [{"name": "bim", "label": "bim(steps=4)", "parameters": {"steps": 4}}],
        "norm": "linf",
        "epsilons": [4],
        "goal": "targeted at dog",
        "seed": 0,
    },
    "model": {"name": "pets", "input_shape": [16, 16, 3], "weights_sha256": "cd" * 32},
    "data": {"description": "folder photos", "selected": 1, "seed": 0},
    "class_names": ["cat", "dog"],
}
"""A run of the first version: no surrogate, mask, draws, budgets, origin, gate or diagnostics."""
OLDER: dict[str, dict[str, Any]] = {
    "first": FIRST,
    "with nulls": FIRST
    | {"origin": None, "surrogate": None, "gate": None, "config": FIRST["config"] | {"mask": None}},
    "full": fuzz.full_manifest()
    | {"config": fuzz.full_manifest()["config"] | {"goal": "targeted at dog"}},
}


def read(plain: dict[str, Any]) -> Manifest:
    return manifest_of(json.dumps(plain).encode(), "run.json")


@pytest.mark.parametrize("shape", OLDER)
def test_every_older_format_is_read(shape):
    manifest = read(OLDER[shape])
    assert manifest.schema_ == SCHEMA
    assert manifest.config.goal == GoalEntry(target=1, class_name="dog")
    assert manifest.config.aim == "targeted at dog"
    assert manifest.model.input_shape == (16, 16, 3)
    assert manifest.class_names == ("cat", "dog")
    again = manifest_of(text_of(manifest), "run.json")
    assert again.to_json() == manifest.to_json()
    report = {"summary": {"manifest": OLDER[shape], "attacks": [], "worst": [], "results": []}}
    assert summary_of(json.dumps(report).encode(), "report.json").manifest == manifest


def test_parts_missing_in_the_first_version_have_defaults():
    manifest = read(FIRST)
    assert manifest.config.draws == 1 and manifest.config.precision == "float32"
    assert manifest.config.evidence == "flips" and not manifest.config.cascade
    assert manifest.surrogate is None and not manifest.gate and manifest.budgets == ()
    assert "draws" not in manifest.to_json()["config"]


@pytest.mark.parametrize(
    ("goal", "target", "sentence"),
    [
        ("untargeted", None, "untargeted"),
        ("targeted at cat", 0, "targeted at cat"),
        ("targeted at targeted at", 2, "targeted at targeted at"),
        ("targeted at fox", None, "targeted at fox"),
    ],
)
def test_the_phrase_of_schema_1_becomes_a_class(goal, target, sentence):
    names = ["cat", "dog", "targeted at"]
    manifest = read(FIRST | {"config": {"goal": goal}, "class_names": names})
    assert manifest.config.goal is not None
    assert (manifest.config.goal.target, manifest.config.aim) == (target, sentence)


@pytest.mark.parametrize("goal", ["win", "", 3, ["targeted at cat"], {"target": -1}])
def test_another_phrase_is_refused(goal):
    with pytest.raises(RunError, match=r"config\.goal"):
        read(FIRST | {"config": {"goal": goal}})


@pytest.mark.parametrize("version", [0, SCHEMA + 1, True, "1", None, 1.5, [], 10**15])
def test_another_version_is_refused(version):
    with pytest.raises(RunError, match="has schema"):
        read({"schema": version})


@pytest.mark.parametrize(
    ("manifest", "key"),
    [
        (Manifest(config=Settings.model_construct({"slots"}, slots=0)), "config.slots is 0"),
        (Manifest(config=Settings.model_construct({"seed"}, seed=1 << 63)), "the number 92233"),
        (Manifest.model_construct({"command"}, command=3), "command is 3"),
        (Manifest.model_validate({"x": float("nan")}), "not JSON compliant"),
    ],
)
def test_a_run_that_could_not_be_read_back_does_not_start(tmp_path, manifest, key):
    with pytest.raises(SettingError, match="is not begun") as refused:
        Run.create(tmp_path / "run", manifest)
    assert key in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_options_that_cannot_be_recorded_are_refused():
    with pytest.raises(SettingError, match="limit is 1000"):
        recorded(Options, {"limit": 10**30}, "The command line")


PIXELS_READ = {
    **{"height": 3, "width": 4, "pictures": 2, "total": 5, "median": [3, 4]},
    **{"share": 0.5, "share_of_window": 1.0, "median_share": 0.5, "median_share_of_window": 0.5},
    **{"rows": [0.0, 1.5, 0.0], "columns": [1.0, 0.0, 0.0, 1]},
}
SURVIVAL = {
    **{"epsilon": 4.0, "examined": 20, "found": 31},
    "points": [
        {"name": "jpeg:75", "quality": 75, "flips": {"count": 15, "total": 20}},
        {"name": "pillow:box", "flips": {"count": 0, "total": 18}, "refused": 2},
    ],
}


def test_possible_shares_and_counts_are_read_unchanged():
    manifest = read(FIRST | {"pixels_read": PIXELS_READ, "survival": SURVIVAL})
    plain = manifest.to_json()
    assert plain["pixels_read"] == PIXELS_READ and plain["survival"] == SURVIVAL


@pytest.mark.parametrize(
    ("part", "path", "value"),
    [
        ("pixels_read", "share", 1.01),
        ("pixels_read", "share", -0.1),
        ("pixels_read", "share_of_window", 0.4),
        ("pixels_read", "share_of_window", 2),
        ("pixels_read", "median_share", 7.0),
        ("pixels_read", "median_share_of_window", 0.25),
        ("pixels_read", "rows", [1.0, 1.0]),
        ("pixels_read", "rows", [-1.0, 1.0, 1.0]),
        ("pixels_read", "columns", [1.0] * 5),
        ("pixels_read", "columns", [1e300] * 4),
        ("pixels_read", "median", [3]),
        ("pixels_read", "median", [3, 0]),
        ("pixels_read", "height", 0),
        ("pixels_read", "total", 1),
        ("survival", "epsilon", 0.0),
        ("survival", "epsilon", -4.0),
        ("survival", "found", 19),
        ("survival", "examined", 19),
        ("survival", "examined", -1),
        ("survival", "points.0.flips.total", 14),
        ("survival", "points.0.flips.total", 21),
        ("survival", "points.0.flips.count", -1),
        ("survival", "points.0.originals", {"count": 2, "total": 1}),
        ("survival", "points.0.originals", {"count": 2, "total": 99}),
        ("survival", "points.0.quality", 0),
        ("survival", "points.0.quality", 101),
        ("survival", "points.1.refused", 3),
        ("survival", "points.1.name", None),
    ],
)
def test_impossible_shares_and_counts_are_refused_by_name(part, path, value):
    plain = copy.deepcopy(FIRST | {"pixels_read": PIXELS_READ, "survival": SURVIVAL})
    *parents, key = path.split(".")
    table = plain[part]
    for name in parents:
        table = table[int(name) if name.isdigit() else name]
    table[key] = value
    with pytest.raises(RunError) as refusal:
        read(plain)
    assert part in str(refusal.value) and "run.json" in str(refusal.value)
    # A sum that is too large is named by the list that it is in.
    named = (key, parents[0] if parents else key)
    assert any(name in str(refusal.value) for name in named)


def test_numbers_are_written_unchanged():
    """A seal is over the text: 1 must not become 1.0."""
    origin = Origin(options=Options(step_size=1, accuracy=0.5))
    assert json.dumps(origin.to_json()) == '{"options": {"step_size": 1, "accuracy": 0.5}}'


def test_a_manifest_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        read(FIRST).finished = "now"
    model = ModelEntry(name="m", file="f")
    assert model.without("file").to_json() == {"name": "m"} and model.file == "f"


def test_the_schema_matches_the_published_file():
    jsonschema = pytest.importorskip("jsonschema")
    assert json_schema.PUBLISHED.read_text(encoding="utf-8") == json_schema.published(), (
        "The manifest's fields changed: write robustness/runs/schemas anew from "
        "robustness.runs.json_schema.published()."
    )
    schema = json.loads(json_schema.published())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for older in OLDER.values():
        validator.validate(json.loads(new_text_of(read(older))))
    odd = read(FIRST).to_json() | {"class_names": 3}
    assert not validator.is_valid(odd)


def test_a_large_database_without_a_manifest_is_not_restarted(tmp_path, monkeypatch):
    """Its list of tables would be read completely, so the size is checked first."""
    monkeypatch.setattr(run_folder, "_LARGE", 1 << 20)
    folder = tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    with (folder / "run.sqlite").open("wb") as file:
        file.truncate((1 << 20) + 1)

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(sqlite3, "connect", opened)
    with pytest.raises(RunUsageError, match="is not empty"):
        run_folder.expect_free(folder)
