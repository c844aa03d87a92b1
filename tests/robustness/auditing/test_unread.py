"""Tests that the most frequent reason for unreadable pictures is reported with its count."""

import keras
import numpy as np
import pytest
from PIL import Image

import robustness
from robustness.auditing.inputs import labelled_arrays
from robustness.cli.result import show
from robustness.errors import ImagesError
from robustness.images import open_source
from robustness.reports import summarise
from robustness.reports.gate.verdict import verdict_of
from robustness.runs.store import Run
from tests.robustness.helpers import small_cnn
from tests.robustness.images.source_files import members, tar, write_records

SHAPE = (12, 12, 3)
RNG = np.random.default_rng(0)


def folder(path, good, broken, empty):
    path.mkdir()
    for n in range(good):
        Image.fromarray(np.full(SHAPE, 20 * n, np.uint8)).save(path / f"good {n}.png")
    for n in range(broken):
        (path / f"link {n}.png").symlink_to("gone.png")
    for n in range(empty):
        (path / f"empty {n}.png").touch()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("good", [0, 3])
def test_the_reason_for_unreadable_pictures_is_reported_with_its_count(tmp_path, good, capsys):
    total = 7 + good
    why = f"5 of {total}: it is a link, and there is nothing where it leads; 2: the file is empty"
    result = robustness.audit(
        small_cnn(6),
        folder(tmp_path / "photos", good, 5, 2),
        attacks=["fgsm"],
        out=tmp_path / "run",
    )
    with Run.open(result.path) as run:
        summary = summarise(run)
    assert any(f"could not be read and have no outcome ({why})" in one for one in summary.warnings)
    verdict = verdict_of(summary)
    assert (verdict.exit_code == 5) == (why in verdict.sentence) == (not good)
    show(result.path, [], as_json=False)
    assert f"not read: {why}." in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tar", "tfrecord"])
def test_an_archive_that_vanishes_before_the_first_pass_ends_the_audit(tmp_path, suffix):
    files = members(RNG.integers(0, 256, (6, *SHAPE)).astype(np.uint8), np.arange(6) % 2)
    paths = [tmp_path / f"data-{n}.{suffix}" for n in range(2)]
    for number, path in enumerate(paths):
        some = {name: one for at, (name, one) in enumerate(files.items()) if at % 2 == number}
        write_records(some, path) if suffix == "tfrecord" else path.write_bytes(tar(some))
    source = open_source(tmp_path, None, "none")
    paths[0].unlink()
    # What is left is audited, and the others have the reason.
    result = robustness.audit(small_cnn(6), source, attacks=["fgsm"], out=tmp_path / "some")
    with Run.open(result.path) as run:
        assert (run.images()["reason"].fillna("") != "").sum() == 3
    paths[1].unlink()
    with pytest.raises(ImagesError, match=r"gone or changed since they were listed \(data-0"):
        robustness.audit(small_cnn(6), source, attacks=["fgsm"], out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    # A run that has begun goes on.
    robustness.audit(small_cnn(6), source, attacks=["fgsm"], out=tmp_path / "some", resume=True)


def test_an_undecided_scaling_reports_why_no_picture_was_read(tmp_path):
    layers = [
        keras.Input(SHAPE),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    for good, said in (
        (0, r"no image can be read \(5 of 7: it is a link"),
        (3, "labelled images"),
    ):
        with pytest.raises(robustness.RobustnessError, match=said):
            robustness.audit(model, folder(tmp_path / f"{good}", good, 5, 2), attacks=["fgsm"])


def test_fitting_reports_why_no_picture_was_read(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    with pytest.raises(
        ImagesError, match=r"no labelled image can be read \(2 of 2: the file is empty\)"
    ):
        labelled_arrays(small_cnn(6, classes=2), open_source(tmp_path))
