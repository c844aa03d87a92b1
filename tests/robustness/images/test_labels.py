"""Tests of labels in every form: read correctly, or refused with the columns or values found."""

import re
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import robustness
from robustness.auditing.inputs import labelled_arrays
from robustness.cli.terminal import sentence
from robustness.errors import ImagesError, SettingError
from robustness.images import from_arrays, open_source
from robustness.images.labels import by_word, expect_classes
from robustness.runs.progress import Progress
from tests.robustness.helpers import small_cnn

SHAPE = (12, 12, 3)
SIGNS = Path("../shared/cases/models/traffic_signs")
TRUTH = [2, 0, 1, 1]


def pixels(count=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype(np.uint8)


def read(labels, known=("a", "b", "c")):
    return [e.label for e in from_arrays(pixels(), labels, known).entries()]


@pytest.mark.parametrize(
    "labels",
    [
        TRUTH,
        np.array(TRUTH, np.uint8),
        np.array(TRUTH, "float32"),
        np.array(TRUTH, ">i8"),
        np.array(TRUTH)[:, None],
        np.eye(3)[TRUTH],
        np.eye(3, dtype=bool)[TRUTH],
        np.eye(3, dtype=int)[TRUTH].tolist(),
        np.array(TRUTH, object),
        np.array([float(t) for t in TRUTH], object),
        np.array([np.int16(t) for t in TRUTH], object),
        ["c", "a", "b", "b"],
        ["C", "A", "b", "B"],
        np.array(["c", "a", "b", "b"])[:, None],
        np.array([b"c", b"a", b"b", b"b"]),
        np.array(["c", "a", "b", "b"], object),
        ["2", "0", "1", "1"],
        [" 2", "0 ", "1.0", "1"],
        pd.Series(TRUTH, index=[9, 8, 7, 6]),
        pd.Series(["c", "a", "b", "b"], dtype="category"),
        pd.Series(TRUTH, dtype="Int64"),
        keras.ops.convert_to_tensor(TRUTH),
        tuple(TRUTH),
    ],
)
def test_every_form_of_labels_is_read(labels):
    assert read(labels) == TRUTH


@pytest.mark.parametrize(
    "labels",
    [
        [2.0, np.nan, 1.0, 1.0],
        [2, None, 1, 1],
        ["c", None, "b", "b"],
        ["c", "", "b", "b"],
        ["2", "nan", "1", "1"],
        pd.Series([2, None, 1, 1], dtype="Int64"),
        np.ma.masked_array(np.array(TRUTH), np.array([0, 1, 0, 0], bool)),
    ],
)
def test_missing_labels_are_none(labels):
    assert read(labels) == [2, None, 1, 1]


def test_booleans_are_two_classes():
    for labels in ([True, False, True, True], ["True", "False", "true", "1"]):
        assert read(labels, ("no", "yes")) == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, 2, 3, 1], "Label 3 is not a class.*run from 1 to 3; 1 image of 4.*subtract 1"),
        (["1", "2", "3", "1"], "Label 3 is not a class.*run from 1 to 3.*subtract 1"),
        (
            [0, 7, 9, 7],
            "Label 7, 9 is not a class; expected a, b, c.*run from 0 to 9; 3 images of 4",
        ),
        ([-1, 0, 1, 2], "Label -1 is not a class.*-1 means no label"),
        ([-1, 1, 1, -1], "two classes, give 0 and 1"),
        ([0.5, 1, 2, 0], "0.5 is no whole number"),
        (["0.5", "1", "2", "0"], "Label 0.5 is not a class"),
        ([0, 1, 2], "3 labels for 4 images"),
        (np.zeros((4, 3)), "4 rows are not one-hot .row 0 is 0.0, 0.0, 0.0"),
        ([[0.2, 0.8, 0.0]] * 4, "not one-hot.*argmax"),
        (np.eye(4), "have 4 columns; expected 3"),
        (np.zeros((4, 2, 2)), r"shape \(4, 2, 2\)"),
        (
            ["a", "bird", "c", "b"],
            "'bird' is not a class; expected a, b, c.*The labels are a, b, bird, c",
        ),
        (np.array(["a", 1, "c", "b"], object), "mix names and numbers"),
        (["a", "1", "c", "b"], "'1' is not a class"),
        ([1j, 0, 0, 0], "no whole number"),
        ([float("inf"), 0, 0, 0], "inf is no whole number"),
        ([[0], [1, 2], [0], [1]], "labels are no array"),
        ([b"\xff", b"a", b"a", b"a"], "no text in UTF-8"),
        (5, "1 labels for 4 images"),
    ],
)
def test_other_labels_are_refused_with_the_values_found(labels, said):
    with pytest.raises(ImagesError, match=said):
        read(labels)


