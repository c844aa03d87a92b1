"""Tests of `merge`: shards make the undivided run to the bit; what does not fit is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robustness
from robustness.attacks import PGD
from robustness.errors import RunError, RunUsageError, SettingError
from robustness.images.png import to_png
from robustness.reports import summarise
from robustness.reports.comparison.compare import compare
from robustness.runs import merging
from robustness.runs.merging import merge_rows
from robustness.runs.records import ImageRow, OutcomeRow
from robustness.runs.store import Run
from robustness.verification.verify import verify
from tests import forked
from tests.robustness.helpers import small_cnn

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"attacks": [PGD(steps=3), "fgsm"], "epsilons": [1, 3, 6], "seed": 2}
TABLES = ("images", "outcomes", "strips", "gradients", "distances", "sizes", "uploads", "views")


def test_a_shard_that_cannot_be_names_the_run_that_states_it(folder, tmp_path):
    shutil.copytree(folder / "1", tmp_path / "bad")
    manifest = json.loads((tmp_path / "bad" / "run.json").read_text())
    manifest["config"]["shard"] = "9/3"
    (tmp_path / "bad" / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"bad is damaged: Shard 9/3 is not usable"):
        merge_rows([folder / "0", tmp_path / "bad", folder / "2"], tmp_path / "out")


def model_and_images():
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (23, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    labels[::8] = (labels[::8] + 1) % 3
    return classifier, images, labels


@pytest.fixture(scope="module")
def material():
    """A network, pictures with some wrong labels, the undivided run, and the runs of three shards."""
    return model_and_images()


@pytest.fixture(scope="module")
def folder(material, tmp_path_factory):
    """A folder with the runs `whole`, `0`, `1` and `2`."""
    classifier, images, labels = material
    place = tmp_path_factory.mktemp("shards")
    robustness.audit(classifier, images, labels=labels, out=place / "whole", **SETTINGS)
    for number in range(3):
        audit_shard(material, place / str(number), f"{number}/3")
    return place


def audit_shard(material, out: Path, shard: str, **changes: Any) -> None:
    classifier, images, labels = material
    robustness.audit(
        classifier, images, labels=labels, out=out, shard=shard, **{**SETTINGS, **changes}
    )


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with sqlite3.connect(path / "run.sqlite") as db:
        return {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in TABLES}


def pictures(path: Path) -> set[str]:
    return {p.name for p in (path / "images").glob("*/*")}


def plain_summary(path: Path) -> str:
    """The numbers of a report, without the manifest and the times."""
    with Run.open(path) as run:
        summary = summarise(run)
    cost = replace(summary.cost, seconds=None, stages=())
    return repr({k: v for k, v in vars(replace(summary, cost=cost)).items() if k != "manifest"})


def test_merged_shards_equal_the_undivided_run(material, folder, tmp_path):
    classifier, images, labels = material
    runs = [folder / str(n) for n in (2, 0, 1)]
    seen = []
    result = robustness.merge(
        runs,
        tmp_path / "merged",
        classifier,
        images,
        labels=labels,
        progress=lambda p: seen.append((p.stage, p.done, p.total)),
        **SETTINGS,
    )
    assert tables(tmp_path / "merged") == tables(folder / "whole")
    assert pictures(tmp_path / "merged") == pictures(folder / "whole")
    assert plain_summary(tmp_path / "merged") == plain_summary(folder / "whole")
    with Run.open(folder / "whole") as one, Run.open(tmp_path / "merged") as other:
        before, now = one.manifest, other.manifest
    for name in (
        "config", "model", "data", "class_names", "preflight", "budgets", "gate", "median_epsilon",
        "pixels_read", "survival", "diagnostics", "environment",
    ):  # fmt: skip
        assert getattr(now, name) == getattr(before, name), name
    assert now.finished
    assert [one.shard for one in now.merged] == ["0/3", "1/3", "2/3"]
    assert "merged from the runs of 3 shards" in now.notes[-1]
    assert [one for one in seen if one[0] == "merging"] == [("merging", n, 3) for n in range(4)]
    assert result.flip_rate == robustness.AuditResult(folder / "whole").flip_rate
    with Run.open(tmp_path / "merged") as run:
        assert not verify(run, classifier).faults
    assert not (tmp_path / "merged.merging").exists()


def test_a_shard_alone_is_a_run_that_is_verified_and_resumed(material, folder, tmp_path):
    classifier, images, labels = material
    shutil.copytree(folder / "1", tmp_path / "1")
    before = tables(tmp_path / "1")
    assert [row[1] for row in sorted(before["images"], key=lambda row: row[1])] == list(
        range(7, 15)
    )
    with Run.open(tmp_path / "1") as run:
        assert not verify(run, classifier).faults
        summary = summarise(run)
    assert any("shard 1/3 of an audit of 23 images" in warning for warning in summary.warnings)
    page = robustness.AuditResult(tmp_path / "1").report().read_text()
    assert "1/3 of 23 images" in page
    lost = next((tmp_path / "1" / "images").glob("*/*"))
    lost.unlink()
    robustness.audit(
        classifier, images, labels=labels, out=tmp_path / "1", shard="1/3", resume=True, **SETTINGS
    )
    assert tables(tmp_path / "1") == before
    assert lost.exists()
    with pytest.raises(RunUsageError, match=r"setting shard \(was 1/3, is None\)"):
        robustness.audit(
            classifier, images, labels=labels, out=tmp_path / "1", resume=True, **SETTINGS
        )


def test_without_a_model_the_rows_are_merged_and_the_audit_finishes_them(
    material, folder, tmp_path
):
    classifier, images, labels = material
    out = tmp_path / "merged"
    robustness.merge([folder / str(n) for n in range(3)], out)
    with Run.open(out) as run:
        assert not run.manifest.finished
        assert run.strips().empty
    robustness.audit(classifier, images, labels=labels, out=out, resume=True, **SETTINGS)
    assert tables(out) == tables(folder / "whole")
    with pytest.raises(SettingError, match="Only one of `model` and `images`"):
        robustness.merge([folder / "0"], tmp_path / "x", classifier)


def test_a_missing_shard_is_refused_or_computed_by_resume(material, folder, tmp_path):
    classifier, images, labels = material
    out = tmp_path / "merged"
    with pytest.raises(RunUsageError, match=r"shard 1/3 of 3 came with no run.*--partial"):
        robustness.merge([folder / "0", folder / "2"], out)
    assert not out.exists()
    merged = merge_rows([folder / "0", folder / "2"], out, partial=True)
    assert not merged.whole
    assert "is unfinished: shard 1/3 is missing" in merged.sentence
    with Run.open(out) as run:
        assert run.manifest.data.selected == 23
        assert not run.manifest.finished
    robustness.audit(classifier, images, labels=labels, out=out, resume=True, **SETTINGS)
    assert tables(out) == tables(folder / "whole")


def test_an_unfinished_shard_is_named_or_its_rows_are_taken(material, folder, tmp_path):
    classifier, images, labels = material
    begun = tmp_path / "1"
    shutil.copytree(folder / "1", begun)
    with Run.resume(begun) as run:
        run.write_manifest(run.manifest.with_changes(finished=None))
        late = [row for row in run.image_rows() if row.position > 11]
        keys = {row.key for row in late}
        run.drop(
            "outcomes",
            [
                asdict(row)
                for row in run.rows(OutcomeRow)
                if row.attack.startswith("fgsm") or row.image in keys
            ],
        )
        run.add([replace(row, png=None) for row in late])
    out = tmp_path / "merged"
    runs = [folder / "0", begun, folder / "2"]
    with pytest.raises(RunUsageError, match=r"1 is not finished.*robustness audit --resume .*1`"):
        merge_rows(runs, out)
    # A finished run of the same shard makes up for it.
    both = merge_rows([*runs, folder / "1"], tmp_path / "both")
    assert both.whole
    with Run.open(tmp_path / "both") as one, Run.open(folder / "whole") as other:
        assert list(one.image_rows()) == list(other.image_rows())
    merge_rows(runs, out, partial=True)
    robustness.audit(classifier, images, labels=labels, out=out, resume=True, **SETTINGS)
    assert tables(out) == tables(folder / "whole")


def test_the_same_shard_twice_agrees_or_is_named(material, folder, tmp_path):
    again = tmp_path / "again"
    audit_shard(material, again, "1/3", batch_size=2)
    runs = [folder / str(n) for n in range(3)]
    merged = merge_rows([*runs, again], tmp_path / "merged")
    assert merged.whole
    with Run.open(tmp_path / "merged") as run:
        assert "batch size 2, not " in " ".join(run.manifest.notes)
    with sqlite3.connect(again / "run.sqlite") as db:
        image, attack, epsilon, sure = db.execute(
            "SELECT image, attack, epsilon, confidence_after FROM outcomes WHERE status = 'flipped'"
        ).fetchone()
        db.execute(
            "UPDATE outcomes SET confidence_after = ? WHERE image = ? AND attack = ? AND epsilon = ?",
            (np.nextafter(sure, 0), image, attack, epsilon),
        )
    with pytest.raises(RunUsageError) as raised:
        merge_rows([*runs, again], tmp_path / "other")
    said = str(raised.value)
    assert f"another result for the image {image} ({attack} at epsilon {epsilon:g})" in said
    assert "confidence_after is" in said
    assert [p.name for p in tmp_path.iterdir() if "other" in p.name] == []


@pytest.mark.parametrize(
    ("shard", "changes", "reason"),
    [
        ("1/4", {}, r"number of shards \(was 3, is 4\)"),
        ("1/3", {"epsilons": [1, 3, 7]}, "setting epsilons"),
        ("1/3", {"seed": 3}, "setting seed"),
        ("1/3", {"attacks": ["fgsm"]}, "setting attacks"),
        ("1/3", {"limit": 20}, r"number of images \(was 23, is 20\)"),
    ],
)
def test_shards_of_different_audits_are_refused(material, folder, tmp_path, shard, changes, reason):
    audit_shard(material, tmp_path / "1", shard, **changes)
    with pytest.raises(RunUsageError, match=reason):
        merge_rows([folder / "0", tmp_path / "1", folder / "2"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def edit(path: Path, change: Any) -> None:
    file = path / "run.json"
    plain = json.loads(file.read_text())
    change(plain)
    file.write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda p: p["tool"].update(version="0.0.9"),
            "version of the toolkit .was 0.1.0, is 0.0.9",
        ),
        (lambda p: p["model"].update(weights_sha256="0" * 64), "model weights"),
        (lambda p: p["data"].update(selection_sha256="0" * 64), "selection of images"),
        (lambda p: p["config"].pop("shard"), "is a run of all images, not of a shard"),
    ],
)
def test_runs_whose_manifests_differ_are_refused(folder, tmp_path, change, reason):
    shutil.copytree(folder / "1", tmp_path / "1")
    edit(tmp_path / "1", change)
    with pytest.raises(RunUsageError, match=reason):
        merge_rows([folder / "0", tmp_path / "1", folder / "2"], tmp_path / "merged")


def test_other_hardware_is_noted(folder, tmp_path):
    shutil.copytree(folder / "1", tmp_path / "1")
    edit(tmp_path / "1", lambda p: p["environment"].update(device="GPU of the test"))
    merge_rows([folder / "0", tmp_path / "1", folder / "2"], tmp_path / "merged")
    with Run.open(tmp_path / "merged") as run:
        manifest = run.manifest
    assert any(
        "device GPU of the test, not " in note and ": 1/3" in note for note in manifest.notes
    )
    assert manifest.merged[1].environment["device"] == "GPU of the test"


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE images SET position = 3 WHERE position = 9", "are not those of shard 1/3"),
        ("UPDATE images SET digest = 'x' WHERE position = 9", "hash in run.json"),
        ("DELETE FROM outcomes WHERE rowid = 4", "images and .* outcomes; expected 8 and 48"),
        ("UPDATE outcomes SET epsilon = 5 WHERE epsilon = 6", "not requested"),
        ("UPDATE outcomes SET image = 'elsewhere' WHERE rowid = 1", "does not have"),
        ("UPDATE outcomes SET status = 'sturdy' WHERE rowid = 1", "the status sturdy"),
        ("UPDATE outcomes SET png = '../../run.json' WHERE png IS NOT NULL", "missing or damaged"),
        ("UPDATE outcomes SET forward = -1 WHERE rowid = 1", "expected a whole number"),
    ],
)
def test_damaged_rows_are_refused(folder, tmp_path, statement, reason):
    shutil.copytree(folder / "1", tmp_path / "1")
    with sqlite3.connect(tmp_path / "1" / "run.sqlite") as db:
        db.execute(statement)
    with pytest.raises(RunError, match=reason):
        merge_rows([folder / "0", tmp_path / "1", folder / "2"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("harm", ["changed", "gone", "link"])
def test_damaged_pictures_are_named(folder, tmp_path, harm):
    shutil.copytree(folder / "1", tmp_path / "1")
    with sqlite3.connect(tmp_path / "1" / "run.sqlite") as db:
        name = db.execute("SELECT png FROM outcomes WHERE png IS NOT NULL").fetchone()[0]
    file = tmp_path / "1" / name
    data = file.read_bytes()
    file.unlink()
    if harm == "changed":
        file.write_bytes(data + b"x")
    elif harm == "link":
        (tmp_path / "elsewhere.png").write_bytes(data)
        file.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(RunError, match=r"the picture .* is missing or damaged.*--resume"):
        merge_rows([folder / "0", tmp_path / "1", folder / "2"], tmp_path / "merged")


def merge_slowly(runs: list[Path], out: Path, copied: int) -> None:
    """Merge, and end the process with SIGKILL after some pictures."""
    save, count = Run.save_png, [0]

    def killing(store: Run, data: bytes, suffix: str = ".png") -> str:
        count[0] += 1
        if count[0] > copied:
            os.kill(os.getpid(), signal.SIGKILL)
        return save(store, data, suffix)

    merging._ROWS = 5
    Run.save_png = killing  # type: ignore[assignment]
    merge_rows(runs, out)


def test_a_killed_merge_goes_on_without_damage(folder, tmp_path):
    runs = [folder / str(n) for n in range(3)]
    merge_rows(runs, tmp_path / "expected")
    expected = tables(tmp_path / "expected")
    total = len(pictures(tmp_path / "expected"))
    out = tmp_path / "merged"
    for copied in (0, 3, total // 2, total - 1):
        process = forked.start(merge_slowly, runs, out, copied)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert not out.exists()
    merge_rows(runs, out)
    assert tables(out) == expected
    assert pictures(out) == pictures(tmp_path / "expected")
    assert not (tmp_path / "merged.merging").exists()
    # What a merge of other runs left is not taken over.
    forked.start(merge_slowly, runs, tmp_path / "other", 9).join(60)
    again = tmp_path / "again"
    shutil.copytree(folder / "2", again)
    edit(again, lambda p: p["environment"].update(device="another"))
    merge_rows([*runs[:2], again], tmp_path / "other")
    assert tables(tmp_path / "other") == expected


def test_the_memory_does_not_grow_with_the_rows(folder, tmp_path, monkeypatch):
    """Rows are read a few at a time: at no moment does the merge have more than two transactions' rows."""
    monkeypatch.setattr(merging, "_ROWS", 4)
    held, most = [0], [0]
    stream, add = Run.rows, Run.add_new

    def rows(run: Run, kind: Any) -> Any:
        for row in stream(run, kind):
            held[0] += 1
            most[0] = max(most[0], held[0])
            yield row

    def add_new(store: Run, some: Any) -> Any:
        held[0] -= len(some)
        return add(store, some)

    monkeypatch.setattr(Run, "rows", rows)
    monkeypatch.setattr(Run, "add_new", add_new)
    merge_rows([folder / str(n) for n in range(3)], tmp_path / "merged")
    assert most[0] == 4


