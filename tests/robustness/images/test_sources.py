"""Tests of folders, lists and single files as sources: found pictures, labels, unreadable entries."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robustness.errors import ImagesError
from robustness.images import Entry, Source, entries, open_source, tallied

SHAPE = (4, 4, 3)


def _save(path: Path, grey: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (grey,) * 3).save(path)
    return path


def _labels(source: Source) -> dict[str, int | None]:
    return {entry.key: entry.label for entry in source.entries()}


def _read(source: Source, key: str):
    (entry,) = [entry for entry in source.entries() if entry.key == key]
    return source.read(entry, SHAPE)


def test_the_folder_of_one_class_names_the_folder_around_it(tmp_path):
    for name in ("photos/cat/a.png", "photos/dog/b.png", "alone/c.png", "alone/notes.txt"):
        _save(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    said = open_source(tmp_path / "photos" / "cat").description
    assert said.startswith("folder cat, no labels, 1 image, the folder around it (photos)")
    assert "pictures in dog: if these are classes, give that folder" in said
    assert open_source(tmp_path / "photos").description == "folder photos, 2 classes, 2 images"
    # `photos` holds none directly, `empty` none at all.
    alone = open_source(tmp_path / "alone").description
    assert alone == "folder alone, no labels, 1 image, 1 other file skipped"
    # Labels by the names of the files.
    for name in ("kaggle/cat.1.jpg", "kaggle/dog.1.jpg"):
        _save(tmp_path / "photos" / name)
    assert "around" not in open_source(tmp_path / "photos" / "kaggle").description


def test_class_folders_give_labels(tmp_path):
    for name in ("dog/b.png", "dog/deep/c.png", "cat/a.png"):
        _save(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    source = open_source(str(tmp_path))
    assert source.class_names == ("cat", "dog")
    assert _labels(source) == {"cat/a.png": 0, "dog/b.png": 1, "dog/deep/c.png": 1}
    assert source.entries()[0].name == "a.png"
    assert source.description == (
        f"folder {tmp_path.name}, 2 classes, 3 images, 1 other file skipped"
    )
    assert (_read(source, "dog/deep/c.png").pixels == 7).all()


def test_given_classes_set_the_order_ignoring_case(tmp_path):
    _save(tmp_path / "Cat/a.png")
    _save(tmp_path / "Dog/b.png")
    source = open_source(tmp_path, ["dog", "cat", "bird"])
    assert source.class_names == ("dog", "cat", "bird")
    assert _labels(source) == {"Cat/a.png": 1, "Dog/b.png": 0}


def test_accents_match_in_both_unicode_forms(tmp_path):
    _save(tmp_path / "hu\u0308hner/a.png")
    _save(tmp_path / "cat/a.png")
    assert set(_labels(open_source(tmp_path, ["h\u00fchner", "cat"])).values()) == {0, 1}


def test_an_unknown_folder_is_left_out_and_told(tmp_path):
    _save(tmp_path / "cat/a.png")
    _save(tmp_path / "birds/b.png")
    source = open_source(tmp_path, ["cat", "dog"])
    assert _labels(source) == {"cat/a.png": 0}
    assert source.description.endswith("1 class, 1 image, 1 image left out")
    table = source.table  # type: ignore[attr-defined]
    assert "birds (1 image)" in table.sentence and table.doubtful
    with pytest.raises(ImagesError, match=r"None of the 2 folders \(birds, cat\) is .* fish"):
        open_source(tmp_path, ["fish", "dog"])


def test_a_single_unknown_folder_is_no_silent_loss_of_labels(tmp_path):
    _save(tmp_path / "horses/a.png")
    with pytest.raises(ImagesError, match="'horses' is none of the classes cat, dog"):
        open_source(tmp_path, ["cat", "dog"])
    assert _labels(open_source(tmp_path, ["cat", "horse"])) == {"horses/a.png": 1}


def test_a_picture_outside_the_class_folders_has_no_label(tmp_path):
    for name in ("cat/a.png", "dog/b.png", "c.png"):
        _save(tmp_path / name)
    source = open_source(tmp_path)
    assert _labels(source) == {"c.png": None, "cat/a.png": 0, "dog/b.png": 1}
    assert "3 images (1 without label)" in source.description


def test_file_names_of_kaggle_give_labels(tmp_path):
    for name in ("train/cat.1.jpg", "train/dog.17.jpg"):
        _save(tmp_path / name)
    for folder in (tmp_path, tmp_path / "train"):
        found = open_source(folder)
        assert found.class_names == ("cat", "dog")
        assert list(_labels(found).values()) == [0, 1]
    given = open_source(tmp_path / "train", ("dog", "bird"))
    assert _labels(given) == {"cat.1.jpg": None, "dog.17.jpg": 0}


@pytest.mark.parametrize(
    "names", [("img_0.jpg", "img_1.jpg"), ("cat.1.jpg", "cat.2.jpg"), ("a.b.jpg",)]
)
def test_other_file_names_give_no_labels(tmp_path, names):
    for name in names:
        _save(tmp_path / name)
    source = open_source(tmp_path)
    assert source.class_names is None
    assert set(_labels(source).values()) == {None}
    assert "no labels" in source.description


def test_a_list_in_a_folder_without_labels_is_named(tmp_path):
    for name in ("Test/1.png", "Test/2.png"):
        _save(tmp_path / name)
    (tmp_path / "Test.csv").write_text("Path,ClassId\nTest/1.png,0\nTest/2.png,1\n")
    assert "Test.csv in it lists labels" in open_source(tmp_path).description
    assert list(_labels(open_source(tmp_path / "Test.csv")).values()) == [0, 1]
    for other in ("Height,Weight\n60,140\n", "Path\nTest/1.png\n", "Path,ClassId\n", "", "\0"):
        (tmp_path / "Test.csv").write_text(other)
        assert "lists labels" not in open_source(tmp_path).description


def test_hidden_files_are_ignored(tmp_path):
    for name in ("cat/a.png", "dog/b.png", ".git/c.png", "__MACOSX/cat/d.png", "cat/._a.png"):
        _save(tmp_path / name)
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    source = open_source(tmp_path)
    assert list(_labels(source)) == ["cat/a.png", "dog/b.png"]
    assert "skipped" not in source.description


def test_one_picture_is_a_source(tmp_path):
    source = open_source(_save(tmp_path / "dog.3.png"), ["cat", "dog"])
    assert source.entries() == [Entry("dog.3.png", "dog.3.png", 1)]
    assert source.description == "file dog.3.png, 1 class, 1 image"
    assert open_source(_save(tmp_path / "x.png")).class_names is None


def test_links_are_followed_in_a_given_folder(tmp_path):
    """As in Hugging Face's cache, DVC and splits by links; cycles and broken links are outcomes."""
    _save(tmp_path / "blobs/a.png", 7)
    (tmp_path / "blobs/a.png").rename(tmp_path / "blobs/0f3a")
    _save(tmp_path / "elsewhere/deep/b.png", 9)
    root = tmp_path / "photos"
    _save(root / "real.png", 5)
    (root / "inside.png").symlink_to("real.png")
    (root / "blob.png").symlink_to("../blobs/0f3a")
    (root / "chain.png").symlink_to("blob.png")
    (root / "nowhere.png").symlink_to("missing.png")
    (root / "ring.png").symlink_to("ring.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "loop").symlink_to(root)
    (root / "one").symlink_to(tmp_path / "elsewhere")
    (root / "two").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    (root / "pipe.png").symlink_to(tmp_path / "pipe")
    source = open_source(root)
    values = {
        entry.key: None
        if (p := source.read(entry, SHAPE)).pixels is None
        else int(p.pixels[0, 0, 0])
        for entry in source.entries()
    }
    assert values == {
        "blob.png": 7, "chain.png": 7, "inside.png": 5, "real.png": 5, "nowhere.png": None,
        "ring.png": None, "device.png": None, "pipe.png": None,
        "one/deep/b.png": 9, "two/deep/b.png": 9,
    }  # fmt: skip
    assert "1 link back to a folder around it skipped" in source.description
    assert (
        _read(source, "nowhere.png").reason == "It is a link, and there is nothing where it leads."
    )
    for name in ("device.png", "pipe.png"):
        assert _read(source, name).reason == "It is not a regular file."
    assert _read(source, "ring.png").reason.startswith("The file cannot be opened: ")
    (tmp_path / "named").symlink_to(root)
    assert {e.key for e in open_source(tmp_path / "named").entries()} == set(values)


def test_splits_by_links_to_folders_have_labels(tmp_path):
    for name in ("cat", "dog"):
        for n in range(3):
            _save(tmp_path / f"all/{name}/{n}.png")
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for name in ("cat", "dog"):
            (tmp_path / split / name).symlink_to(tmp_path / "all" / name)
    found = _labels(open_source(tmp_path / "test"))
    assert found == {
        f"{name}/{n}.png": k for k, name in enumerate(("cat", "dog")) for n in range(3)
    }


def test_folders_linked_to_each_other_are_limited(tmp_path, monkeypatch):
    """Twenty folders, each with two links to the next, give a million paths: reported, not walked."""
    monkeypatch.setattr("robustness.images.folders.MAX_FOLDERS", 500)
    for n in range(20):
        (tmp_path / f"x{n}").mkdir()
    for n in range(19):
        for name in "ab":
            (tmp_path / f"x{n}" / name).symlink_to(tmp_path / f"x{n + 1}")
    (tmp_path / "x19" / "a").symlink_to(tmp_path / "x0")
    with pytest.raises(ImagesError, match="more than 500 folders"):
        open_source(tmp_path / "x0")


def test_a_list_that_is_a_link_is_read_beside_its_link(tmp_path):
    _save(tmp_path / "data/a.png", 3)
    (tmp_path / "blob").write_text(
        "path,label\na.png,1\nlink.png,0\n../blob.png,0\nsub/../../blob.png,0"
    )
    (tmp_path / "data/list.csv").symlink_to(tmp_path / "blob")
    _save(tmp_path / "blob.png")
    (tmp_path / "data/link.png").symlink_to(tmp_path / "blob.png")
    source = open_source(tmp_path / "data/list.csv")
    found = [source.read(entry, SHAPE) for entry in source.entries()]
    assert found[0].pixels is not None and found[1].pixels is not None
    assert all("outside the folder data" in one.reason for one in found[2:])


@given(
    st.lists(st.sampled_from(["A.", "The file is empty.", "b", "C!"]), max_size=40),
    st.integers(0, 9),
)
def test_reasons_are_listed_by_frequency(reasons, more):
    total = len(reasons) + more
    told = tallied([*reasons, *[""] * more], total)
    assert bool(told) == bool(reasons)
    if not reasons:
        return
    counts = [int(part.split(":")[0].split(" of ")[0]) for part in told.split("; ")]
    assert sum(counts) == len(reasons)
    assert counts[0] == max(reasons.count(one) for one in reasons)
    assert f" of {total:,}: " in told.split("; ")[0]


def test_special_files_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    source = open_source(tmp_path)
    assert list(_labels(source)) == ["pipe.png"]
    assert _read(source, "pipe.png").reason == "It is not a regular file."
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(ImagesError, match="not a source of pictures"):
        open_source(tmp_path / "pipe.zip")


def test_a_file_too_large_is_not_read(tmp_path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    tracemalloc.start()
    picture = _read(open_source(tmp_path), "large.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture.reason == "It is larger than 64 MiB, the most that is read."
    assert peak < 70 << 20


def test_a_name_that_is_not_text_is_a_key(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(_save(tmp_path / "a.png").read_bytes())
    except OSError:
        pytest.skip("this file system holds no such name")
    source = open_source(tmp_path)
    for entry in source.entries():
        entry.key.encode()
        entry.name.encode()
        assert source.read(entry, SHAPE).pixels is not None


def test_missing_pictures_and_unknown_keys_have_reasons(tmp_path):
    path = _save(tmp_path / "a.png")
    source = open_source(tmp_path)
    path.unlink()
    assert _read(source, "a.png").reason == "There is no such file."
    unknown = source.read(Entry("../a.png", "a.png", None), SHAPE)
    assert unknown.reason == "The source holds no picture of this key."


def test_a_missing_path_suggests_similar_ones(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ImagesError, match=r"nothing at .*Did you mean photos"):
        open_source(tmp_path / "photo")
    with pytest.raises(ImagesError, match="Check the path"):
        open_source(tmp_path / ("x" * 5000))


def test_an_empty_folder_is_refused_with_the_expected_content(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(
        ImagesError, match=r"holds no pictures \(1 other file skipped\); expected PNG"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["a.7z", "a.heic", "pictures"])
def test_an_unknown_kind_of_file_is_refused_with_the_expected_kinds(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        ImagesError, match=f"{name} is not a source of pictures; expected a picture"
    ):
        open_source(tmp_path / name)


def test_a_folder_of_too_many_pictures_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("robustness.images.folders.MAX_ENTRIES", 2)
    for n in range(3):
        _save(tmp_path / f"{n}.png")
    with pytest.raises(ImagesError, match="more than 2 pictures"):
        open_source(tmp_path)


def _list(folder: Path, *lines: str) -> Path:
    (folder / "list.csv").write_text("\n".join(lines), "utf-8-sig")
    return folder / "list.csv"


@pytest.mark.parametrize("labels", [("dog", "cat", ""), ("1", "0", "")])
def test_a_list_is_read(tmp_path, labels):
    for name in ("a.png", "sub/b.png", "c.png"):
        _save(tmp_path / name)
    names = ("a.png", "sub\\b.png", "c.png")
    path = _list(tmp_path, "Path, Label", *(f"{n},{w}" for n, w in zip(names, labels, strict=True)))
    source = open_source(path)
    assert _labels(source) == {"a.png": 1, "sub/b.png": 0, "c.png": None}
    assert source.class_names == (("cat", "dog") if labels[0] == "dog" else None)
    assert all(source.read(entry, SHAPE).pixels is not None for entry in source.entries())
    assert _labels(open_source(path, ["cat", "dog"])) == _labels(source)


def test_a_list_without_labels_is_read(tmp_path):
    _save(tmp_path / "a.png")
    source = open_source(_list(tmp_path, "path", "a.png", "a.png"))
    assert _labels(source) == {"a.png": None, "a.png (2)": None}
    assert _read(source, "a.png (2)").pixels is not None


def test_a_list_reads_only_files_below_its_folder(tmp_path):
    outside = _save(tmp_path / "outside.png")
    inside = _save(tmp_path / "lists/inside.png")
    rows = ["../outside.png", str(outside), str(inside), "missing.png", "", "nul\0.png", "."]
    path = _list(tmp_path / "lists", "path,label", *(f"{row},0" for row in rows))
    source = open_source(path)
    reasons = [source.read(entry, SHAPE).reason for entry in source.entries()]
    assert "outside the folder lists" in reasons[0]
    assert "outside the folder lists" in reasons[1]
    assert reasons[2:5] == ["", "There is no such file.", "The row names no file."]
    assert reasons[5] and reasons[6] == "It is not a regular file."


@pytest.mark.parametrize(
    ("lines", "known", "words"),
    [
        (("where,label", "a,0"), None, "columns where, label, .* expected .* path and label"),
        (("",), None, "columns .none."),
        (("path,label",), None, "lists no pictures"),
        (("path,label", "a.png,bird"), ("cat", "dog"), "'bird' is not a class; expected cat, dog"),
        (("path,label", "a.png,2"), ("cat", "dog"), "2 is not a class"),
        (("path,label", "a.png,-1"), None, "-1 is not a class; expected a number from 0"),
    ],
)
def test_an_invalid_list_is_refused_with_the_expected_form(tmp_path, lines, known, words):
    with pytest.raises(ImagesError, match=words):
        open_source(_list(tmp_path, *lines), known)


def test_a_list_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(ImagesError, match="expected CSV in UTF-8"):
        open_source(tmp_path / "list.csv")


def test_threads_read_the_same(tmp_path):
    for n in range(40):
        _save(tmp_path / f"{n:02}.png", n)
    source = open_source(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda entry: source.read(entry, SHAPE), source.entries()))
    assert [int(p.pixels[0, 0, 0]) for p in pictures if p.pixels is not None] == list(range(40))


def test_the_reader_needs_no_framework():
    code = (
        "import sys, robustness.images; sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_photographs_of_the_article_are_read(article_photos):
    source = open_source(article_photos)
    pictures = [source.read(entry, (128, 128, 3)) for entry in source.entries()]
    assert len(pictures) == 5
    assert all(p.pixels is not None and np.ptp(p.pixels) > 50 for p in pictures)


def test_duplicate_paths_get_distinct_keys():
    assert entries.numbered(["a", "a", "a (2)", "a"]) == ["a", "a (2)", "a (2) (2)", "a (3)"]


@pytest.mark.parametrize("where", ["locked", "cat/locked", "dog"])
@pytest.mark.parametrize("known", [None, ("cat", "dog", "fox")])
def test_a_folder_that_cannot_be_listed_is_one_unreadable_entry(
    tmp_path, monkeypatch, where, known
):
    import os

    from robustness.images import folders

    root, target = tmp_path / "photos", tmp_path / "elsewhere"
    for place in (root / "cat", root / "fox", target):
        place.mkdir(parents=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(place / "a.png")
    (root / where).symlink_to(target, target_is_directory=True)
    scan = os.scandir

    def scandir(place):
        if str(place) == str(root / where):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    source = open_source(root, known)
    names = known or ("cat", "fox")
    assert source.class_names == names
    read = {e.key: source.read(e, (8, 8, 3)) for e in source.entries()}
    assert set(read) == {where, "cat/a.png", "fox/a.png"}
    assert read[where].pixels is None and read[where].entry.label is None
    assert read[where].reason == "The folder cannot be listed: permission denied."
    for name in ("cat", "fox"):
        assert read[f"{name}/a.png"].pixels is not None
        assert read[f"{name}/a.png"].entry.label == names.index(name)


def test_a_source_of_only_unreadable_folders_is_refused(tmp_path, monkeypatch):
    import os

    from robustness.images import folders

    (tmp_path / "a").mkdir()
    scan = os.scandir

    def scandir(place):
        if str(place) == str(tmp_path / "a"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    with pytest.raises(ImagesError, match=r"holds no pictures .*1 folder that cannot be listed"):
        open_source(tmp_path)
