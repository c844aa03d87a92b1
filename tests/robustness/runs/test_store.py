"""Tests of the run store: rows survive, partial writes do not, and pictures stay in the folder."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.errors import RunError
from robustness.runs import tables
from robustness.runs.records import FLIPPED, ROBUST, ImageRow, OutcomeRow, StripRow
from robustness.runs.schema import Manifest, Settings
from robustness.runs.store import Run
from robustness.runs.writer import Pending


def outcome(image="a", attack="bim", epsilon=1.0, **kwargs):
    return OutcomeRow(image=image, attack=attack, epsilon=epsilon, status=ROBUST, **kwargs)


def test_rows_are_read_back_unchanged(tmp_path):
    with Run.create(
        tmp_path / "run", Manifest(config=Settings.model_validate({"norm": "l2", "x": 1}))
    ) as run:
        png = run.save_png(b"bytes")
        run.add([ImageRow(key="a", position=1, name="a.png", label=0, confidence=0.5)])
        run.add([ImageRow(key="b", position=0, name="b.png", reason="empty")])
        run.add([outcome(), outcome(epsilon=2.0, png=png, linf=2.0)])
        run.add(
            [StripRow(image="a", attack="bim", epsilon=1.0, step=0, png=png, probabilities="[1]")]
        )
    with Run.open(tmp_path / "run") as run:
        assert run.manifest.config.to_json() == {"norm": "l2", "x": 1}
        assert run.images().key.tolist() == ["b", "a"]
        assert run.outcomes().epsilon.tolist() == [1.0, 2.0]
        assert run.png(run.outcomes().png[1]) == b"bytes"
        assert run.strips().step.tolist() == [0]
        assert [row.key for row in run.image_rows()] == ["b", "a"]


def test_settled_requires_every_rung_and_complete_evidence(tmp_path):
    with Run.create(tmp_path / "run", Manifest()) as run:
        png = run.save_png(b"picture")
        run.add([outcome("a", epsilon=e, png=png) for e in (1.0, 2.0)])
        run.add([outcome("b", epsilon=1.0)])
        assert run.settled("bim", 2) == {"a"}
        assert run.settled("pgd", 2) == set()
        (run.path / png).write_bytes(b"pictur")
        assert run.settled("bim", 2) == set()
        (run.path / png).unlink()
        assert run.settled("bim", 2) == set()


def test_a_second_outcome_replaces_the_first(tmp_path):
    with Run.create(tmp_path / "run", Manifest()) as run:
        run.add([outcome(forward=1)])
        run.add([outcome(forward=2)])
        assert run.outcomes().forward.tolist() == [2]
        assert run.count("bim") == {ROBUST: 1}


def test_pending_rows_are_written_together_and_none_is_lost(tmp_path):
    with Run.create(tmp_path / "run", Manifest()) as run:
        pending = Pending(run, seconds=3600, groups=3)
        pending.add([outcome("a")])
        pending.make(lambda name: [outcome(name)], "b")
        assert len(run.outcomes()) == 0
        pending.add([outcome("c"), outcome("d")])
        assert len(run.outcomes()) == 4
        pending.add([outcome("e")])
        pending.flush()
        assert run.outcomes().image.tolist() == ["a", "b", "c", "d", "e"]


def test_pending_rows_that_fail_are_reported_and_others_kept(tmp_path):
    def full() -> list[OutcomeRow]:
        raise OSError("No space left on device")

    with Run.create(tmp_path / "run", Manifest()) as run:
        pending = Pending(run, seconds=3600)
        pending.add([outcome("a")])
        pending.make(full)
        pending.add([outcome("b")])
        with pytest.raises(OSError, match="No space left"):
            pending.flush()
        pending.flush()
        assert run.outcomes().image.tolist() == ["a", "b"]


def test_pending_rows_are_written_as_time_passes(tmp_path):
    with Run.create(tmp_path / "run", Manifest()) as run:
        pending = Pending(run, seconds=0)
        pending.add([outcome("a")])
        assert run.outcomes().image.tolist() == ["a"]


def test_committed_rows_survive_a_kill(tmp_path):
    code = f"""
import os, signal
from robustness.runs.schema import Manifest
from robustness.runs.records import OutcomeRow
from robustness.runs.store import Run
run = Run.create({str(tmp_path / "run")!r}, Manifest())
for i in range(20):
    run.add([OutcomeRow(image=str(i), attack="bim", epsilon=1.0, status="robust")])
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    with Run.resume(tmp_path / "run") as run:
        assert len(run.outcomes()) == 20


