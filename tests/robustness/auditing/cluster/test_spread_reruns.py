"""Diagnostics that run attacks again: by workers they find what one process finds."""

from __future__ import annotations

from typing import Any

import pytest

import robustness
from robustness.auditing.cluster import start
from robustness.auditing.cluster.pool import Event
from robustness.auditing.cluster.spread_reruns import LONGEST
from robustness.auditing.cluster.worker import Worker
from robustness.diagnostics.reruns import RERUNS
from robustness.runs.store import Run
from tests.robustness.auditing.cluster.test_driver import ThreadWorkers, material

__all__ = ["material"]
OPTIONS: dict[str, Any] = {
    "attacks": ["pgd:steps=3"],
    "epsilons": [8, 64],
    "thorough": True,
    "batch_size": 6,
}


def diagnoses(path):
    with Run.open(path) as run:
        return run.manifest.diagnostics


@pytest.fixture(scope="module")
def alone(material, tmp_path_factory):
    file, images, labels = material
    out = tmp_path_factory.mktemp("thorough") / "run"
    robustness.audit(str(file), images, labels=labels, out=out, **OPTIONS)
    return diagnoses(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "lost", "by_workers"),
    [
        pytest.param({}, (), 9, id="two like workers"),
        pytest.param({1: "0" * 64}, (), 9, id="other hardware makes none"),
        pytest.param({0: "0" * 64, 1: "1" * 64}, (), 0, id="no like worker: here"),
        pytest.param({}, (2, 4), 9, id="lost with a rerun"),
    ],
)
def test_workers_find_what_one_process_finds(
    material, alone, tmp_path, monkeypatch, kinds, lost, by_workers
):
    file, images, labels = material
    made: list[ThreadWorkers] = []
    reruns: list[int] = []
    makers: set[int] = set()
    rerun = Worker.rerun

    def noted(self, call, number, given):
        if number in lost and number not in reruns:
            reruns.append(number)
            (mine,) = [n for n, one in made[0]._objects.items() if one is self]
            del made[0]._objects[mine]
            made[0]._events.put(Event("lost", mine, "killed"))
            # A third worker takes its place.
            made[0]._joins.append(0)
            return
        for item in rerun(self, call, number, given):
            reruns.append(number)
            makers.update(n for n, one in made[0]._objects.items() if one is self)
            yield item

    def pool(cluster, assignment):
        made.append(ThreadWorkers(assignment, kinds=kinds))
        return made[0]

    monkeypatch.setattr(Worker, "rerun", noted)
    monkeypatch.setattr(start, "Pool", pool)
    parts: list[str] = []
    robustness.audit(
        str(file),
        images,
        labels=labels,
        out=tmp_path / "run",
        cluster="local:2",
        progress=lambda p: parts.append(p.part) if p.stage == "diagnostics" else None,
        **OPTIONS,
    )
    assert diagnoses(tmp_path / "run") == alone
    assert {d.status for d in alone if d.id in ("D09", "D10", "D12", "D22")} - {"skipped"}
    assert len(set(reruns)) == by_workers
    assert not makers & set(kinds)
    names = [one.__name__.replace("_", " ") for one in RERUNS]
    assert sorted(part for part in parts if part in names) == sorted(names)


def test_the_longest_reruns_exist():
    assert set(LONGEST) < {one.__name__ for one in RERUNS}
