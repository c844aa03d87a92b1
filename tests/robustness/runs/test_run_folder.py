"""Tests of the run folder: full disks, removed folders, concurrent audits, audits killed at the start."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from robustness.errors import RunError, RunUsageError, StorageError
from robustness.files import disk_errors
from robustness.runs import run_folder
from robustness.runs.records import ROBUST, ImageRow, OutcomeRow
from robustness.runs.schema import Manifest
from robustness.runs.store import Run


def outcome(image: str) -> OutcomeRow:
    return OutcomeRow(image=image, attack="bim", epsilon=1.0, status=ROBUST)


def temporary_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.name.endswith(".part"))


# Disk errors


@pytest.mark.parametrize(
    ("number", "said", "advice"),
    [
        (errno.ENOSPC, "no space is left", "Make room"),
        (errno.EDQUOT, "your share of the disk", "Make room"),
        (errno.EROFS, "read-only", "Choose a folder"),
        (errno.EACCES, "permission is denied", "Choose a folder"),
        (errno.ENAMETOOLONG, "too long", "shorter"),
        (errno.EIO, "reports an error", "Check the disk"),
        (errno.EMFILE, "too many files", "ulimit"),
        (errno.ENOENT, "is gone", "Put it back"),
        (errno.EXDEV, os.strerror(errno.EXDEV), "Check"),
    ],
)
@pytest.mark.parametrize("write", ["png", "manifest"])
def test_disk_errors_are_one_sentence_and_leave_no_temporary_files(
    tmp_path, monkeypatch, number, said, advice, write
):
    with Run.create(tmp_path / "run", Manifest(command="a")) as run:
        run.add([outcome("a")])

        def refuse(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number), "somewhere")

        with monkeypatch.context() as patched:
            patched.setattr("robustness.files.open_folder.Place.rename", refuse)
            with pytest.raises(StorageError) as told:
                run.save_png(b"picture") if write == "png" else run.write_manifest(Manifest())
        assert said in str(told.value) and advice in str(told.value)
        assert f"robustness audit --resume {run.path}" in str(told.value)
        assert "\n" not in str(told.value)
        assert told.value.exit_code == 3
    assert not temporary_files(tmp_path)
    with Run.resume(tmp_path / "run") as run:
        assert run.outcomes().image.tolist() == ["a"]
        assert run.manifest.command == "a"


@pytest.mark.slow
def test_a_file_size_limit_is_reported_and_outcomes_are_kept(tmp_path):
    """The file size limit of the process simulates a full disk for files and the database."""
    code = f"""
import resource, sys
from robustness.errors import StorageError
from robustness.runs.schema import Manifest
from robustness.runs.records import ImageRow
from robustness.runs.store import Run
run = Run.create({str(tmp_path / "run")!r}, Manifest())
run.add([ImageRow(key="first", position=0, name="first")])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
for write in (
    lambda: run.save_png(bytes(400_000)),
    lambda: [run.add([ImageRow(key=f"{{i}}", position=i, name="x" * 1000)]) for i in range(1000)],
):
    try:
        write()
    except StorageError as error:
        print(error)
    else:
        raise SystemExit("written all the same")
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all("what was done is kept" in line for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 2
    assert not temporary_files(tmp_path)
    with Run.resume(tmp_path / "run") as run:
        keys = [row.key for row in run.image_rows()]
        assert keys[0] == "first"
        # Committed one by one: all reported rows are stored.
        assert sorted(map(int, keys[1:])) == list(range(len(keys) - 1))


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_during_a_run_and_its_resumption(small_disk):
    run = Run.create(small_disk / "run", Manifest())
    run.add([outcome("a")])
    with pytest.raises(StorageError, match="no space is left"):
        for number in range(100):
            run.save_png(os.urandom(20_000) + bytes([number]))
    with pytest.raises(StorageError, match="no space is left"):
        for number in range(1000):
            run.add([ImageRow(key=str(number), position=number, name="x" * 2000)])
    run.close()
    assert not temporary_files(small_disk)
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    with Run.resume(small_disk / "run") as again:
        assert again.outcomes().image.tolist() == ["a"]
        again.save_png(os.urandom(100_000))


def test_a_disk_too_full_to_start_leaves_nothing(small_disk):
    (small_disk / "filler").write_bytes(bytes(285_000))
    with pytest.raises(StorageError, match="cannot be made: no space is left"):
        Run.create(small_disk / "deep" / "run", Manifest(command="x" * 400_000))
    assert [p.name for p in small_disk.iterdir()] == ["filler"]


def test_a_read_only_disk_is_reported(small_disk):
    Run.create(small_disk / "run", Manifest()).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="read-only"):
        Run.create(small_disk / "other", Manifest())
    with pytest.raises(StorageError, match="read-only"):
        Run.resume(small_disk / "run")


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 30)])
def test_a_too_long_path_is_reported(tmp_path, name):
    with pytest.raises(StorageError, match=r"too long\. Choose a shorter one"):
        Run.create(tmp_path / name, Manifest())
    assert not list(tmp_path.iterdir())


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="file"):
        Run.create(tmp_path / "file" / "run", Manifest())
    assert (tmp_path / "file").read_text() == "x"


