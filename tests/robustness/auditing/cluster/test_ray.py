"""Real workers: Ray actors on this machine, one of which is killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from dataclasses import replace

import pytest

import robustness
from robustness.auditing.cluster import pool
from robustness.auditing.cluster.spread_evaluation import SpreadEvaluation
from robustness.errors import ClusterError, ImagesError
from robustness.runs.store import Run
from robustness.verification import evaluation
from tests.robustness.auditing.cluster.test_driver import OPTIONS, content, material, undivided
from tests.robustness.runs.test_evidence_upload import URL, server

pytest.importorskip("ray")
__all__ = ["material", "server", "undivided"]


def worker_processes() -> set[int]:
    """The processes of Ray's workers that descend from this one, by their title.

    Another test may run workers at the same time.
    """
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [(*line.split(maxsplit=2), "")[:3] for line in listed.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}

    def is_mine(pid: int) -> bool:
        while pid and pid != os.getpid():
            pid = parents.get(pid, 0)
        return bool(pid)

    named = [int(pid) for pid, _, title in rows if re.match("ray::(Evaluation)?Worker", title)]
    return set(filter(is_mine, named))


@pytest.mark.slow
def test_a_killed_worker_changes_no_row_and_no_process_is_left(material, undivided, tmp_path):
    file, images, labels = material
    before = worker_processes()
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end and not killed:
            if mine := worker_processes() - before:
                # It may be loading the model, predicting or attacking.
                killed.append(mine.pop())
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    robustness.audit(
        str(file), images, labels=labels, out=tmp_path / "run", cluster="local:2", **OPTIONS
    )
    thread.join()
    assert killed
    assert content(tmp_path / "run") == undivided
    with Run.open(tmp_path / "run") as run:
        entry = run.manifest.cluster
    assert entry is not None and entry.address == "local:2"
    assert all(worker.like for worker in entry.workers)
    assert sum(worker.images for worker in entry.workers) > 0
    end = time.monotonic() + 30
    while worker_processes() - before and time.monotonic() < end:
        time.sleep(0.2)
    assert not worker_processes() - before


@pytest.mark.slow
def test_a_stopped_process_holds_up_no_attack(material, undivided, tmp_path, server):
    """One worker is halted while it attacks; the audit ends without it. The pictures go to a bucket."""
    file, images, labels = material
    before = worker_processes()
    halted: list[int] = []

    def halt(progress) -> None:
        if progress.stage.startswith("pgd") and progress.done > 20 and not halted:
            halted.append(min(worker_processes() - before))
            os.kill(halted[0], signal.SIGSTOP)

    started = time.monotonic()
    try:
        robustness.audit(
            str(file),
            images,
            labels=labels,
            out=tmp_path / "run",
            cluster="local:2",
            progress=halt,
            evidence_to=URL,
            **OPTIONS,
        )
    finally:
        for process in halted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    # Starting Ray and loading the model are most of it; a worker is given up after 300 s.
    assert halted and time.monotonic() - started < 250
    pictures = (tmp_path / "run" / "images").rglob("*.png")
    saved = {path.relative_to(tmp_path / "run").as_posix(): path.read_bytes() for path in pictures}
    place = f"{URL.removeprefix('s3://')}/"
    sent = {k.removeprefix(place): v for k, v in server.objects.items() if "/images/" in k}
    assert saved and sent == saved
    assert content(tmp_path / "run") == undivided


def test_what_a_worker_raises_is_an_error_of_the_audit():
    """A module that a worker cannot import fails inside Ray, as it loads what it was sent."""
    ray_errors = pytest.importorskip("ray.exceptions")
    missing = ray_errors.RaySystemError("No module named 'my_attack'")
    found = pool._cause(ray_errors.RayTaskError("begin", "...", missing), ray_errors.RayError)
    assert isinstance(found, ClusterError)
    assert "No module named 'my_attack'" in str(found)
    own = ImagesError("There is no such folder.")
    raised = ray_errors.RayTaskError("begin", "...", own)
    assert pool._cause(raised, ray_errors.RayError) is own


def test_a_cluster_that_is_not_there_is_named(material, tmp_path):
    file, images, labels = material
    with pytest.raises(ClusterError, match="ray start --head"):
        robustness.audit(
            str(file),
            images,
            labels=labels,
            out=tmp_path / "run",
            cluster="127.0.0.1:1",
            **OPTIONS,
        )


@pytest.mark.slow
def test_a_verification_by_workers_of_which_one_is_killed_is_that_of_one_process(
    material, tmp_path, monkeypatch
):
    file, images, labels = material
    robustness.audit(str(file), images, labels=labels, out=tmp_path / "run", **OPTIONS)
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as database:
        database.execute("UPDATE outcomes SET confidence_after = 0.1 WHERE rowid % 5 = 0")
    database.close()
    alone = robustness.verify(tmp_path / "run", str(file))
    assert alone.faults
    # Many small chunks, so that there is something left when the worker dies.
    monkeypatch.setattr(evaluation, "CHUNK", 2)
    before = worker_processes()
    killed: list[int] = []
    keep = SpreadEvaluation._keep

    def kill_after_first(self, worker, evaluated):
        if not killed:
            killed.append((worker_processes() - before).pop())
            os.kill(killed[0], signal.SIGKILL)
        keep(self, worker, evaluated)

    monkeypatch.setattr(SpreadEvaluation, "_keep", kill_after_first)
    found = robustness.verify(tmp_path / "run", str(file), cluster="local:2")
    assert replace(found, shares=()) == alone
    *workers, driver = found.shares
    assert sum(share.pictures for share in workers) > 0 and driver.pictures == 0
    assert all(share.like for share in workers)
    assert killed and sum(share.lost for share in workers) <= 1
    assert not worker_processes() - before