def test_a_used_folder_is_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        Run.create(tmp_path, Manifest())
    Run.create(tmp_path / "run", Manifest()).close()
    with pytest.raises(RunError, match="--resume"):
        Run.create(tmp_path / "run", Manifest())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no run\.json"):
        Run.open(tmp_path)
    Run.create(tmp_path / "run", Manifest()).close()
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        _ = Run.open(tmp_path / "run").manifest
    (tmp_path / "run" / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(RunError, match="schema 99"):
        _ = Run.open(tmp_path / "run").manifest


def test_a_damaged_database_is_refused(tmp_path):
    Run.create(tmp_path / "run", Manifest()).close()
    (tmp_path / "run" / "run.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(RunError, match="cannot be read"):
        Run.open(tmp_path / "run")


def without(folder, table, column):
    database = sqlite3.connect(folder / "run.sqlite")
    database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    database.commit()
    database.close()


@pytest.mark.parametrize("way", [Run.open, Run.resume])
def test_a_database_of_another_version_is_refused_with_its_missing_columns(tmp_path, way):
    with Run.create(tmp_path / "run", Manifest()) as run:
        run.add([outcome()])
    without(tmp_path / "run", "outcomes", "components")
    without(tmp_path / "run", "images", "digest")
    with pytest.raises(
        RunError, match=r"lacks images\.digest, outcomes\.components: another version"
    ):
        way(tmp_path / "run")


def test_a_database_without_a_table_is_refused_with_its_name(tmp_path):
    Run.create(tmp_path / "run", Manifest()).close()
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    database.execute("DROP TABLE strips")
    database.commit()
    database.close()
    with pytest.raises(RunError, match="lacks strips: another version"):
        Run.open(tmp_path / "run")


def test_damage_beyond_the_first_page_is_reported_on_reading(tmp_path):
    with Run.create(tmp_path / "run", Manifest()) as run:
        run.add([outcome(str(n)) for n in range(3000)])
    file = tmp_path / "run" / "run.sqlite"
    database = sqlite3.connect(file)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute("PRAGMA journal_mode=DELETE")
    database.close()
    data = bytearray(file.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    file.write_bytes(data)
    with Run.open(tmp_path / "run") as run, pytest.raises(RunError, match="cannot be read"):
        run.outcomes()


@pytest.mark.parametrize(
    "name", ["../run.json", "images/../../secret", "/etc/hostname", "run.json"]
)
def test_picture_names_never_leave_the_run(tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    with Run.create(tmp_path / "run", Manifest()) as run, pytest.raises(RunError):
        run.png(name)


def test_reading_changes_nothing(tmp_path):
    with Run.create(tmp_path / "run", Manifest()) as run:
        run.add([outcome()])
    with Run.open(tmp_path / "run") as run, pytest.raises(sqlite3.OperationalError):
        run.add([outcome("b")])


@given(st.text(min_size=1), st.text())
@settings(max_examples=25, deadline=None)
def test_hostile_names_are_stored_unchanged(tmp_path_factory, key, name):
    folder = tmp_path_factory.mktemp("hostile") / "run"
    try:
        key.encode()
        name.encode()
    except UnicodeEncodeError:
        return
    with Run.create(folder, Manifest()) as run:
        run.add([ImageRow(key=key, position=0, name=name)])
        row = next(run.image_rows())
        assert (row.key, row.name) == (key, name)


@pytest.mark.slow
def test_reading_a_run_needs_no_framework(tmp_path):
    Run.create(tmp_path / "run", Manifest()).close()
    code = f"""
import sys
from robustness.runs.store import Run
Run.open({str(tmp_path / "run")!r}).outcomes()
assert not {{"tensorflow", "keras"}} & set(sys.modules), "a framework was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_statuses_are_the_documented_words():
    from robustness.runs import records

    assert records.STATUSES == (FLIPPED, ROBUST, "misclassified", "unreadable", "failed", "settled")


@pytest.mark.parametrize("part", [1, 2, 3])
def test_a_table_read_in_parts_is_the_same(tmp_path, monkeypatch, part):
    with Run.create(tmp_path / "run", Manifest()) as run:
        run.add([ImageRow(key=key, position=n, name=key) for n, key in enumerate("abc")])
        run.add([outcome("a"), outcome("b", png="images/x.png", linf=2.0, l0=3), outcome("c")])
        whole = run.images(), run.outcomes(), list(run.image_rows())
        monkeypatch.setattr(tables, "PART", part)
        monkeypatch.setattr(tables, "FEW", part)
        pd.testing.assert_frame_equal(run.images(), whole[0])
        pd.testing.assert_frame_equal(run.outcomes(), whole[1])
        assert list(run.image_rows()) == whole[2]
        some = run.columns_of("outcomes", "image", "linf").sort_values("image")
        pd.testing.assert_frame_equal(some, whole[1][["image", "linf"]])


def test_an_odd_cell_of_a_later_part_is_named_by_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART", 2)
    monkeypatch.setattr(tables, "FEW", 2)
    with Run.create(tmp_path / "run", Manifest()) as run:
        run.add([ImageRow(key=key, position=n, name=key) for n, key in enumerate("abcd")])
        run.add([ImageRow(key="e", position=4, name="e", confidence=float("inf"))])
        with pytest.raises(RunError, match="confidence of row 5 is inf"):
            run.images()