def test_names_take_precedence_only_if_all_labels_are_names():
    assert read(["1", "2", "3", "1"], ("1", "2", "3")) == [0, 1, 2, 0]
    assert read(["0", "2", "1", "1"], ("1", "2", "3")) == [0, 2, 1, 1]
    with pytest.raises(ImagesError, match="mix numbers and names"):
        read(["0", "cat", "1", "1"], None)


@given(st.lists(st.integers(-5, 12), min_size=1, max_size=30), st.integers(2, 8))
def test_labels_outside_the_classes_are_counted_and_refused(labels, classes):
    wrong = [label for label in labels if not 0 <= label < classes]
    names = [f"name {n}" for n in range(classes)]
    if not wrong:
        expect_classes(labels, names)
        return
    with pytest.raises(ImagesError) as caught:
        expect_classes([*labels, None], names)
    assert str(wrong[0]) in str(caught.value)
    assert re.search(rf"\b{len(wrong)} images? of {len(labels)}\b", str(caught.value))
    based = min(labels) >= 1 and max(labels) == classes
    assert ("subtract 1" in str(caught.value)) == based


# --- lists -------------------------------------------------------------------------------------


def write(folder, text, count=4):
    for n, picture in enumerate(pixels(count)):
        Image.fromarray(picture).save(folder / f"{n}.png")
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


def rows(*labels, head="", form="{n}.png,{label}"):
    return "\n".join(
        [*([head] if head else []), *(form.format(n=n, label=v) for n, v in enumerate(labels))]
    )


@pytest.mark.parametrize(
    "head",
    [
        "path,label", "Path,Label", "filename,class", "file_name,ClassId", "image,target", "img,y",
        "ImagePath,category", "Image Name,class_name", "File,Target", "picture,ground_truth",
    ],
)  # fmt: skip
def test_columns_are_recognised_in_any_spelling(tmp_path, head):
    source = open_source(write(tmp_path, rows(*TRUTH, head=head)))
    assert [e.label for e in source.entries()] == TRUTH
    assert all(source.read(e, SHAPE).pixels is not None for e in source.entries())


@pytest.mark.parametrize(
    "text",
    [
        rows(*TRUTH),
        rows(*TRUTH, head="path;label", form="{n}.png;{label}"),
        rows(*TRUTH, head="path\tlabel", form="{n}.png\t{label}"),
        rows(*TRUTH, head="Width,Height,ClassId,Path", form="30,31,{label},{n}.png"),
        rows(*TRUTH, head="id,path,label", form="{n},{n}.png,{label}"),
        rows(*TRUTH, head="path,label,class", form="{n}.png,{label},{label}.0"),
        rows(*("c,2", "a,0", "b,1", "b,1"), head="path,class,label"),
        rows(*(f"{t}.0" for t in TRUTH), head="path,label"),
        rows(*(f'"{t}"' for t in TRUTH), head='"path","label"'),
        rows(*("0,0,1", "1,0,0", "0,1,0", "0,1,0"), head="image,a,b,c"),
        rows(*("c", "a", "b", "b"), head="where,class"),
        "\ufeff" + rows(*TRUTH, head="path,label") + "\n\n",
    ],
)
def test_lists_in_any_csv_dialect_are_read(tmp_path, text):
    source = open_source(write(tmp_path, text), ["a", "b", "c"])
    assert [e.label for e in source.entries()] == TRUTH
    assert all(source.read(e, SHAPE).pixels is not None for e in source.entries())


