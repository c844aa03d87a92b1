"""Which folder has which class of a model, from the audit's entry to its manifest."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import robustness
from robustness.auditing.inputs import resolve, resolve_images
from robustness.cli.rerun import _decided
from robustness.configuration.recorded import from_recorded
from robustness.errors import ImagesError, ModelError, SettingError
from robustness.models.classifier import Classifier
from robustness.runs.progress import Progress

CASES = Path("../shared/cases/models")
MANY = 13
NUMBERS = [str(n) for n in range(MANY)]
TEXT = sorted(NUMBERS)


def levels(classes: int, order: list[int] | None = None) -> keras.Model:
    """The class is the level of brightness; output k is the level order[k]. Inputs are 0..1."""
    centres = (np.arange(classes) + 0.5) / classes
    centres = centres if order is None else centres[order]
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.GlobalAveragePooling2D(), layers.Dense(classes)]
    )
    sharp = 30.0 * classes
    model.layers[-1].set_weights([np.tile(2 * sharp * centres, (3, 1)) / 3, -sharp * centres**2])
    return model


@pytest.fixture
def photos(tmp_path):
    def write(levels_by_folder: dict[str, int], classes: int, images: int = 6) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / "photos"
        shutil.rmtree(root, ignore_errors=True)
        for folder, level in levels_by_folder.items():
            (root / folder).mkdir(parents=True)
            for n in range(images):
                grey = (level + 0.5) * 255 / classes + rng.uniform(-3, 3, (4, 4, 3))
                Image.fromarray(grey.clip(0, 255).astype("uint8")).save(root / folder / f"{n}.png")
        return root

    return write


def resolved(model, images, names=None, scaling="0..1"):
    source = resolve_images(images, None, names, None)
    return resolve(
        model, source, lambda one: one.entries(), class_names=names, scaling=scaling, trust=False
    )


def accuracy(found) -> float:
    pixels = np.stack([found.cache.read(e, (4, 4, 3)).pixels for e in found.entries])
    labels = np.array([e.label for e in found.entries])
    return float(np.mean(found.classifier.probabilities(pixels).argmax(axis=1) == labels))


def of_names(names: list[str]) -> dict[str, int]:
    return {name: int(name) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("order", [NUMBERS, TEXT], ids=["numbers", "text"])
@pytest.mark.parametrize("scaling", ["0..1", None])
@pytest.mark.parametrize("present", [NUMBERS, ["2", "3", "10", "12"]], ids=["all", "some"])
def test_folders_called_by_numbers_are_the_outputs_that_images_show(
    photos, order, scaling, present
):
    """Keras sorts 0, 1, 10, 11, 2; a training from a list has 0, 1, 2. Both are found out."""
    model = levels(MANY, list(map(int, order)))
    found = resolved(model, photos(of_names(present), MANY, 12), scaling=scaling)
    assert found.classifier.class_names == tuple(order)
    assert found.classifier.scaling.name == "0..1"
    assert accuracy(found) == 1.0
    assert "are right if the outputs are" in found.reason and found.table.doubtful


def test_numbers_that_images_do_not_decide_are_refused_with_both_options(photos):
    shuffled = np.random.default_rng(1).permutation(MANY).tolist()
    with pytest.raises(ImagesError, match="not clear which output each is") as caught:
        resolved(levels(MANY, shuffled), photos(of_names(NUMBERS), MANY))
    assert f"\n  --classes {','.join(TEXT)}" in str(caught.value)
    assert f"\n  --classes {','.join(NUMBERS)}" in str(caught.value)
    given = resolved(levels(MANY), photos(of_names(NUMBERS), MANY), NUMBERS)
    assert accuracy(given) == 1.0


@pytest.mark.parametrize("order", [NUMBERS, TEXT], ids=["numbers", "text"])
@pytest.mark.parametrize("known", [True, False])
def test_numbers_beside_stated_names_are_places_or_places_in_text(photos, order, known):
    names = [f"sign {n}" for n in order]
    model = levels(MANY, list(map(int, order)))
    model.class_names = names
    root = photos(of_names(["2", "3", "10", "12"]), MANY, 12)
    found = resolved(model, root, names if known else None)
    assert accuracy(found) == 1.0 and found.classifier.class_names == tuple(names)
    rows = {row.found: row.name for row in found.table.rows}
    assert rows == {n: f"sign {n}" for n in ("2", "3", "10", "12")}
    # Few images do not show it: a number is a place.
    few = resolved(model, photos(of_names(["2", "10"]), MANY, 1), names)
    assert {row.found: row.index for row in few.table.rows} == {"2": 2, "10": 10}


def test_fewer_folders_than_classes_are_matched_by_name_and_others_left_out(photos):
    names = ["ant", "stop sign", "bee", "cat", "dog"]
    root = photos({"Stop_Sign": 1, "cats": 3, "lizard": 2}, 5)
    found = resolved(levels(5), root, names)
    assert accuracy(found) == 1.0 and len(found.entries) == 12
    rows = {row.found: (row.index, row.how) for row in found.table.rows}
    assert rows == {
        "Stop_Sign": (1, "spelling"), "cats": (3, "plural"), "lizard": (None, "none of the classes"),
    }  # fmt: skip


def test_folders_are_never_matched_by_position(photos):
    root = photos({"ant": 0, "bee": 1}, 3)
    with pytest.raises(
        ModelError, match=r"ant \(6 images\), bee \(6 images\).* 3 outputs.*--classes FILE"
    ):
        resolved(levels(3), root)
    unnamed = Classifier(levels(3), scaling="0..1")
    with pytest.raises(ModelError, match="not matched with outputs by position"):
        resolved(unnamed, root)
    named = Classifier(levels(2), scaling="0..1", class_names=["cat", "dog"])
    with pytest.raises(
        ImagesError, match=r"None of the 2 folders \(ant, bee\) is one of the classes cat, dog"
    ):
        resolved(named, root)
    with pytest.raises(ModelError, match="They are 2 class names"):
        resolved(levels(3), root, ["ant", "bee"])


def test_an_empty_folder_is_a_class(photos):
    root = photos({"ant": 0, "cow": 2}, 3)
    (root / "bee").mkdir()
    found = resolved(levels(3), root)
    assert found.classifier.class_names == ("ant", "bee", "cow") and accuracy(found) == 1.0
    assert "the empty ones (bee) as well" in found.reason
    # Where the others are as many as the outputs it is none.
    assert resolved(levels(2), photos({"ant": 0, "cow": 1}, 2)).classifier.class_names == (
        "ant",
        "cow",
    )


def test_synsets_ask_for_the_file_that_names_them(photos, tmp_path):
    root = photos({"n01440764": 0, "n01443537": 1}, 4)
    with pytest.raises(ModelError, match="The folders are synsets of ImageNet"):
        resolved(levels(4), root)
    (tmp_path / "index.json").write_text(
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"], "2": ["n1", "x"], "3": ["n2", "y"]}'
        .replace('"n1"', '"n01484850"').replace('"n2"', '"n01491361"')
    )  # fmt: skip
    names = robustness.AuditConfig(classes=str(tmp_path / "index.json")).classes
    found = resolved(levels(4), root, names)
    assert accuracy(found) == 1.0 and found.classifier.class_names[1] == "goldfish (n01443537)"
    assert not found.table.doubtful


def test_a_file_beside_the_model_names_its_classes(photos, tmp_path):
    root = photos({"dog": 0, "Cat": 1}, 2)
    place = tmp_path / "models"
    place.mkdir()
    levels(2).save(place / "m.keras")
    assert resolved(place / "m.keras", root).classifier.class_names == ("Cat", "dog")
    (place / "labels.txt").write_text("0 Dog\n1 Cat\n")
    (place / "classes.txt").write_text("dog\ncat\nhorse\n")  # of another model
    found = resolved(place / "m.keras", root)
    assert found.classifier.class_names == ("Dog", "Cat") and accuracy(found) == 1.0
    assert found.reason == "The class names are those of labels.txt beside the model."
    (place / "class_indices.json").write_text('{"cat": 0, "dog": 1}')
    with pytest.raises(SettingError, match=r"labels\.txt and class_indices\.json .* different"):
        resolved(place / "m.keras", root)
    (place / "m.labels.txt").write_text("dog\ncat")  # that of the model itself comes first
    assert resolved(place / "m.keras", root).classifier.class_names == ("dog", "cat")
    assert resolved(place / "m.keras", root, ["dog", "Cat"]).reason == "The class names were given."


def test_names_that_the_model_states_hold(photos):
    model = levels(2)
    model.class_names = ["dog", "cat"]
    found = resolved(model, photos({"cat": 1, "dog": 0}, 2))
    assert found.classifier.class_names == ("dog", "cat") and accuracy(found) == 1.0


@pytest.mark.slow
def test_what_was_found_is_shown_recorded_and_used_again(photos, tmp_path):
    root = photos({"dogs": 0, "Cat": 1, "horse": 3, "bird": 1}, 5, 10)
    place = tmp_path / "models"
    place.mkdir()
    levels(5).save(place / "m.keras")
    (place / "labels.txt").write_text("dog\ncat\ncow\nhorse\npig\n")
    heard: list[Progress] = []
    options: Any = {"attacks": ["fgsm"], "epsilons": [1]}
    run = robustness.audit(
        place / "m.keras", root, out=tmp_path / "run", progress=heard.append, **options
    )
    (table,) = [one.text for one in heard if one.text]
    assert heard[0].stage == "classes" and "left out" in table and "plural" in table
    manifest = run.manifest
    assert (
        manifest["model"]["class_names_from"]
        == "The class names are those of labels.txt beside the model."
    )
    assert manifest["model"]["scaling"]["chosen"].startswith("Accuracy on 30 labelled images")
    assert [(c["found"], c["output"], c["matched_by"]) for c in manifest["data"]["classes"]] == [
        ("dogs", 0, "plural"), ("Cat", 1, "name"), ("horse", 3, "name"),
        ("bird", None, "none of the classes"),
    ]  # fmt: skip
    assert any("bird (10 images)" in note for note in manifest["notes"])
    assert manifest["data"]["selected"] == 30
    # What decided is gone; the run knows.
    (place / "labels.txt").unlink()
    again = robustness.audit(place / "m.keras", root, out=tmp_path / "run", resume=True, **options)
    assert again.manifest["class_names"] == ["dog", "cat", "cow", "horse", "pig"]
    from robustness.runs.store import Run

    with Run.open(tmp_path / "run") as opened:
        decided = _decided(opened.manifest, {"model": str(place / "m.keras")})
    assert decided == {"scaling": "0..1", "classes": "dog,cat,cow,horse,pig"}
    assert from_recorded(decided).classes == ("dog", "cat", "cow", "horse", "pig")


@pytest.mark.slow
@pytest.mark.skipif(not (CASES / "traffic_signs.h5").exists(), reason="needs the shared cases")
def test_traffic_signs_by_list_and_by_folders_called_by_numbers(tmp_path):
    """43 classes, of which 25 are there; trained from the numbers of a list."""
    signs = CASES / "traffic_signs"
    with (signs / "Test.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        (tmp_path / row["ClassId"]).mkdir(exist_ok=True)
        shutil.copy(signs / row["Path"], tmp_path / row["ClassId"])
    for images in (signs / "Test.csv", tmp_path):
        found = resolve(
            CASES / "traffic_signs.h5",
            resolve_images(images, None, None, None),
            lambda one: one.entries(),
        )
        assert found.classifier.scaling.name == "0..255"
        read = [found.cache.read(e, (30, 30, 3)).pixels for e in found.entries]
        pixels = np.stack([one for one in read if one is not None])
        labels = np.array([e.label for e in found.entries])
        right = found.classifier.probabilities(pixels).argmax(axis=1) == labels
        assert (int(right.sum()), len(right)) == (57, 60)
    assert found.classifier.class_names == tuple(str(n) for n in range(43))
