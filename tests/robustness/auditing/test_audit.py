"""Tests of `audit()`: counts, stored evidence, resuming after a kill, refused input."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sqlite3
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import robustness
from robustness.attacks import BIM, PGD, Square
from robustness.auditing import step_pictures
from robustness.auditing import work as auditing_work
from robustness.engine.compiled_batch import CompiledBatch
from robustness.engine.judge import distances
from robustness.errors import ImagesError, ModelError, RunError, SettingError
from robustness.images import from_arrays
from robustness.images.png import from_png
from robustness.runs.progress import Progress
from robustness.runs.store import Run
from robustness.verification.verify import verify
from tests import forked
from tests.robustness.helpers import small_cnn


@pytest.fixture(scope="module")
def material():
    """A network and pictures, with labels that make some images misclassified."""
    classifier = small_cnn(9)
    images = np.random.default_rng(4).integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    labels = classifier.probabilities(images).argmax(1)
    labels[::8] = (labels[::8] + 1) % 3
    return classifier, images, labels


def comparable(path) -> pd.DataFrame:
    with Run.open(path) as run:
        return run.outcomes()


@pytest.mark.slow
def test_images_with_the_highest_confidence_enter_first(material, monkeypatch):
    classifier, images, labels = material
    entered: list[int] = []
    search = auditing_work.search

    def heard(batch, subjects, **settings):
        def noted():
            for subject in subjects:
                entered.append(int(subject.key.removeprefix("row ")))
                yield subject

        return search(batch, noted(), **settings)

    monkeypatch.setattr(auditing_work, "search", heard)
    robustness.audit(classifier, images, labels=labels, attacks=[PGD(steps=2)], epsilons=[1])
    confidences = classifier.probabilities(images).max(axis=1)
    right = [i for i in range(len(images)) if i % 8]
    assert sorted(entered) == right
    assert confidences[entered].tolist() == sorted(confidences[right], reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_concurrent_preparation_does_not_change_outcomes(
    material, monkeypatch, tmp_path, precision, shared_graphs
):
    classifier, images, labels = material
    prepared = []

    def audited(name, prepare):
        shared_graphs.clear()  # or nothing is left to prepare
        monkeypatch.setattr(CompiledBatch, "prepare", prepare)
        settings = {"attacks": [PGD(steps=2)], "epsilons": [1, 4], "precision": precision}
        folder = tmp_path / name
        robustness.audit(classifier, images, labels=labels, out=folder, **settings)
        robustness.audit(classifier, images, labels=labels, out=folder, resume=True, **settings)
        return comparable(folder)

    def broken(rows):
        prepared.append(rows.batch_size)
        raise RuntimeError("no room")

    pd.testing.assert_frame_equal(
        audited("usual", CompiledBatch.prepare), audited("broken", broken)
    )
    # Once for each run: a lower precision uses a copy of the model, so that both can run at the same time.
    assert len(prepared) == 1


@pytest.mark.slow
def test_an_audit_counts_flips_of_correct_images_only(material, tmp_path):
    classifier, images, labels = material
    heard: list[Progress] = []
    result = robustness.audit(
        classifier, images, labels=labels, attacks=["bim", PGD(steps=5)], epsilons=[1, 4],
        out=tmp_path / "run", progress=heard.append,
    )  # fmt: skip
    frame = result.to_frame()
    assert ", ".join(frame.columns) == (
        "image, label, clean_class, attack, epsilon, status, adversarial_class, confidence_before, "
        "confidence_after, l0, l1, l2, linf, step, forward, backward"
    )
    assert len(frame) == 40 * 2 * 2
    wrong = frame.label != frame.clean_class
    assert (frame[wrong].status == "misclassified").all()
    assert set(frame[~wrong].status) <= {"flipped", "robust"}
    flipped = frame[frame.status == "flipped"]
    assert (flipped.adversarial_class != flipped.label).all()
    assert (flipped.linf <= flipped.epsilon).all()
    last = frame[(frame.epsilon == 4) & ~wrong]
    expected = (last.status == "flipped").groupby(last.image).any().mean()
    assert result.flip_rate == pytest.approx(expected)
    assert "flip rate" in repr(result)
    assert "<table" in result._repr_html_()
    ends = {p.stage: (p.done, p.total) for p in heard}
    assert all(ends.pop(stage) == (n, n) for stage, n in (("checks", 1), ("step pictures", 2)))
    done, total = ends.pop("diagnostics")
    assert done == total > 1
    assert ends == dict.fromkeys(("clean", "bim(steps=4)", "pgd(steps=5)"), (40, 40))


@pytest.mark.slow
def test_evidence_matches_the_rows(material, tmp_path):
    classifier, images, labels = material
    robustness.audit(
        classifier,
        images,
        labels=labels,
        epsilons=[2, 8],
        attacks=[BIM(steps=8)],
        out=tmp_path / "r",
    )
    with Run.open(tmp_path / "r") as run:
        originals = {row.key: row for row in run.image_rows()}
        flips = run.outcomes().query("status == 'flipped'")
        assert len(flips)
        for row in flips.itertuples():
            picture = from_png(run.png(str(row.png)))
            original = from_png(run.png(str(originals[str(row.image)].png)))
            far = distances(original, picture)
            assert (far.l0, far.l1, far.l2, far.linf) == (row.l0, row.l1, row.l2, row.linf)
            probabilities = classifier.probabilities(picture[None])[0]
            assert probabilities.argmax() == row.adversarial_class
        strips = run.strips()
        ends = strips.sort_values("step").groupby(["image", "attack", "epsilon"]).tail(1)
        both = ends.merge(flips, on=["image", "attack", "epsilon"], suffixes=("", "_flip"))
        assert len(both) == len(ends) > 0
        assert (both.png == both.png_flip).all()
        assert (both.step == both.step_flip).all()
        starts = strips[strips.step == 0]
        assert len(starts) == len(ends)
        counted = strips.groupby(["image", "attack", "epsilon"]).step
        assert (counted.count() == counted.max() + 1).all()


def test_of_many_steps_a_few_pictures_are_kept(material, tmp_path, monkeypatch):
    classifier, images, labels = material
    monkeypatch.setattr(step_pictures, "KEPT_STEPS", 3)
    robustness.audit(
        classifier,
        images[:6],
        labels=labels[:6],
        epsilons=[8],
        attacks=[BIM(steps=9)],
        all_steps=True,
        out=tmp_path / "r",
    )
    with Run.open(tmp_path / "r") as run:
        strips = run.strips()
        assert not strips.empty
        for _, steps in strips.groupby("image").step:
            # The last picture, of step 9, is the flip; those of the steps before it are made again.
            assert sorted(steps) == [0, 1, 5, 8, 9]
        assert not verify(run, classifier).faults


@pytest.mark.slow
@pytest.mark.parametrize(("evidence", "kept"), [("none", 0), ("3", 3)])
def test_evidence_can_be_limited(material, tmp_path, evidence, kept):
    classifier, images, labels = material
    robustness.audit(
        classifier,
        images,
        labels=labels,
        epsilons=[8],
        attacks=["bim"],
        evidence=evidence,
        out=tmp_path / "r",
    )
    with Run.open(tmp_path / "r") as run:
        flips = run.outcomes().query("status == 'flipped'")
        assert len(flips) > 3
        assert flips.png.notna().sum() <= kept
        assert flips.l2.notna().all()
        assert sum(row.png is not None for row in run.image_rows()) <= kept


def test_originals_of_robust_but_not_of_misclassified_images_are_kept(material, tmp_path):
    classifier, images, labels = material
    robustness.audit(
        classifier, images, labels=labels, epsilons=[1], attacks=["bim"], out=tmp_path / "r"
    )
    with Run.open(tmp_path / "r") as run:
        status = dict(zip(run.outcomes().image, run.outcomes().status, strict=True))
        assert {"robust", "misclassified"} <= set(status.values())
        for row in run.image_rows():
            if status[row.key] == "misclassified":
                assert row.png is None
            else:
                picture = from_png(run.png(str(row.png)))
                assert hashlib.sha256(picture.tobytes()).hexdigest() == row.digest
                assert picture.tobytes() in {image.tobytes() for image in images}
        assert not verify(run, classifier).faults


def test_evidence_all_stores_every_picture_of_the_model(material, tmp_path):
    classifier, images, labels = material
    robustness.audit(
        classifier,
        images,
        labels=labels,
        epsilons=[1],
        attacks=["bim"],
        evidence="all",
        out=tmp_path / "r",
    )
    with Run.open(tmp_path / "r") as run:
        rows = run.image_rows()
        assert {r.status for r in run.outcomes().itertuples()} > {"flipped"}
        kept = [from_png(run.png(str(row.png))) for row in rows]
        assert not verify(run, classifier).faults
    assert {picture.tobytes() for picture in kept} == {image.tobytes() for image in images}


def test_pictures_without_labels_are_attacked_from_their_prediction(material):
    classifier, images, _ = material
    frame = robustness.audit(classifier, images, epsilons=[4], attacks=["bim"]).to_frame()
    assert frame.label.isna().all()
    assert set(frame.status) <= {"flipped", "robust"}


def test_images_of_the_target_class_are_not_attacked(material):
    classifier, images, labels = material
    frame = robustness.audit(
        classifier, images, labels=labels, epsilons=[16], attacks=[BIM(steps=16)], target="class 1"
    ).to_frame()
    assert not (frame.label == "class 1").any()
    assert set(frame.adversarial_class.dropna()) == {"class 1"}


def test_an_unreadable_picture_is_an_outcome_and_hostile_names_are_harmless(material, tmp_path):
    classifier, images, _ = material
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ["<img src=x onerror=alert(1)>.png", "=cmd|'' !A0.png", "näme\u202egnp.png"]
    for name, image in zip(names, images, strict=False):
        Image.fromarray(image).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    (folder / "empty.png").write_bytes(b"")
    frame = robustness.audit(
        classifier, folder, epsilons=[8], attacks=["bim"], out=tmp_path / "r"
    ).to_frame()
    states = frame.set_index("image").status
    assert states["broken.jpg"] == states["empty.png"] == "unreadable"
    assert all(states[name] in ("flipped", "robust") for name in names)
    kept = [p.name for p in (tmp_path / "r" / "images").rglob("*.png")]
    assert all(len(name) == 68 for name in kept)


@pytest.mark.slow
def test_other_attacks_continue_where_the_gradient_is_missing(material, tmp_path):
    classifier, images, labels = material
    inputs = keras.Input(classifier.input_shape)
    hidden = keras.Model(inputs, classifier.model(keras.ops.stop_gradient(inputs)))
    masked = robustness.Classifier(hidden, scaling="0..1", name="masked")
    square = Square(steps=200)
    threat = {"epsilons": [8.0, 64.0], "out": tmp_path / "run"}
    result = robustness.audit(masked, images, labels=labels, attacks=[square, PGD()], **threat)
    attacked = result.outcomes.query("status in ('flipped', 'robust', 'failed')")
    mine = attacked.groupby(attacked.attack.str.split("(").str[0]).status
    assert set(mine.get_group("pgd")) == {"failed"}
    assert set(mine.get_group("square")) == {"flipped", "robust"}
    assert attacked.reason[attacked.status == "failed"].str.contains("no gradient to follow").all()
    with Run.open(result.path) as run:
        assert {d["id"]: d["status"] for d in run.manifest.to_json()["diagnostics"]}[
            "D03"
        ] == "fail"
        # A flip found without a gradient counts.
        assert not verify(run, masked).faults


@pytest.mark.slow
def test_images_on_which_the_model_fails_are_named(monkeypatch):
    """Those of the checks, those after them, and those that are attacked."""
    classifier, images = small_cnn(3), np.full((80, 12, 12, 3), 60, np.uint8)
    images += np.random.default_rng(0).integers(0, 100, images.shape, dtype=np.uint8)
    predict, names = classifier._predict, [f"{n}.png" for n in range(80)]

    class Refusing:
        def __init__(self, bad):
            self.bad = bad

        def __call__(self, inputs):
            if self.bad(np.asarray(inputs) * 255):
                raise ValueError("refused")
            return predict(inputs)

        def __getattr__(self, name):
            return getattr(predict, name)

    def audited(some):
        source = from_arrays(some, names=names[: len(some)])
        robustness.audit(classifier, source, attacks=["fgsm"], epsilons=[4])

    def white(pixels):
        return (np.rint(pixels) == 250).all(axis=(1, 2, 3)).any()

    monkeypatch.setattr(classifier, "_predict", Refusing(white))
    for number in (7, 70):
        some = images.copy()
        some[number] = 250
        with pytest.raises(ModelError, match=rf"refused.*fails on 1 image: {number}\.png"):
            audited(some)
    # Flat pictures, of which the attack makes others.
    flat = np.broadcast_to(np.arange(100, 108, dtype=np.uint8)[:, None, None, None], (8, 12, 12, 3))
    monkeypatch.setattr(
        classifier,
        "_predict",
        Refusing(lambda p: bool(set(np.rint(p).ravel().astype(int)) & {96, 111})),
    )
    with pytest.raises(ModelError, match=r"refused.*fgsm\(steps=1\) was attacking 8 images: "):
        audited(np.ascontiguousarray(flat))


def test_a_source_of_only_unreadable_pictures_is_audited(material, tmp_path):
    classifier, *_ = material
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    result = robustness.audit(classifier, tmp_path / "photos", epsilons=[8], attacks=["bim"])
    assert result.to_frame().status.tolist() == ["unreadable"]
    assert np.isnan(result.flip_rate)


def work(model: str, data: str, run: str, slots: int) -> None:
    robustness.audit(
        model, data, attacks=[PGD(steps=12, restarts=2)], epsilons=[1, 2, 3, 4], batch_size=slots,
        out=run, resume=(Path(run) / "run.json").exists(), scaling="0..1",
    )  # fmt: skip


def start(folder: Path, run: Path, slots: int = 4) -> ForkServerProcess:
    names = (str(path) for path in (folder / "model.keras", folder / "data.npz", run))
    return forked.start(work, *names, slots)


def ended(process: ForkServerProcess) -> int | None:
    process.join()
    return process.exitcode


@pytest.mark.slow
def test_a_killed_audit_resumes_to_the_same_outcomes(material, tmp_path):
    classifier, images, labels = material
    classifier.model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    undisturbed = start(tmp_path, tmp_path / "whole")
    assert ended(undisturbed) == 0
    expected = comparable(tmp_path / "whole")
    killed, rng = 0, random.Random(0)
    for _ in range(3):
        process = start(tmp_path, tmp_path / "killed")
        # Killed while outcomes are written, not while TensorFlow is imported.
        before = rows_in(tmp_path / "killed")
        while process.is_alive() and rows_in(tmp_path / "killed") < before + rng.randrange(8, 40):
            time.sleep(0.01)
        if process.is_alive():
            process.kill()
            killed += 1
        process.join()
    assert killed
    last = start(tmp_path, tmp_path / "killed")
    assert ended(last) == 0
    pd.testing.assert_frame_equal(comparable(tmp_path / "killed"), expected)


def rows_in(path) -> int:
    try:
        with Run.open(path) as run:
            return len(run.outcomes())
    except Exception:
        return 0


@pytest.mark.slow
def test_resuming_a_finished_run_only_restores_missing_evidence(material, tmp_path):
    classifier, images, labels = material
    settings = {
        "labels": labels,
        "epsilons": [2, 6],
        "attacks": [PGD(steps=6)],
        "out": tmp_path / "r",
    }
    robustness.audit(classifier, images, **settings)
    before = comparable(tmp_path / "r")
    robustness.audit(classifier, images, resume=True, **settings)
    pd.testing.assert_frame_equal(comparable(tmp_path / "r"), before)
    lost = tmp_path / "r" / before.png.dropna().iloc[0]
    content = lost.read_bytes()
    lost.unlink()
    robustness.audit(classifier, images, resume=True, **settings)
    assert lost.read_bytes() == content
    pd.testing.assert_frame_equal(comparable(tmp_path / "r"), before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilons": [2, 5]}, "setting epsilons"),
        ({"seed": 1}, "setting seed"),
        ({"attacks": [PGD(steps=7)]}, "setting attacks"),
        ({"limit": 10}, "selection of images"),
        ({"model": 10}, "model weights"),
        ({"target": 1}, "setting goal"),
    ],
)
def test_resuming_with_another_setting_is_refused_with_its_name(material, tmp_path, change, said):
    classifier, images, labels = material
    settings = {
        "labels": labels[:12],
        "epsilons": [2, 6],
        "attacks": [PGD(steps=2)],
        "out": tmp_path / "r",
    }
    robustness.audit(classifier, images[:12], **settings)
    before = comparable(tmp_path / "r")
    model = small_cnn(change.pop("model")) if "model" in change else classifier
    with pytest.raises(RunError, match=said):
        robustness.audit(model, images[:12], resume=True, **{**settings, **change})
    pd.testing.assert_frame_equal(comparable(tmp_path / "r"), before)


def test_changed_pictures_are_detected_during_the_audit(material, tmp_path):
    classifier, images, labels = material
    settings = {"labels": labels[:12], "epsilons": [2], "attacks": ["bim"], "out": tmp_path / "r"}
    robustness.audit(classifier, images[:12], **settings)
    with contextlib.closing(sqlite3.connect(tmp_path / "r" / "run.sqlite")) as database:
        database.execute("DELETE FROM outcomes")
        database.commit()
    with pytest.raises(RunError, match="has changed"):
        robustness.audit(classifier, images[12:24], resume=True, **settings)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"attacks": []}, SettingError, "No attack"),
        ({"attacks": ["bimm"]}, SettingError, "Did you mean bim"),
        ({"attacks": ["bim", "bim"]}, SettingError, "Two attacks have the same label"),
        ({"norm": "l2"}, SettingError, "bim has no l2 version"),
        ({"epsilons": [0.1]}, SettingError, "below 1 count"),
        ({"evidence": "some"}, SettingError, "'all', 'flips', 'none'"),
        ({"evidence": "-1"}, SettingError, "'all', 'flips', 'none'"),
        ({"batch_size": -1}, SettingError, "expected a whole number from 1 to"),
        ({"lmit": 3}, SettingError, "Did you mean limit"),
        ({"target": "cow"}, SettingError, "class 0, class 1, class 2"),
        ({"limit": 0}, SettingError, "limit"),
        ({"images": "nowhere/at/all"}, ImagesError, "nowhere"),
        ({"model": "missing.keras"}, ModelError, "missing.keras"),
        ({"model": "model.pkl"}, SettingError, "keras"),
    ],
)
def test_invalid_input_is_refused_before_anything_is_written(
    material, tmp_path, change, error, said
):
    classifier, images, labels = material
    settings = {
        "model": classifier,
        "images": images,
        "labels": labels,
        "attacks": ["bim"],
    } | change
    with pytest.raises(error, match=said):
        robustness.audit(out=tmp_path / "r", **settings)
    assert not (tmp_path / "r").exists()


def test_the_manifest_records_what_reproduction_needs(material, tmp_path):
    classifier, images, labels = material
    robustness.audit(
        classifier,
        images,
        labels=labels,
        attacks=["bim"],
        out=tmp_path / "r",
        command="robustness audit",
    )
    manifest = json.loads((tmp_path / "r" / "run.json").read_text())
    assert manifest["model"]["weights_sha256"] == classifier.digest
    assert manifest["config"]["attacks"][0]["parameters"] == {
        "steps": 4,
        "loss": "cross_entropy",
        "step_size": None,  # depends on epsilon
    }
    assert manifest["environment"]["device"].startswith(("CPU", "GPU"))
    assert manifest["finished"] and manifest["timing"]["seconds"] > 0
    assert {f["id"] for f in manifest["preflight"]} >= {
        "P01-input",
        "D02-head",
        "D21-clean-accuracy",
    }
    assert str(tmp_path) not in json.dumps(manifest["model"])


@pytest.mark.slow
def test_a_batch_size_of_a_million_is_limited_to_the_memory(material, tmp_path, monkeypatch):
    """In a new run, and in a resumed one with the value of its run.json."""
    from robustness.engine import batch_size

    classifier, images, labels = material
    room = int(8.5 * batch_size.row_bytes(classifier))
    monkeypatch.setattr(batch_size, "free_bytes", lambda: room)
    monkeypatch.setattr(batch_size.memory, "available", lambda: None)
    made: list[int] = []
    start = CompiledBatch.__init__

    def noted(self, *given, **settings):
        made.append(settings["batch_size"])
        start(self, *given, **settings)

    monkeypatch.setattr(CompiledBatch, "__init__", noted)
    settings: dict[str, Any] = {"attacks": [BIM(steps=2)], "epsilons": [2], "batch_size": 1_000_000}
    found = robustness.audit(classifier, images, labels=labels, out=tmp_path / "a", **settings)
    assert found.manifest["config"]["slots"] == 6
    assert any("1,000,000 rows was requested; 6 fit" in n for n in found.manifest["notes"])
    assert made and max(made) <= 6
    file = tmp_path / "a" / "run.json"
    told = json.loads(file.read_text())
    told["config"]["slots"] = 1_000_000
    file.write_text(json.dumps(told))
    with contextlib.closing(sqlite3.connect(tmp_path / "a" / "run.sqlite")) as database:
        database.execute("DELETE FROM outcomes")
        database.commit()
    made.clear()
    settings.pop("batch_size")
    robustness.audit(classifier, images, labels=labels, out=tmp_path / "a", resume=True, **settings)
    assert made and max(made) <= 6


@pytest.mark.slow
def test_a_configuration_in_every_form_gives_the_same_run(material, tmp_path):
    classifier, images, labels = material
    file = tmp_path / "audit.toml"
    file.write_text(
        '[threat]\nepsilons = [2]\n[[attacks]]\nname = "bim"\nsteps = 2\n[run]\nseed = 3\n'
        "[[gate.rules]]\nthreshold = 0.5\n"
    )
    options: dict[str, Any] = {"epsilons": [2], "attacks": [{"name": "bim", "steps": 2}], "seed": 3}
    forms = {
        "file": file,
        "object": robustness.AuditConfig(**options),
        "dict": options,
        "keywords": None,
    }
    outcomes = {}
    for name, form in forms.items():
        result = robustness.audit(
            classifier,
            images[:8],
            form,
            labels=labels[:8],
            out=tmp_path / name,
            **(options if form is None else {}),
        )
        with Run.open(result.path) as run:
            config = run.manifest.to_json()["config"]
            assert (config["seed"], config["epsilons"]) == (3, [2.0])
            assert config["attacks"][0]["parameters"]["steps"] == 2
            rules = run.manifest.gate.rules
            assert len(rules) == (name == "file")
        outcomes[name] = comparable(tmp_path / name)
    for table in outcomes.values():
        pd.testing.assert_frame_equal(table, outcomes["keywords"])