@pytest.mark.parametrize(
    ("head", "form", "said"),
    [
        ("path,score", "{n}.png,{label}", "columns path, score; none is known to .*--label-column"),
        ("path,class,target", "{n}.png,{label},1", "class, target may each be the label.*label_column="),
        ("where,label", "{n},{label}", "columns where, label, and none .* paths"),
        ("path,label,class", "{n}.png,{label},x", "label and class .* do not agree: row 1 has '2' and 'x'"),
        ("path,target,Label", "{n}.png,0,{label}", "Label and target .* do not agree: row 1 has '2' and '0'"),
        ("path,label,label", "{n}.png,{label},1", "label, label may each"),
        ("", "{n}.png,{label},5", "columns column 1, column 2, column 3; none is known"),
    ],
)  # fmt: skip
def test_unrecognised_columns_must_be_named(tmp_path, head, form, said):
    path = write(tmp_path, rows(*TRUTH, head=head, form=form))
    with pytest.raises(ImagesError, match=said):
        open_source(path)
    if head == "path,label,label" or head.startswith("where"):
        return
    column = {
        "path,score": "Score",
        "path,class,target": "class",
        "": "2",
        "path,label,class": "label",
        "path,target,Label": "Label",
    }[head]
    assert [e.label for e in open_source(path, None, column).entries()] == TRUTH
    assert [e.label for e in open_source(path, None, "none").entries()] == [None] * 4
    with pytest.raises(ImagesError, match="expected the label column 'else' to be one of them"):
        open_source(path, None, "else")


def test_arrays_are_recognised_by_name_or_must_be_named(tmp_path):
    def source(column=None, **arrays):
        np.savez(tmp_path / "x.npz", images=pixels(), **arrays)
        return [e.label for e in open_source(tmp_path / "x.npz", None, column).entries()]

    for name in ("labels", "label", "y", "targets", "class_ids"):
        assert source(**{name: np.array(TRUTH)}) == TRUTH
    assert source(labels=np.array(TRUTH), y=np.zeros(4, int)) == TRUTH
    assert source(labels=np.eye(3)[TRUTH]) == TRUTH
    with pytest.raises(ImagesError, match=r"arrays images, kind.*label_column=NAME"):
        source(kind=np.array(TRUTH))
    assert source("kind", kind=np.array(TRUTH)) == TRUTH
    assert source("none", kind=np.array(TRUTH)) == [None] * 4
    with pytest.raises(ImagesError, match="'else' to be one"):
        source("else", kind=np.array(TRUTH))


def test_a_label_column_needs_a_source_with_columns(tmp_path):
    write(tmp_path, "path\n0.png")
    with pytest.raises(ImagesError, match="has no columns"):
        open_source(tmp_path, None, "label")
    with pytest.raises(SettingError, match="given with an array of images"):
        robustness.audit(small_cnn(0), pixels(), label_column="label")
    with pytest.raises(SettingError, match="`labels` were given with images that are not an array"):
        robustness.audit(small_cnn(0), tmp_path, labels=[0])  # type: ignore[arg-type]


@pytest.mark.skipif(not SIGNS.exists(), reason="needs the shared cases")
def test_the_traffic_signs_are_read():
    table = pd.read_csv(SIGNS / "Test.csv")
    source = open_source(SIGNS / "Test.csv")
    assert [e.label for e in source.entries()] == table.ClassId.tolist()
    assert [e.key for e in source.entries()] == table.Path.tolist()
    assert all(source.read(e, (30, 30, 3)).pixels is not None for e in source.entries())


# --- at the audit's entry ----------------------------------------------------------------------