def test_a_locked_database_is_reported(tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.05}))
    with Run.create(tmp_path / "run", Manifest()) as run:
        other = connect(tmp_path / "run" / "run.sqlite")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            StorageError, match="another program holds the database locked; what was"
        ):
            run.add([outcome("a")])
        other.rollback()
        other.close()
        run.add([outcome("b")])
        assert run.outcomes().image.tolist() == ["b"]


# A removed folder


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replaced(folder: Path) -> None:
    moved(folder)
    shutil.copytree(folder.with_name("elsewhere"), folder)


def emptied(folder: Path) -> None:
    removed(folder)
    folder.mkdir()


@pytest.mark.parametrize("happens", [removed, moved, replaced, emptied])
@pytest.mark.parametrize("write", ["rows", "png", "manifest"])
def test_a_removed_folder_is_noticed_at_the_next_write(tmp_path, happens, write):
    run = Run.create(tmp_path / "run", Manifest())
    run.add([outcome("a")])
    happens(tmp_path / "run")
    with pytest.raises(StorageError, match="was moved, deleted or replaced while"):
        if write == "rows":
            run.add([outcome("b")])
        elif write == "png":
            run.save_png(b"picture")
        else:
            run.write_manifest(Manifest())
    run.close()
    if happens is moved:
        with Run.resume(tmp_path / "elsewhere") as again:
            assert again.outcomes().image.tolist() == ["a"]


# Two audits of one run


def test_a_second_audit_is_refused_and_readers_are_not_affected(tmp_path):
    folder = tmp_path / "run"
    with Run.create(folder, Manifest()) as run:
        for another in (lambda: Run.resume(folder), lambda: Run.create(folder, Manifest())):
            with pytest.raises(RunUsageError, match="another audit is writing to it"):
                another()
        run.add([outcome("a")])
        with Run.open(folder) as reading:
            assert reading.outcomes().image.tolist() == ["a"]
    with Run.resume(folder), pytest.raises(RunUsageError, match="in use"):
        Run.resume(folder)
    Run.resume(folder).close()


HOLDER = """
import sys, time
from robustness.runs.store import Run
run = Run.resume(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_audit_releases_its_lock(tmp_path):
    folder = tmp_path / "run"
    Run.create(folder, Manifest()).close()
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(RunUsageError, match="in use"):
            Run.resume(folder)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    Run.resume(folder).close()
    assert not [p.name for p in folder.iterdir() if "lock" in p.name]


# Audits killed at the start


def no_more_than_a_folder(folder: Path) -> None:
    folder.mkdir()


def pictures(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)


def an_empty_database(folder: Path) -> None:
    pictures(folder)
    (folder / "run.sqlite").write_bytes(b"")


def half_a_database(folder: Path) -> None:
    Run.create(folder, Manifest()).close()
    (folder / "run.json").unlink()
    (folder / "run.sqlite").write_bytes((folder / "run.sqlite").read_bytes()[:2500])


def a_database_without_rows(folder: Path) -> None:
    Run.create(folder, Manifest()).close()
    (folder / "run.json").unlink()


def a_log_and_half_a_manifest(folder: Path) -> None:
    a_database_without_rows(folder)
    (folder / "run.sqlite-wal").write_bytes(b"half")
    (folder / ".run.json.17-4.part").write_text("{")


BEGINNINGS = [
    no_more_than_a_folder,
    pictures,
    an_empty_database,
    half_a_database,
    a_database_without_rows,
    a_log_and_half_a_manifest,
]


@pytest.mark.parametrize("killed", BEGINNINGS)
def test_an_audit_killed_at_the_start_restarts_and_resume_says_so(tmp_path, killed):
    folder = tmp_path / "run"
    killed(folder)
    with pytest.raises(RunUsageError) as told:
        Run.resume(folder)
    assert f"robustness audit --out {folder}" in str(told.value) or killed is no_more_than_a_folder
    with Run.create(folder, Manifest(command="new")) as run:
        run.add([outcome("a")])
    with Run.resume(folder) as run:
        assert run.manifest.command == "new"
        assert run.outcomes().image.tolist() == ["a"]
    assert not temporary_files(folder)


@pytest.mark.slow
def test_an_audit_killed_at_any_system_call_of_its_start_restarts(tmp_path):
    """Killed at each relevant system call at the start, by a replacement that exits at once."""
    code = """