def test_folders_that_are_not_free_or_in_use_are_refused(folder, tmp_path):
    runs = [folder / str(n) for n in range(3)]
    with pytest.raises(RunUsageError, match="already contains a run"):
        merge_rows(runs, folder / "whole")
    with pytest.raises(RunUsageError, match="is a run of all images, not of a shard"):
        merge_rows([folder / "whole", *runs], tmp_path / "merged")
    with pytest.raises(RunUsageError, match="is not a run"):
        merge_rows([tmp_path], tmp_path / "merged")
    shutil.copytree(folder / "whole", tmp_path / "mine.merging")
    with pytest.raises(RunUsageError, match="has a run that was not merged"):
        merge_rows(runs, tmp_path / "mine")
    shutil.copytree(folder / "1", tmp_path / "1")
    with Run.resume(tmp_path / "1"), pytest.raises(RunUsageError, match="in use"):
        merge_rows([folder / "0", tmp_path / "1", folder / "2"], tmp_path / "merged")
    (tmp_path / "empty").mkdir()
    merge_rows(runs, tmp_path / "empty")
    with Run.open(tmp_path / "empty") as run:
        assert sum(1 for _ in run.rows(ImageRow)) == 23


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "CI": "1",
        "COLUMNS": "160",
        "ROBUSTNESS_STATE": str(folder / "state"),
    }
    return forked.robustness(list(words), folder, environment)