def test_labels_beyond_the_classes_of_the_model_are_refused(tmp_path):
    classifier = small_cnn(6)
    count = len(classifier.class_names)
    high = [count, 0, 1, 1]
    said = f"Label {count} is not a class.*run from 0 to {count}"
    path = write(tmp_path, rows(*high, head="path,label"))
    for model in (classifier, classifier.model):
        with pytest.raises(ImagesError, match=said):
            robustness.audit(model, path, attacks=["fgsm"])
        with pytest.raises(ImagesError, match=said):
            robustness.audit(model, pixels(), labels=high, attacks=["fgsm"])  # type: ignore[arg-type]
        with pytest.raises(ImagesError, match=said):
            labelled_arrays(model, open_source(path))


@pytest.mark.slow
def test_without_labels_no_output_says_correct(tmp_path):
    """Neither the page, nor JSON, Markdown, terminal or notebook says it; with labels they do."""
    told = {}
    for name in ("with", "without"):
        classifier, images = small_cnn(6), pixels(12)
        truth = classifier.probabilities(images).argmax(1) if name == "with" else None
        heard: list[str] = []
        result = robustness.audit(
            classifier, images, labels=truth, attacks=["fgsm"], epsilons=[1, 8],
            out=tmp_path / name, progress=lambda p, heard=heard: heard.append(sentence(p)),  # type: ignore[misc]
        )  # fmt: skip
        page = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", result.report().read_text(), flags=re.S)
        told[name] = " ".join([
            page, result.report(kind="json").read_text(), result.report(kind="markdown").read_text(),
            result._repr_html_(), repr(result), *heard,
        ])  # fmt: skip
    spoken = r"correct|right answer|robust accuracy \d|were right|are right|got right|right class"
    found = re.findall(spoken, told["without"], flags=re.IGNORECASE)
    assert not found, [
        told["without"][m.start() - 60 : m.end() + 60] for m in re.finditer(spoken, told["without"])
    ]
    assert "images flip within" in told["without"] and "kept their class" in told["without"]
    assert "correctly classified images flip" in told["with"] and "robust accuracy" in told["with"]


def test_a_stage_shows_accuracy_only_for_labelled_images():
    done = Progress("pgd", 10, 10, flipped=4, robust=6)
    assert sentence(done) == "4 flipped, robust at most 60.0 %"
    assert (
        sentence(Progress("pgd", 10, 10, 4, 6, labelled=False))
        == "4 flipped, at most 60.0 % kept their class"
    )


def test_a_column_chosen_among_several_is_noted(tmp_path):
    text = rows(*("2,c", "0,a", "1,b", "1,b"), head="path,label,class")
    source = open_source(write(tmp_path, text), ["a", "b", "c"])
    assert source.description.endswith("labels of the column label (class says the same)")
    plain = open_source(write(tmp_path, rows(*TRUTH)), ["a", "b", "c"])
    assert "column" not in plain.description
    # 0 is the first class: a column where 0 is dog does not fit if dog is the second class
    other = rows(*("0,dog", "1,cat", "0,dog", "1,cat"), head="path,label,class")
    for known in (None, ["cat", "dog"]):
        with pytest.raises(ImagesError, match="do not agree"):
            open_source(write(tmp_path, other), known)


@pytest.mark.parametrize(
    "label", [1e300, 10**5000, -(10**400), "1e99", "x" * 10_000, b"y" * 10_000], ids=range(6)
)
def test_long_labels_are_shortened(label):
    from robustness.images.label_arrays import by_array
    from robustness.images.labels import by_word

    for known in (["cat", "dog"], ["0", "1"]):
        with pytest.raises(ImagesError) as caught:
            if isinstance(label, str):
                by_word([label, ""], known)
            else:
                by_array(
                    np.array([label, 0 if not isinstance(label, bytes) else b"a"], object), 2, known
                )
        assert len(str(caught.value)) < 500


def test_numbers_that_are_too_large_are_not_called_names():
    with pytest.raises(ImagesError, match="Label 4611686018427387904 is not a class"):
        by_word(["1", "2", "4611686018427387904"], None)
    with pytest.raises(ImagesError, match="mix numbers and names"):
        by_word(["1", "2", "cat"], None)