import os, sys
from pathlib import Path
from robustness.runs.schema import Manifest
import robustness.runs.store as store, robustness.runs.run_folder as runfolder
left = int(sys.argv[2])
def counted(function):
    def call(*a, **k):
        global left
        left -= 1
        if left < 0: os._exit(9)
        return function(*a, **k)
    return call
Path.mkdir = counted(Path.mkdir)
Path.write_bytes = counted(Path.write_bytes)
Path.replace = counted(Path.replace)
store._create = counted(store._create)
store._identity = counted(store._identity)
store.Run.create(sys.argv[1], Manifest(command="begun")).close()
"""
    ended = []
    for number in range(20):
        folder = tmp_path / str(number)
        command = [sys.executable, "-c", code, str(folder), str(number)]
        ended.append(subprocess.run(command, check=False).returncode)
        if ended[-1] == 0:
            break
        if not (folder / "run.json").exists():
            Run.create(folder, Manifest(command="again")).close()
        Run.resume(folder).close()
    assert ended[-1] == 0 and ended.count(9) >= 6


def with_a_note(folder: Path) -> None:
    pictures(folder)
    (folder / "notes.txt").write_text("mine")


def with_pictures(folder: Path) -> None:
    (folder / "images" / "ab").mkdir(parents=True)
    (folder / "images" / "ab" / "mine.png").write_bytes(b"mine")


def with_rows(folder: Path) -> None:
    with Run.create(folder, Manifest()) as run:
        run.add([outcome("a")])
    (folder / "run.json").unlink()


def with_a_big_file_for_a_database(folder: Path) -> None:
    folder.mkdir()
    (folder / "run.sqlite").write_bytes(os.urandom(2 << 20))


def with_a_link(folder: Path) -> None:
    folder.mkdir()
    (folder / "images").symlink_to(folder.parent)


@pytest.mark.parametrize(
    "there", [with_a_note, with_pictures, with_rows, with_a_big_file_for_a_database, with_a_link]
)
def test_folders_with_content_are_never_cleared(tmp_path, there):
    folder = tmp_path / "run"
    there(folder)
    before = {p: p.is_file() and p.read_bytes() for p in folder.rglob("*") if "-shm" not in p.name}
    with pytest.raises(RunUsageError, match="is not empty") as told:
        Run.create(folder, Manifest())
    assert "--resume" not in str(told.value)
    with pytest.raises(RunUsageError) as told:
        Run.resume(folder)
    after = {p: p.is_file() and p.read_bytes() for p in folder.rglob("*") if "-shm" not in p.name}
    assert {p: after.get(p) for p in before} == before


def test_errors_of_an_incomplete_run_do_not_suggest_each_other(tmp_path):
    folder = tmp_path / "run"
    Run.create(folder, Manifest()).close()
    (folder / "run.sqlite").unlink()
    for way in (lambda: Run.create(folder, Manifest()), lambda: Run.resume(folder)):
        with pytest.raises(RunUsageError, match=r"run\.sqlite") as told:
            way()
        assert "--resume" not in str(told.value)


def test_temporary_files_of_a_killed_audit_are_removed(tmp_path):
    folder = tmp_path / "run"
    with Run.create(folder, Manifest()) as run:
        name = run.save_png(b"picture")
    (folder / Path(name).parent / ".x.png.1-2.part").write_bytes(b"half")
    (folder / ".run.json.1-2.part").write_bytes(b"{")
    Run.resume(folder).close()
    assert not temporary_files(folder)
    assert (folder / name).read_bytes() == b"picture"


def test_an_audit_interrupted_at_the_start_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("robustness.runs.store.replace_within", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Run.create(tmp_path / "a" / "run", Manifest())
    assert not list(tmp_path.iterdir())


def test_output_paths_are_checked_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    disk_errors.expect_place(tmp_path / "new" / "deep" / "page.html")
    disk_errors.expect_place(tmp_path / "file")
    for wrong in (tmp_path, tmp_path / "file" / "page.html"):
        with pytest.raises(ValueError, match="folder"):
            disk_errors.expect_place(wrong)
    with pytest.raises(StorageError, match="too long"):
        disk_errors.expect_place(tmp_path / ("x" * 300))


def test_missing_space_for_temporary_files_is_reported(monkeypatch):
    import tempfile

    from robustness.auditing.audit import _temporary_folder

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(StorageError, match="TMPDIR"):
        _temporary_folder()
    assert run_folder.in_use(Path("/proc/none")) is False
