"""Tests of verification: a valid run passes, every later alteration is reported with its kind."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import robustness
from robustness.attacks import BIM
from robustness.cli.verify import by_image
from robustness.engine.judge import distances
from robustness.engine.votes import Vote
from robustness.errors import ModelError, RunError
from robustness.images.png import from_png, to_png
from robustness.runs.records import ImageRow
from robustness.runs.store import Run
from robustness.verification import random_models
from robustness.verification.pictures import broken_files, measured
from robustness.verification.rows import RunContents
from robustness.verification.verify import Verification, verify
from tests.robustness.helpers import small_cnn

CLASSIFIER = small_cnn(9)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verification") / "run"
    images = np.random.default_rng(4).integers(0, 256, (30, 12, 12, 3)).astype(np.uint8)
    labels = CLASSIFIER.probabilities(images).argmax(1)
    labels[::8] = (labels[::8] + 1) % 3
    robustness.audit(
        CLASSIFIER, images, labels=labels, attacks=[BIM(steps=8)], epsilons=[2, 8], out=folder
    )
    return folder


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "run")


def checked(path: Path, classifier=CLASSIFIER) -> Verification:
    with Run.open(path) as opened:
        return verify(opened, classifier)


def flips(path: Path, epsilon: float = 8):
    """The flips at one epsilon that are not carried over from a smaller one."""
    with Run.open(path) as opened:
        rows = opened.outcomes().query("status == 'flipped'")
    first = rows.sort_values("epsilon").drop_duplicates("image")
    return first[first.epsilon == epsilon].reset_index(drop=True)


def original_of(path: Path, key: str) -> str:
    with Run.open(path) as opened:
        return str(next(row.png for row in opened.image_rows() if row.key == key))


def change(path: Path, statement: str, *values) -> None:
    database = sqlite3.connect(path / "run.sqlite")
    assert database.execute(statement, values).rowcount > 0
    database.commit()
    database.close()


def kinds(found: Verification, image: str) -> set[str]:
    return {fault.what for fault in found.faults if fault.image == image}


@pytest.mark.slow
def test_a_valid_run_passes(sound):
    found = checked(sound)
    assert found.faults == ()
    assert found.exit_code == 0
    assert found.held == found.checked == found.flips > 10
    assert found.steps > 0
    assert found.strangers == 0
    assert "flips hold" in found.sentence
    assert json.loads(json.dumps(found.to_dict()))["exit_code"] == 0


def test_four_alterations_are_all_reported(run):
    rows = flips(run)
    over, swapped, other, torn, edited = rows.head(5).to_dict("records")
    # One component exceeds the budget by one count, under the old name.
    before = from_png((run / original_of(run, over["image"])).read_bytes()).astype(int)
    after = from_png((run / over["png"]).read_bytes()).astype(int)
    place = tuple(np.argwhere(before + 9 <= 255)[0])
    after[place] = before[place] + 9
    (run / over["png"]).write_bytes(to_png(after.astype(np.uint8)))
    # The picture of another flip.
    (run / swapped["png"]).write_bytes((run / other["png"]).read_bytes())
    (run / torn["png"]).write_bytes((run / torn["png"]).read_bytes()[:200])
    change(
        run,
        "UPDATE outcomes SET l2 = l2 / 2 WHERE image = ? AND epsilon = 8",
        edited["image"],
    )
    found = checked(run)
    assert found.exit_code == 1
    assert {"file", "budget", "distance"} <= kinds(found, over["image"])
    assert any("9 away" in f.sentence and "budget is 8" in f.sentence for f in found.faults)
    assert {"file", "distance"} <= kinds(found, swapped["image"])
    assert kinds(found, torn["image"]) == {"file"}
    assert any("cannot be read as a picture" in f.sentence for f in found.faults)
    assert kinds(found, edited["image"]) == {"distance"}
    assert any("l2 is" in f.sentence for f in found.faults if f.image == edited["image"])
    named = {f.image for f in found.faults}
    assert named == {r["image"] for r in (over, swapped, torn, edited)}
    assert found.held == found.checked - 4
    # Also on the terminal: each image once, whatever number of outcomes refer to its picture.
    told = by_image(found.faults)
    assert list(told) == list(dict.fromkeys(f.image for f in found.faults))
    for image, lines in told.items():
        said = [(alike[0].what, alike[0].sentence) for alike in lines]
        assert len(set(said)) == len(said)
        mine = [f for f in found.faults if f.image == image]
        assert sum(len(alike) for alike in lines) == len(mine)
        assert set(said) == {(f.what, f.sentence) for f in mine}


def test_a_picture_beyond_the_budget_is_found_with_matching_name_and_row(run):
    row = flips(run).iloc[0]
    before = from_png((run / original_of(run, row.image)).read_bytes())
    after = from_png((run / row.png).read_bytes()).astype(int)
    after += 9 * np.sign(after - before)
    after = np.clip(after, 0, 255).astype(np.uint8)
    with Run.resume(run) as opened:
        name = opened.save_png(to_png(after))
    far = distances(before, after)
    assert far.linf > 8
    change(
        run,
        "UPDATE outcomes SET png=?, l0=?, components=?, l1=?, l2=?, linf=? WHERE image=? AND epsilon=8",
        *(name, far.l0, far.components, far.l1, far.l2, far.linf, row.image),
    )
    assert "budget" in kinds(checked(run), row.image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("adversarial_class = (adversarial_class + 1) % 3", "class", "the row says class"),
        ("confidence_after = confidence_after - 0.01", "confidence", "The confidence in the flip"),
        ("confidence_before = 0.5", "row", "The confidence before is"),
        ("status = 'robust'", "row", "has the picture or the class of a flip"),
        ("status = 'misclassified'", "row", "is correctly classified"),
        ("status = 'solid'", "row", "expected one of flipped"),
        ("png = NULL", "row", "names no picture"),
        ("png = '../../run.json'", "file", "is missing"),
        ("linf = NULL", "distance", "the row says nothing"),
    ],
)
def test_an_edited_outcome_is_reported(run, statement, kind, said):
    row = flips(run).iloc[0]
    change(run, f"UPDATE outcomes SET {statement} WHERE image = ? AND epsilon = 8", row.image)
    found = checked(run)
    named = {(f.what, f.image) for f in found.faults}
    assert (kind, row.image) in named
    assert any(said in f.sentence for f in found.faults), [f.sentence for f in found.faults]
    assert {image for _, image in named} == {row.image}


def test_a_flip_equal_to_its_original_is_reported(run):
    row = flips(run).iloc[0]
    name = original_of(run, row.image)
    change(
        run,
        "UPDATE outcomes SET png=?, l0=0, components=0, l1=0, l2=0, linf=0 WHERE image=? AND epsilon=8",
        *(name, row.image),
    )
    found = checked(run)
    assert any("does not flip" in f.sentence for f in found.faults)


def test_deleted_added_and_inconsistent_rows_are_reported(run):
    row = flips(run, 2).iloc[0]
    change(
        run,
        "UPDATE outcomes SET status='robust', png=NULL, adversarial_class=NULL WHERE image=? AND epsilon=8",
        row.image,
    )
    other = flips(run).iloc[0]
    change(run, "DELETE FROM outcomes WHERE image = ? AND epsilon = 8", other.image)
    change(
        run, "INSERT INTO outcomes (image, attack, epsilon, status) VALUES ('x', 'y', 1, 'robust')"
    )
    found = checked(run)
    said = " ".join(f.sentence for f in found.faults)
    assert "flips at epsilon 2 already" in said
    assert "The outcome is missing" in said
    assert "does not belong to the run" in said


def test_an_exchanged_original_is_reported(run):
    row = flips(run).iloc[0]
    picture = np.full((12, 12, 3), 7, np.uint8)
    with Run.resume(run) as opened:
        name = opened.save_png(to_png(picture))
    change(run, "UPDATE images SET png = ? WHERE key = ?", name, row.image)
    found = checked(run)
    assert any("not the one that was audited" in f.sentence for f in found.faults)
    assert {"file", "distance"} <= kinds(found, row.image)
    change(run, "UPDATE images SET digest = 'made to fit' WHERE key = ?", row.image)
    assert any(f.what == "run" and "keys and hashes" in f.sentence for f in checked(run).faults)


def test_a_decompression_bomb_is_not_decoded(run):
    row = flips(run).iloc[0]
    (run / row.png).write_bytes(to_png(np.zeros((4000, 4000, 1), np.uint8)))
    found = checked(run)
    assert any("its shape is (4000, 4000, 1)" in f.sentence for f in found.faults)


def test_another_model_is_reported(sound):
    found = checked(sound, small_cnn(10))
    assert found.faults[0].what == "model"
    assert "weights have the hash" in found.faults[0].sentence
    assert "class" in {f.what for f in found.faults}
    with pytest.raises(ModelError, match="expected the model that was audited"):
        checked(sound, small_cnn(9, (10, 10, 3)))


def test_an_exchanged_step_picture_is_reported(run):
    with Run.open(run) as opened:
        strip = opened.strips().iloc[0]
    change(
        run,
        "UPDATE strips SET probabilities = '[1, 0, 0.5]' WHERE image = ? AND step = ?",
        *(strip.image, int(strip.step)),
    )
    found = checked(run)
    assert any("The probabilities of step" in f.sentence for f in found.faults)


def test_at_most_the_given_number_of_flips_is_checked(sound):
    with Run.open(sound) as opened:
        total, faults = broken_files(opened)
        found = [broken_files(opened, most)[0] for most in (0, 1, 3, total, total + 1)]
    assert found == [0, 1, 3, total, total] and not faults


@pytest.mark.parametrize(("votes", "faults"), [([0, 60, 0], 0), ([60, 0, 0], 1)])
def test_a_class_of_a_random_model_may_be_stored_as_a_float(sound, votes, faults):
    with Run.open(sound) as opened:
        claims = RunContents.of(opened)
    image = ImageRow(key="k", position=0, name="k", clean_class=np.float64(1.0))  # type: ignore[arg-type]
    found = list(random_models.clean(claims, image, Vote(np.array(votes), np.zeros(3), 60)))
    assert len(found) == faults


def test_a_run_without_pictures_cannot_be_verified(tmp_path):
    images = np.random.default_rng(4).integers(0, 256, (12, 12, 12, 3)).astype(np.uint8)
    robustness.audit(
        CLASSIFIER, images, attacks=["bim"], epsilons=[8], evidence="none", out=tmp_path / "r"
    )
    found = checked(tmp_path / "r")
    assert (found.exit_code, found.checked, found.faults) == (4, 0, ())
    assert found.flips > 0
    assert "none can be verified" in found.sentence


def test_an_incomplete_manifest_is_refused(run):
    manifest = json.loads((run / "run.json").read_text())
    del manifest["config"]["goal"]
    (run / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="is damaged"):
        checked(run)


def test_distances_agree_with_the_judge():
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = rng.integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
        after = np.where(rng.random(after.shape) < 0.5, before, after)
        far, judged = measured(before, after), distances(before, after)
        for norm, value in far.items():
            assert value == pytest.approx(judged.of(norm), rel=1e-12)
