"""Audits of pictures at their own size: evidence, resuming, verification, wrong use."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import robustness
from robustness.errors import RunError, SettingError
from robustness.images.png import to_png
from robustness.models.classifier import Classifier
from robustness.pipeline.named import parse_pipeline
from robustness.pipeline.upload import parse_upload
from robustness.runs.records import UploadRow, ViewRow
from robustness.runs.result import AuditResult
from robustness.runs.store import Run
from robustness.verification.verify import verify
from tests.robustness.helpers import small_cnn

SHAPE = (12, 12, 3)
SIZES = [(40, 30), (25, 61), (12, 12), (40, 30), (18, 50), (64, 33)]
OUTCOME = ["image", "attack", "epsilon", "status", "adversarial_class", "linf", "l2", "step", "png"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A folder of pictures of several sizes, without labels."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(11)
    for number, size in enumerate(SIZES):
        rough = rng.integers(60, 196, (6, 5, 3)).astype(np.uint8)
        smooth = Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC)
        smooth.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return small_cnn(8, SHAPE)


def audited(classifier: Classifier, images: Path, out: Path, **options: Any) -> AuditResult:
    given: dict[str, Any] = {
        "pipeline": "keras.load_img",
        "attacks": ["pgd:steps=8"],
        "epsilons": [4, 40],
    }
    return robustness.audit(classifier, images, out=out, **(given | options))


@pytest.fixture(scope="module")
def run(classifier, photographs, tmp_path_factory) -> Path:
    return audited(classifier, photographs, tmp_path_factory.mktemp("runs") / "png").path


@pytest.fixture(scope="module")
def jpeg_run(classifier, photographs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "jpeg"
    return audited(classifier, photographs, out, upload="jpeg:90").path


def rows(path: Path) -> pd.DataFrame:
    with Run.open(path) as opened:
        return opened.outcomes()[OUTCOME].sort_values(OUTCOME[:3]).reset_index(drop=True)


@pytest.mark.slow
def test_evidence_has_the_size_of_the_photograph(run, photographs):
    with Run.open(run) as opened:
        sizes, images = opened.sizes(), {row.key: row for row in opened.image_rows()}
        flips = opened.outcomes().dropna(subset=["png"])
        assert len(flips) >= 4
        for flip in flips.to_dict("records"):
            original = np.asarray(Image.open(photographs / images[flip["image"]].name)).astype(int)
            file = np.asarray(Image.open(io.BytesIO(opened.png(flip["png"])))).astype(int)
            assert file.shape == original.shape
            assert sizes[flip["image"]] == original.shape[:2]
            assert np.abs(file - original).max() == flip["linf"] <= flip["epsilon"]


@pytest.mark.slow
def test_the_class_of_a_file_is_that_of_the_named_code(run, classifier):
    convention = parse_pipeline("keras.load_img").convention
    with Run.open(run) as opened:
        for flip in opened.outcomes().dropna(subset=["png"]).to_dict("records"):
            image = convention.image_of_file(opened.png(flip["png"]), SHAPE)
            assert classifier.probabilities(image[None]).argmax() == flip["adversarial_class"]


@pytest.mark.slow
def test_the_run_records_its_pipeline(run):
    with Run.open(run) as opened:
        entry = opened.manifest.config.deployment
    assert entry is not None
    assert (entry.at, entry.upload, entry.max_side) == ("full", "png", 2048)
    assert (
        parse_pipeline(str(entry.pipeline)).convention
        == parse_pipeline("keras.load_img").convention
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "batch_size"),
    [("run", 1), ("run", 7), ("run", 64), ("jpeg_run", 1), ("jpeg_run", 64)],
)
def test_rows_do_not_depend_on_the_batch(
    which, batch_size, request, classifier, photographs, tmp_path
):
    upload = "png" if which == "run" else "jpeg:90"
    out = tmp_path / "run"
    again = audited(classifier, photographs, out, upload=upload, batch_size=batch_size)
    pd.testing.assert_frame_equal(rows(again.path), rows(request.getfixturevalue(which)))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run", "jpeg_run"])
def test_a_resumed_run_has_the_same_rows(which, request, classifier, photographs, tmp_path):
    done = request.getfixturevalue(which)
    upload = "png" if which == "run" else "jpeg:90"
    out = tmp_path / "run"

    class Killed(BaseException):
        pass

    def until(progress: object) -> None:
        if getattr(progress, "stage", "").startswith("pgd") and getattr(progress, "done", 0) >= 3:
            raise Killed

    with pytest.raises(Killed):
        audited(classifier, photographs, out, upload=upload, progress=until)
    resumed = audited(classifier, photographs, out, upload=upload, resume=True)
    pd.testing.assert_frame_equal(rows(resumed.path), rows(done))


@pytest.mark.slow
def test_the_evidence_is_verified_from_the_files(run, classifier):
    with Run.open(run) as opened:
        result = verify(opened, classifier)
    assert result.faults == ()
    assert result.held == result.checked > 0


@pytest.mark.slow
def test_uploaded_files_flip_and_are_verified(jpeg_run, classifier):
    upload = parse_upload("jpeg:90")
    convention = parse_pipeline("keras.load_img").convention
    with Run.open(jpeg_run) as opened:
        uploads = opened.uploads()
        flips = opened.outcomes().dropna(subset=["png"])
        assert len(uploads) == len(flips) > 0
        joined = flips.merge(uploads, on=["image", "attack", "epsilon"], suffixes=("", "_file"))
        for row in joined.to_dict("records"):
            data = opened.png(row["file"])
            picture = np.asarray(Image.open(io.BytesIO(opened.png(row["png"]))))
            assert row["file"].endswith(".jpg")
            assert data == upload.encode(picture)
            assert row["linf"] <= row["epsilon"]
            image = convention.image_of_file(data, SHAPE)
            assert classifier.probabilities(image[None]).argmax() == row["adversarial_class"]
        result = verify(opened, classifier)
    assert result.faults == ()
    assert result.held == len(flips)


@pytest.mark.slow
def test_a_changed_byte_of_an_uploaded_file_is_named(jpeg_run, classifier, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(jpeg_run, copy)
    file = sorted(copy.rglob("*.jpg"))[0]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with Run.open(copy) as opened:
        result = verify(opened, classifier)
    assert result.exit_code == 1
    relative = file.relative_to(copy).as_posix()
    assert relative in {fault.file for fault in result.faults}


@pytest.mark.slow
@pytest.mark.parametrize("renamed", [False, True])
def test_an_uploaded_file_that_cannot_be_decoded_is_named(renamed, jpeg_run, classifier, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(jpeg_run, copy)
    with Run.resume(copy) as opened:
        first = opened.uploads().to_dict("records")[0]
        row = UploadRow(**{str(column): value for column, value in first.items()})
        data = (copy / row.file).read_bytes()[:300]
        if renamed:
            digest = hashlib.sha256(data).hexdigest()
            row = replace(row, file=f"images/{digest[:2]}/{digest}.jpg")
            opened.add([row])
        (copy / row.file).parent.mkdir(exist_ok=True)
        (copy / row.file).write_bytes(data)
    with Run.open(copy) as opened:
        result = verify(opened, classifier)
    assert {fault.file for fault in result.faults} == {row.file}
    assert result.held == result.checked - len(result.faults) < result.checked


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run", "jpeg_run"])
def test_survival_counts_are_those_of_files_that_pillow_writes(which, request, classifier):
    convention = parse_pipeline("keras.load_img").convention
    with Run.open(request.getfixturevalue(which)) as opened:
        survival = opened.manifest.survival
        flips = opened.outcomes().query("epsilon == 40").dropna(subset=["png"])
        images = {row.key: row for row in opened.image_rows()}
        assert survival is not None
        assert (survival.epsilon, survival.examined) == (40, len(flips))
        points = {point.name: point for point in survival.points}
        for quality in (50, 90):
            counts = {"png": 0, "png_of_image": 0}
            for row in flips.to_dict("records"):
                image = images[row["image"]]
                for column, name in (("png", row["png"]), ("png_of_image", image.png)):
                    data = io.BytesIO()
                    picture = Image.open(io.BytesIO(opened.png(str(name))))
                    picture.save(data, "JPEG", quality=quality, subsampling=2)
                    seen = convention.image_of_file(data.getvalue(), SHAPE)
                    after = classifier.probabilities(seen[None]).argmax()
                    counts[column] += int(after != image.clean_class)
            point = points[f"jpeg:{quality}"]
            assert point.flips.count == counts["png"]
            assert point.originals is not None
            assert point.originals.count == counts["png_of_image"]
    if which == "jpeg_run":
        # A flip counts at the quality that was asked for.
        assert points["jpeg:90"].flips.count == points["jpeg:90"].flips.total
    assert "pillow:bilinear" in points
    assert "keras.load_img:nearest" not in points


@pytest.mark.slow
def test_what_the_model_sees_is_what_the_named_code_makes_of_the_file(jpeg_run):
    convention = parse_pipeline("keras.load_img").convention
    with Run.open(jpeg_run) as opened:
        views, uploads = opened.views(), opened.uploads()
        joined = views.merge(uploads, on=["image", "attack", "epsilon"])
        assert len(joined) == len(views) > 0
        for row in joined.to_dict("records"):
            seen = np.asarray(Image.open(io.BytesIO(opened.png(row["after"]))))
            np.testing.assert_array_equal(
                seen, convention.image_of_file(opened.png(row["file"]), SHAPE)
            )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["bytes", "another picture", "missing"])
def test_a_changed_picture_of_what_the_model_sees_is_named(way, jpeg_run, classifier, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(jpeg_run, copy)
    with Run.open(copy) as opened:
        name = opened.views()["after"].iloc[0]
    if way == "missing":
        (copy / name).unlink()
    elif way == "bytes":
        data = to_png(255 - np.asarray(Image.open(copy / name)))
        (copy / name).write_bytes(data)
    else:
        with Run.resume(copy) as opened:
            first = opened.views().to_dict("records")[0]
            row = ViewRow(**{str(column): value for column, value in first.items()})
            other = opened.save_png(to_png(255 - np.asarray(Image.open(copy / name))))
            opened.add([replace(row, after=other)])
            name = other
    with Run.open(copy) as opened:
        result = verify(opened, classifier)
    assert {fault.file for fault in result.faults} == {name}
    # Only "another picture" leaves a file that no row names.
    assert result.strangers == (way == "another picture")


@pytest.mark.slow
def test_damaged_uploads_and_views_are_made_again(jpeg_run, classifier, photographs, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(jpeg_run, copy)
    with Run.open(copy) as opened:
        upload, seen = opened.uploads()["file"].iloc[0], opened.views()["before"].iloc[0]
    (copy / upload).write_bytes(b"damaged")
    (copy / seen).unlink()
    resumed = audited(classifier, photographs, copy, upload="jpeg:90", resume=True)
    pd.testing.assert_frame_equal(rows(resumed.path), rows(jpeg_run))
    with Run.open(copy) as opened:
        assert opened.manifest.mended[-1].views == 1
        assert verify(opened, classifier).faults == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM sizes WHERE rowid % 2",
        "UPDATE sizes SET height = 0 WHERE rowid % 2",
        "UPDATE sizes SET height = 1000000000, width = 1000000000",
        "INSERT INTO sizes VALUES ('nobody.png', 5, 5)",
        "DELETE FROM uploads WHERE rowid % 2",
    ],
)
def test_altered_sizes_and_uploads_are_made_again(
    statement, jpeg_run, classifier, photographs, tmp_path
):
    run = shutil.copytree(jpeg_run, tmp_path / "run")
    altered(run, statement, "DELETE FROM outcomes WHERE epsilon = 40")
    mended = audited(classifier, photographs, run, upload="jpeg:90", resume=True)
    assert mended.mended
    assert database(run) == database(jpeg_run)


@pytest.mark.slow
def test_another_size_of_a_picture_is_refused(jpeg_run, classifier, photographs, tmp_path):
    run = shutil.copytree(jpeg_run, tmp_path / "run")
    statement = "UPDATE sizes SET height = height + 3"
    altered(run, statement, "DELETE FROM outcomes WHERE epsilon = 40")
    with pytest.raises(RunError, match="table of sizes"):
        audited(classifier, photographs, run, upload="jpeg:90", resume=True)
    finished = shutil.copytree(jpeg_run, tmp_path / "finished")
    altered(finished, statement)
    with pytest.raises(RunError, match="table of sizes"):
        audited(classifier, photographs, finished, upload="jpeg:90", resume=True)


def altered(run: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(run / "run.sqlite")) as opened, opened:
        for statement in statements:
            opened.execute(statement)


def database(run: Path) -> dict[str, list[str]]:
    """The rows of the tables whose rows every audit writes again."""
    tables = ("images", "outcomes", "sizes", "uploads", "views", "strips")
    with contextlib.closing(sqlite3.connect(run / "run.sqlite")) as opened:
        return {t: sorted(map(repr, opened.execute(f"SELECT * FROM {t}"))) for t in tables}


@pytest.mark.slow
def test_large_photographs_are_reduced_first(classifier, photographs, tmp_path):
    result = audited(classifier, photographs, tmp_path / "run", max_side=32)
    with Run.open(result.path) as opened:
        assert max(max(size) for size in opened.sizes().values()) == 32
        notes = [row.note for row in opened.image_rows()]
    assert sum("reduced from" in note for note in notes) == 5


def test_at_model_size_the_pipeline_makes_the_image(classifier, photographs, tmp_path):
    result = audited(classifier, photographs, tmp_path / "run", at="model")
    convention = parse_pipeline("keras.load_img").convention
    with Run.open(result.path) as opened:
        for row in opened.image_rows():
            pixels = np.asarray(Image.open(photographs / row.name))
            file = np.asarray(Image.open(io.BytesIO(opened.png(str(row.png)))))
            np.testing.assert_array_equal(file, convention.image(pixels, SHAPE))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"upload": "jpeg:0"}, "0"),
        ({"upload": "jpeg:90", "at": "model"}, "never uploaded"),
        ({"pipeline": "keras.lod_img"}, "keras.load_img"),
        ({"mask": "mask.png"}, "at model"),
    ],
)
def test_wrong_use_is_refused_before_the_model_runs(
    options, said, classifier, photographs, tmp_path
):
    Image.new("L", (12, 12), 255).save(tmp_path / "mask.png")
    if "mask" in options:
        options = {"mask": str(tmp_path / "mask.png")}
    with pytest.raises(SettingError, match=said):
        audited(classifier, photographs, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_photograph_smaller_than_the_crop_is_an_outcome(classifier, photographs, tmp_path):
    result = audited(classifier, photographs, tmp_path / "run", pipeline="pillow:crop=12")
    assert not (result.outcomes.status == "unreadable").any()
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    for path in photographs.iterdir():
        (narrow / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (40, 5)).save(narrow / "thin.png")
    result = audited(classifier, narrow, tmp_path / "thin", pipeline="pillow:crop=12")
    with Run.open(result.path) as opened:
        reasons = {row.name: row.reason for row in opened.image_rows() if row.reason}
    assert list(reasons) == ["thin.png"]
    assert "40 × 5" in reasons["thin.png"]


@pytest.mark.slow
@pytest.mark.parametrize(("pipeline", "turned"), [("keras.load_img", False), ("pillow", True)])
def test_a_photograph_is_turned_only_where_the_pipeline_turns_it(
    pipeline, turned, classifier, tmp_path
):
    folder = tmp_path / "photographs"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (40, 20), (120, 90, 60)).save(folder / "one.jpg", exif=exif)
    result = audited(classifier, folder, tmp_path / "run", pipeline=pipeline)
    with Run.open(result.path) as opened:
        assert list(opened.sizes().values()) == [(40, 20) if turned else (20, 40)]
        (row,) = opened.image_rows()
    assert ("not turned" in row.note) is not turned
