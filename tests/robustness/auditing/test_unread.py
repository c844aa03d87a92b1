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

SHAPE = (12, 12, 3)


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
