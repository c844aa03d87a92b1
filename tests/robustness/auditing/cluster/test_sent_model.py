"""A worker on a machine without the model's file gets the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import robustness
from robustness.auditing.cluster import sent_model, start
from robustness.auditing.cluster.sent_model import model_here
from robustness.auditing.cluster.worker import Worker
from tests.robustness.auditing.cluster.test_driver import (
    OPTIONS,
    ThreadWorkers,
    content,
    material,
    undivided,
)

__all__ = ["material", "undivided"]


def test_a_name_a_folder_and_a_large_file_are_not_sent(tmp_path, monkeypatch):
    file = tmp_path / "model.h5"
    file.write_bytes(b"abc")
    assert sent_model.sent_model(str(file)) == ("model.h5", b"abc")
    assert sent_model.sent_model(str(tmp_path)) is None
    assert sent_model.sent_model("dogs-vs-cats") is None
    monkeypatch.setattr(sent_model, "MOST_MODEL", 2)
    assert sent_model.sent_model(str(file)) is None


def test_a_file_that_exists_is_used_and_another_one_lies_in_no_chosen_place(tmp_path):
    file = tmp_path / "model.h5"
    file.write_bytes(b"abc")
    with model_here(str(file), ("model.h5", b"sent")) as path:
        assert path == str(file)
    with model_here("/nowhere/model.h5", ("../../model.h5", b"sent")) as path:
        assert Path(path).read_bytes() == b"sent" and Path(path).name == "model.h5"
        assert Path(path).parent.name.startswith("robustness-model-")
    assert not Path(path).exists()


@pytest.mark.slow
def test_an_audit_by_workers_without_the_file_is_that_of_one_process(
    material, undivided, tmp_path, monkeypatch
):
    file, images, labels = material
    moved = shutil.copy(file, tmp_path / "moved.keras")
    begin = Worker.begin

    def elsewhere(self, assignment):
        (tmp_path / "moved.keras").unlink(missing_ok=True)
        return begin(self, assignment)

    monkeypatch.setattr(Worker, "begin", elsewhere)
    monkeypatch.setattr(start, "Pool", lambda cluster, assignment: ThreadWorkers(assignment))
    out = tmp_path / "run"
    robustness.audit(moved, images, labels=labels, out=out, cluster="local:2", **OPTIONS)
    assert content(out) == undivided
