"""Tests of reading a run ahead: what another process found is what is found here, or it does not count."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.errors import RunError
from robustness.images.png import to_png
from robustness.runs import read_ahead
from robustness.runs.image_columns import ImageColumns
from robustness.runs.read_ahead import Found, found_in, reading_ahead
from robustness.runs.records import FLIPPED, ImageRow, OutcomeRow
from robustness.runs.schema import Manifest
from robustness.runs.store import Run

pytestmark = pytest.mark.slow
ODD_KEYS = ["a/1.png", 'a"\n\t.png', "ä€😀.png", "", "null", "x" * 5000]


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    monkeypatch.setattr(read_ahead, "LARGE", 0)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run of odd keys with pictures, of which two are damaged."""
    with Run.create(tmp_path / "run", Manifest()) as run:
        for number, key in enumerate(ODD_KEYS):
            picture = run.save_png(to_png(np.full((4, 4, 3), number, np.uint8)))
            flip = run.save_png(to_png(np.full((4, 4, 3), 100 + number, np.uint8)))
            image = ImageRow(key=key, position=number, name=key, png=picture)
            if number % 2:
                image = ImageRow(key=key, position=number, name=key, label=1, reason="why")
            outcome = OutcomeRow(image=key, attack="pgd", epsilon=1, status=FLIPPED, png=flip)
            run.add([image, outcome])
        (run.path / picture_names(run.path)[0]).unlink()
        (run.path / picture_names(run.path)[-1]).write_bytes(b"altered")
    return tmp_path / "run"


def picture_names(folder: Path) -> list[str]:
    with Run.open(folder) as run:
        return sorted(run.pictures())


def expect_equal(one: ImageColumns, other: ImageColumns) -> None:
    for name in ImageColumns.__dataclass_fields__:
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def test_another_process_finds_what_is_found_here(folder):
    with reading_ahead(folder):
        found = found_in(folder)
    with Run.open(folder) as run:
        assert found is not None
        expect_equal(found.images, run.image_columns())
        assert (
            found.damaged
            == run.damaged_pictures()
            == {*picture_names(folder)[::9][:1]} | {picture_names(folder)[-1]}
        )
        assert found.check == run.check() == "ok"


def test_a_resumed_run_uses_what_was_found(folder):
    with (
        reading_ahead(folder),
        Run.resume(folder, lambda: found_in(folder)) as run,
    ):
        assert run.image_columns().keys.tolist() == ODD_KEYS
        found, damaged = run.image_columns(), run.damaged_pictures()
        (folder / picture_names(folder)[1]).unlink()
        # Nothing is read again.
        assert run.image_columns() is found and run.damaged_pictures() is damaged
        run.add([ImageRow(key="new", position=9, name="new")])
        assert run.image_columns().keys.tolist() == [*ODD_KEYS, "new"]


@pytest.mark.parametrize("how", ["changed", "replaced", "vanished"])
def test_a_run_that_changed_since_is_read_again(folder, how):
    database = folder / "run.sqlite"
    with reading_ahead(folder):
        read_ahead._READERS[folder.absolute()]._process.wait()
        if how == "changed":
            with sqlite3.connect(database) as opened:
                opened.execute("DELETE FROM images WHERE position = 1")
            opened.close()
        elif how == "replaced":
            data = database.read_bytes()
            database.rename(database.with_name("old"))
            database.write_bytes(data)
        else:
            database.unlink()
        assert found_in(folder) is None


def test_a_run_with_a_rollback_journal_is_not_read_ahead(folder):
    """Only a writer applies it: until then the tables are those of a half transaction."""
    with reading_ahead(folder):
        read_ahead._READERS[folder.absolute()]._process.wait()
        (folder / "run.sqlite-journal").write_bytes(b"")
        assert found_in(folder) is None
    with reading_ahead(folder):
        assert not read_ahead._READERS


def test_the_process_ends_with_the_one_that_started_it(folder, tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from robustness.runs import read_ahead\n"
        "read_ahead.LARGE = 0\n"
        "reader = read_ahead.Reader(Path(sys.argv[1]))\n"
        "print(reader._process.pid, flush=True); time.sleep(60)"
    )
    with sqlite3.connect(folder / "run.sqlite") as opened:
        rows = ((f"k{n}", n, f"k{n}") for n in range(10, 400_000))
        opened.executemany("INSERT INTO images (key, position, name) VALUES (?, ?, ?)", rows)
    opened.close()
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    with parent, parent.stdout:
        parent.kill()
    ends = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < ends:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_paths_that_are_none_are_left_to_the_store(name):
    with reading_ahead(Path(name)):
        assert found_in(Path(name)) is None


def test_a_process_that_fails_counts_for_nothing(folder):
    data = bytearray((folder / "run.sqlite").read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (folder / "run.sqlite").write_bytes(bytes(data))
    with reading_ahead(folder):
        assert found_in(folder) is None
        with pytest.raises(RunError, match=r"run\.sqlite cannot be read"):
            Run.resume(folder, lambda: found_in(folder))


def test_no_process_is_started_for_what_needs_none(folder, tmp_path, monkeypatch):
    started: list[object] = []
    start = subprocess.Popen

    def recorded(*arguments, **options):
        started.append(arguments)
        return start(*arguments, **options)

    monkeypatch.setattr(read_ahead.subprocess, "Popen", recorded)
    with reading_ahead(folder), reading_ahead(folder):
        assert len(started) == 1
    assert found_in(folder) is None
    monkeypatch.setattr(read_ahead, "LARGE", 1 << 30)
    for place in (folder, tmp_path / "nothing", folder / "run.json"):
        with reading_ahead(place):
            assert found_in(place) is None
    assert len(started) == 1


def test_the_process_ends_with_its_block(folder):
    with reading_ahead(folder):
        process = read_ahead._READERS[folder.absolute()]._process
    assert process.poll() is not None


def test_a_system_that_starts_no_process_reads_here(folder, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(read_ahead.subprocess, "Popen", refused)
    with reading_ahead(folder):
        assert found_in(folder) is None


NUMBERS = st.floats(width=64) | st.none()


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(), st.integers(-(2**53), 2**53), NUMBERS, NUMBERS, NUMBERS, st.text(),
            st.text() | st.none(),
        )
    ),
    damaged=st.frozensets(st.text()),
    check=st.text(),
)  # fmt: skip
def test_what_is_found_survives_the_way(rows, damaged, check):
    images = ImageColumns.of([rows] if rows else [])
    file = io.BytesIO()
    read_ahead._write(Found(((1, 2, 2**62), None, None), check, images, damaged), file)
    file.seek(0)
    back = read_ahead._read(file)
    assert (back.state, back.check, back.damaged) == (((1, 2, 2**62), None, None), check, damaged)
    expect_equal(back.images, images)