def test_commands_merge_finish_and_ask_for_files_of_received_runs(material, tmp_path):
    classifier, images, labels = material
    classifier.model.save(tmp_path / "model.keras")
    for number, (image, label) in enumerate(zip(images[:12], labels[:12], strict=True)):
        (tmp_path / "photos" / str(label)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / str(label) / f"{number}.png").write_bytes(to_png(image))
    audit = ["audit", "model.keras", "photos", "--attack", "fgsm", "--epsilon", "2", "--quiet"]
    audit += ["--scaling", "0..1", "--report", "json"]
    for number in range(2):
        done = typed(tmp_path, *audit, "--shard", f"{number}/2", "--out", f"part-{number}")
        assert done.returncode == 0, done.stderr
        assert f"shard {number}/2; 6 of 12 selected" in done.stdout
    typed(tmp_path, *audit, "--out", "whole")
    done = typed(tmp_path, "merge", "part-1", "part-0", "--out", "merged", "--quiet")
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path / "merged") == tables(tmp_path / "whole")
    assert (tmp_path / "merged" / "report.json").exists()
    assert not compare(tmp_path / "whole", tmp_path / "merged").differs
    done = typed(tmp_path, "merge", "part-1", "--out", "partial", "--partial")
    assert done.returncode == 4
    assert "partial is unfinished: shard 0/2 is missing" in done.stderr
    # The merged run is sealed, so that its own files are loaded again.
    done = typed(tmp_path, "audit", "--resume", "partial", "--quiet")
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path / "partial") == tables(tmp_path / "whole")
    done = typed(tmp_path, "merge", "part-1", "--out", "again")
    assert done.returncode == 2
    assert "shard 0/2 of 2 came with no run" in done.stderr
    # A run that another user made names files that are not loaded.
    for number in range(2):
        edit(tmp_path / f"part-{number}", lambda p: p["origin"]["options"].update(images="/etc"))
    done = typed(tmp_path, "merge", "part-1", "part-0", "--out", "again")
    assert done.returncode == 2
    assert "would load the model 'model.keras' and the images '/etc'" in done.stderr
    assert not (tmp_path / "again").exists()
