"""Tests of hostile run folders: links, pipes, endless files, databases that contain code."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.errors import RobustnessError, RunError
from robustness.files import open_folder, reading, writing
from robustness.images.png import to_png
from robustness.reports import write_html
from robustness.reports.comparison.compare import compare
from robustness.reports.formats import writers
from robustness.reports.page.html import _PictureFolder
from robustness.runs.database import MOST_CELL, Database
from robustness.runs.records import ImageRow, OutcomeRow
from robustness.runs.result import AuditResult
from robustness.runs.schema import Manifest
from robustness.runs.store import Run
from robustness.verification.pictures import broken_files
from tests.fuzz import fuzz_run_folder as fuzz

WRITERS: dict[str, Callable[..., Path]] = {
    "report.html": write_html,
    "report.json": writers.write_json,
    "outcomes.csv": writers.write_csv,
    "outcomes.parquet": writers.write_parquet,
    "summary.md": writers.write_markdown,
    "junit.xml": writers.write_junit,
    "report.sarif": writers.write_sarif,
    "annotations.txt": writers.write_github,
}


@pytest.fixture
def run(tmp_path) -> Path:
    return fuzz.sound(tmp_path / "run")


@pytest.fixture
def victim(tmp_path) -> Path:
    """A file that belongs to the reader."""
    file = tmp_path / "victim.txt"
    file.write_text("mine")
    return file


def endless(file: Path) -> None:
    """A sparse file of 20 GB; the file size limit of the process prevents large copies."""
    with file.open("wb") as stream:
        stream.truncate(20 << 30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 20, LIMITS[1]))


LIMITS = resource.getrlimit(resource.RLIMIT_FSIZE)


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """Fail tests that wait forever or fill the disk."""

    def late(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, LIMITS)


def every_reading(folder: Path) -> Iterator[tuple[str, BaseException | None]]:
    """Read the run in every way; return the exceptions by name."""
    for name, read in fuzz.readings(folder, folder).items():
        try:
            read()
        except RobustnessError as error:
            yield name, error
        else:
            yield name, None


# Writing


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("planted", [".{}.part", "{}", "{}.part", ".{}.0-0.part", ".{}.tmp"])
def test_a_report_never_writes_through_a_link(run, victim, name, planted):
    (run / planted.format(name)).symlink_to(victim)
    target = WRITERS[name](run)
    assert victim.read_text() == "mine"
    assert target.is_file() and not target.is_symlink()
    assert len(target.read_bytes()) > 50
    left = [p.name for p in run.iterdir() if p.name.endswith(".part") and not p.is_symlink()]
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_in_place_of_a_report_is_refused(run, name):
    (run / name).mkdir()
    with pytest.raises(RunError, match="is a folder"):
        WRITERS[name](run)


def test_pictures_beside_a_page_are_not_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "pictures-mine.html").write_text("mine")
    (tmp_path / "page.files").symlink_to(tmp_path / "elsewhere")
    beside = _PictureFolder(tmp_path / "page.files")
    with pytest.raises(RunError, match="is a link"):
        beside.write({0: "AAAA"})
    beside.remove_old()
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == ["pictures-mine.html"]


@pytest.mark.parametrize("planted", ["images", "images/ab"])
def test_a_resumed_run_writes_no_picture_through_a_link(tmp_path, planted):
    data = next(
        bytes([a, b])
        for a in range(256)
        for b in range(256)
        if __import__("hashlib").sha256(bytes([a, b])).hexdigest().startswith("ab")
    )
    Run.create(tmp_path / "run", Manifest()).close()
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "run" / planted
    shutil.rmtree(place, ignore_errors=True)
    place.symlink_to(tmp_path / "elsewhere")
    with Run.resume(tmp_path / "run") as run:
        name = run.save_png(data)
        assert run.png(name) == data
    assert not list((tmp_path / "elsewhere").rglob("*"))
    assert not place.is_symlink()


def test_clean_up_deletes_nothing_behind_a_link(tmp_path):
    Run.create(tmp_path / "run", Manifest()).close()
    for name in ("one/ab", "two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / ".mine.part").write_text("mine")
    (tmp_path / "run" / "images").rmdir()
    (tmp_path / "run" / "images").symlink_to(tmp_path / "one")
    Run.resume(tmp_path / "run").close()
    (tmp_path / "run" / "images" / "ab").symlink_to(tmp_path / "two")
    Run.resume(tmp_path / "run").close()
    assert (tmp_path / "one" / "ab" / ".mine.part").exists()
    assert (tmp_path / "two" / ".mine.part").exists()


@given(
    st.lists(
        st.sampled_from(["a", "..", ".", "", "b.png", "\0", "a\\b", "c:", "x" * 300]), max_size=5
    )
)
@settings(max_examples=200, deadline=None)
def test_names_in_a_run_do_not_leave_the_run(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("root")
    (root / "run").mkdir()
    before = sorted(root.rglob("*"))
    with contextlib.suppress(RunError, OSError):
        writing.replace_within(root / "run", "/".join(parts), b"x")
    new = [p for p in root.rglob("*") if p not in before]
    assert all(p.is_relative_to(root / "run") for p in new)


def test_names_of_temporary_files_are_unpredictable(tmp_path, monkeypatch):
    seen = []
    rename = open_folder.Place.rename
    monkeypatch.setattr(
        open_folder.Place, "rename", lambda self, a, b: (seen.append(a), rename(self, a, b))[1]
    )
    for _ in range(20):
        writing.replace(tmp_path / "x", b"x")
    assert len(set(seen)) == 20 and all(len(name) > 30 for name in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_temporary_file_is_not_opened_over_an_existing_one(tmp_path, victim, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".known.part").symlink_to(victim)
    with pytest.raises(OSError, match="exists"):
        writing.replace(tmp_path / "x", b"x")
    assert victim.read_text() == "mine"


# Links, pipes and endless files

PRIVATE = np.random.default_rng(3).integers(0, 256, (16, 16, 3)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["images", "images/xy", "picture"])
def test_no_picture_is_read_through_a_link(run, tmp_path, planted):
    """A link to a file of the reader, named like a picture of the run."""
    with Run.open(run) as opened:
        name = opened.outcomes().png.dropna().iloc[0]
    target = run / name
    data = target.read_bytes()
    elsewhere = tmp_path / "private"
    if planted == "picture":
        (tmp_path / "mine.png").write_bytes(data)
        target.unlink()
        target.symlink_to(tmp_path / "mine.png")
    else:
        place = run / "images" if planted == "images" else target.parent
        place.rename(elsewhere)
        place.symlink_to(elsewhere)
    with Run.open(run) as opened:
        with pytest.raises(RunError):
            opened.png(name)
        assert not opened.evidence_intact(name)
        assert any("is missing" in f.sentence for f in broken_files(opened)[1])
    page = write_html(run).read_text()
    assert base64.b64encode(data).decode() not in page
    assert "missing" in page


@pytest.mark.parametrize(
    "name", ["run.json", "run.sqlite", "run.sqlite-wal", "run.sqlite-shm", "run.sqlite-journal"]
)
@pytest.mark.parametrize("what", ["link", "pipe", "folder", "endless"])
def test_a_file_of_a_run_is_a_regular_file_of_bounded_size(run, tmp_path, name, what):
    file = run / name
    if file.exists():
        file.rename(tmp_path / "kept")
    else:
        shutil.copy(run / "run.sqlite", tmp_path / "kept")
    if what == "link":
        file.symlink_to(tmp_path / "kept")
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    else:
        endless(file)
    for way, error in every_reading(run):
        assert isinstance(error, RunError), way
    with pytest.raises(RunError):
        Run.resume(run)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["link", "pipe", "endless", "device"])
def test_a_picture_is_a_regular_file_of_bounded_size(run, what):
    with Run.open(run) as opened:
        names = sorted(set(opened.outcomes().png.dropna()))
    for name in names:
        (run / name).unlink()
        if what == "pipe":
            os.mkfifo(run / name)
        elif what == "endless":
            resource.setrlimit(resource.RLIMIT_FSIZE, LIMITS)
            endless(run / name)
        else:
            (run / name).symlink_to("/dev/zero" if what == "device" else "/etc/hostname")
    for way, error in every_reading(run):
        assert error is None or isinstance(error, RobustnessError), way
    with pytest.raises(RunError):
        AuditResult(run).cases[0]


@pytest.mark.parametrize("what", ["pipe", "endless", "folder"])
def test_a_report_that_is_compared_is_a_regular_file(run, tmp_path, what):
    file = tmp_path / "report.json"
    if what == "pipe":
        os.mkfifo(file)
    elif what == "endless":
        endless(file)
    else:
        file.mkdir()
    with pytest.raises(RunError):
        compare(file, run)


def test_a_run_behind_a_link_given_by_the_user_is_read(run, tmp_path):
    (tmp_path / "latest").symlink_to(run)
    assert write_html(tmp_path / "latest").exists()
    report = writers.write_json(run)
    (tmp_path / "report.json").symlink_to(report)
    assert compare(tmp_path / "report.json", tmp_path / "latest").images == 8


def test_reading_needs_no_write_permission(run):
    before = sorted(p.name for p in run.iterdir())
    with Run.open(run) as opened:
        opened.outcomes()
        assert sorted(p.name for p in run.iterdir()) == before


def test_the_declared_size_of_a_picture_is_limited(run):
    """A picture with a huge declared size is not decompressed, and other formats are refused."""
    from PIL import Image

    from robustness.images.png import from_png

    for mode in ("P", "1", "I;16"):
        buffer = io.BytesIO()
        Image.new(mode, (4, 4)).save(buffer, "PNG")
        with pytest.raises(ValueError, match="8-bit"):
            from_png(buffer.getvalue())
    good = to_png(PRIVATE)
    for cut in (10, 40, len(good) // 2):
        with pytest.raises((ValueError, OSError, SyntaxError)):
            from_png(good[:cut])


# Databases with views, triggers and other code

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT "
IMAGES = (
    "key position name label digest note reason clean_class confidence png".split()  # noqa: SIM905
)


@pytest.mark.parametrize(
    "statements",
    [
        [
            "ALTER TABLE images RENAME TO kept",
            "CREATE VIEW images AS SELECT * FROM kept",
        ],
        [
            "DROP TABLE images",
            f"CREATE VIEW images AS {ENDLESS}{', '.join(f'x AS {c}' for c in IMAGES)} FROM n",
        ],
        [f"CREATE VIEW more AS {ENDLESS}x FROM n"],
        ["CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM outcomes; END"],
        ["CREATE TEMP TABLE x (y)", "CREATE VIRTUAL TABLE v USING fts5(x)"],
        ["DROP TABLE images", f"CREATE VIRTUAL TABLE images USING fts5({', '.join(IMAGES)})"],
        ["CREATE INDEX i ON images (hex(name))"],
        [
            "DROP TABLE images",
            "CREATE TABLE images (key, position, name, label, digest, note, reason, clean_class, png, "
            "confidence AS (length(hex(zeroblob(100000000)))))",
        ],
    ],
)
def test_a_database_with_more_than_tables_is_refused(run, statements):
    database = sqlite3.connect(run / "run.sqlite")
    try:
        for statement in statements:
            database.execute(statement)
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite cannot make it: {error}")
    database.commit()
    database.close()
    for way, refusal in every_reading(run):
        assert isinstance(refusal, RunError), way
        assert "tampered" in str(refusal), way


@pytest.mark.slow
@pytest.mark.parametrize("size", [MOST_CELL + 1, 40 << 20])
@pytest.mark.parametrize("cell", ["images.name", "outcomes.reason", "strips.probabilities"])
def test_the_size_of_a_cell_is_limited(run, size, cell):
    table, column = cell.split(".")
    database = sqlite3.connect(run / "run.sqlite")
    database.execute(f"UPDATE {table} SET {column} = hex(zeroblob({size // 2 + 1}))")
    database.commit()
    database.close()
    with Run.open(run) as opened, pytest.raises(RunError, match="too big"):
        getattr(opened, table)()


@pytest.mark.slow
def test_a_query_is_limited(tmp_path):
    Run.create(tmp_path / "run", Manifest()).close()
    database = Database(tmp_path / "run", writable=False, tables={})
    with pytest.raises(RunError, match="more work than its size allows"):
        database.select(f"{ENDLESS}count(*) FROM n")
    with pytest.raises(RunError, match="more work than its size allows"):
        list(database.parts(f"{ENDLESS}count(*) FROM n", 10))
    assert database.select("SELECT 1") == [(1,)]
    with pytest.raises(sqlite3.DatabaseError):
        database.change([("CREATE TABLE x (y)", ())])
    with pytest.raises(RunError):
        database.select("ATTACH ':memory:' AS other")
    database.close()


def test_an_error_message_that_is_not_utf_8_is_an_error_about_the_run(tmp_path, monkeypatch):
    """SQLite quotes damaged names in its messages; Python fails to decode them."""

    class Cursor:
        def fetchall(self):
            return []

        def fetchmany(self, size):
            return [b"\xff".decode()]

    class Connection:
        def execute(self, query, values=()):
            return Cursor()

    Run.create(tmp_path / "run", Manifest()).close()
    database = Database(tmp_path / "run", writable=False, tables={})
    with monkeypatch.context() as patched:
        patched.setattr(database, "_db", Connection())
        with pytest.raises(RunError, match="cannot be read"):
            list(database.parts("SELECT key FROM images", 10))
    database.close()


@pytest.mark.parametrize(
    "change",
    [
        ("float_flip INTEGER", "float_flip INTEGER CHECK (length(hex(zeroblob(9))) > 0)"),
        ("reason TEXT", "reason TEXT DEFAULT (hex(randomblob(9)))"),
        ("status TEXT", "status TEXT COLLATE NOCASE"),
    ],
)
def test_nothing_is_written_into_foreign_tables(tmp_path, change):
    Run.create(tmp_path / "run", Manifest()).close()
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    made = database.execute("SELECT sql FROM sqlite_master WHERE name = 'outcomes'").fetchone()[0]
    assert change[0] in made
    database.execute("DROP TABLE outcomes")
    database.execute(made.replace(*change))
    database.commit()
    database.close()
    Run.open(tmp_path / "run").close()
    with pytest.raises(RunError, match="defined differently"):
        Run.resume(tmp_path / "run")


def test_a_journal_that_names_another_file_deletes_nothing(tmp_path, victim):
    """SQLite would delete the file that a rollback journal names as its super-journal."""
    Run.create(tmp_path / "run", Manifest()).close()
    name = str(victim).encode()
    check = sum(name) & 0xFFFFFFFF
    tail = name + len(name).to_bytes(4, "big") + check.to_bytes(4, "big")
    magic = bytes.fromhex("d9d505f920a163d7")
    journal = tmp_path / "run" / "run.sqlite-journal"
    journal.write_bytes(magic + bytes(504) + b"\0\0\0\0" + tail + magic)
    for open_ in (Run.open, Run.resume):
        with pytest.raises(RunError, match="tampered"):
            open_(tmp_path / "run")
    assert victim.read_text() == "mine"


def test_a_run_in_progress_is_read(tmp_path):
    """Committed rows are read, even if they are still in the write-ahead log."""
    with Run.create(tmp_path / "run", Manifest()) as writing_now:
        for number in range(50):
            key = f"{number}"
            writing_now.add([ImageRow(key=key, position=number, name=key)])
            row = OutcomeRow(image=key, attack="bim", epsilon=1.0, status="robust")
            writing_now.add([row])
            if number % 10 == 0:
                with Run.open(tmp_path / "run") as reading_now:
                    assert len(reading_now.outcomes()) == number + 1
                    assert len(list(reading_now.image_rows())) == number + 1
        assert (tmp_path / "run" / "run.sqlite-wal").stat().st_size > 0


def test_reading_is_limited_if_a_file_grows(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"x" * 11)
    assert reading.read_named(file, 11) == b"x" * 11
    with pytest.raises(RunError, match="at most 10"):
        reading.read_named(file, 10)
    with pytest.raises(RunError, match="a device"):
        reading.read_named(Path("/dev/zero"), 10)
    with pytest.raises(RunError, match="cannot be read"):
        reading.read_named(tmp_path / "nowhere", 10)
