"""Tests of the kinds of sources: which one opens what was given, plug-ins among them, and streams."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness import plugins
from robustness.errors import ImagesError, SettingError, StorageError
from robustness.files import places
from robustness.images import (
    Sample,
    SourceKind,
    SourceOptions,
    Stream,
    kinds,
    open_source,
    source_kinds,
)
from robustness.images.arrays import from_arrays
from robustness.images.sources import open_object
from robustness.images.streams import spooled
from robustness.images.value_range import ValueRange, to_counts

SHAPE = (2, 2, 3)
IMAGES = np.arange(60, dtype=np.uint8).reshape(5, 2, 2, 3)


@pytest.fixture
def plugged(monkeypatch):
    """Adds kinds of a plug-in to those of the toolkit."""
    built_in = dict(source_kinds._survey()[0])

    def plug(**more: SourceKind) -> None:
        monkeypatch.setattr(source_kinds, "_survey", lambda: (built_in | more, []))

    return plug


def test_every_built_in_kind_is_an_entry_point():
    own = {value for value in vars(kinds).values() if isinstance(value, SourceKind)}
    assert own == set(source_kinds._survey()[0].values())
    assert plugins.is_own(plugins.SOURCES, "zip")


def test_a_plug_in_opens_a_text_that_is_no_path(plugged):
    def opened(given, options):
        return from_arrays(IMAGES, None, options.class_names)

    plugged(demo=SourceKind("demo:NAME", lambda one: str(one).startswith("demo:"), opened))
    source = open_source("demo:five", ["a", "b"])
    assert len(source.entries()) == 5
    assert source.class_names == ("a", "b")
    with pytest.raises(ImagesError, match=r"nothing at .*, or demo:NAME"):
        open_source("demos:five")
    with pytest.raises(ImagesError, match=r"demo:five has no columns.* expected .*csv"):
        open_source("demo:five", label_column="x")


def test_a_plug_in_is_asked_before_general_kinds_and_after_those_of_the_toolkit(plugged, tmp_path):
    (tmp_path / "data.yaml").write_text("")
    taking = SourceKind(
        "a folder with data.yaml",
        lambda one: isinstance(one, places.Place) and "data.yaml" in one.names()[0],
        lambda one, options: from_arrays(IMAGES),
    )
    plugged(yaml=taking)
    assert len(open_source(tmp_path).entries()) == 5
    plugged(yaml=taking, other=taking)
    with pytest.raises(ImagesError, match=r"several kinds of images \(yaml: .*; other: "):
        open_source(tmp_path)


def test_a_failing_plug_in_is_named(plugged, tmp_path):
    plugged(
        broken=SourceKind("x", lambda one: bool(1 / 0), lambda one, options: from_arrays(IMAGES))
    )
    with pytest.raises(SettingError, match=r"'broken' failed to tell .* ZeroDivisionError"):
        open_source(tmp_path)


def test_ranges_of_files():
    assert places.expanded("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert places.expanded("{0..1}{8..9}") == ["08", "09", "18", "19"]
    assert places.expanded("{0,1}.tar") == ["0.tar", "1.tar"]
    assert places.expanded("{train,val,}-{0..1}.tar") == [
        *("train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar", "-0.tar", "-1.tar"),
    ]
    assert places.expanded("{10,9}{a,b}") == ["10a", "10b", "9a", "9b"]
    for name in ("a.tar", "{3..1}", "{0..99999999}", "{a..b}", "{a}", "{}", "{0..99999}{a,b}"):
        assert places.expanded(name) == []
    whole = [f"train-{n:05}-of-00003.parquet" for n in range(3)]
    assert places.incomplete(whole) == ""
    assert "train-00001-of-00003.parquet is missing" in places.incomplete([whole[0], whole[2]])
    other = ["test-00000-of-00001.parquet"]
    assert "several splits (test, train)" in places.incomplete(whole + other)


def _stream(*passes: list[Sample], **fields) -> Stream:
    left = list(passes)
    return Stream("test", lambda: iter(left.pop(0) if len(left) > 1 else left[0]), **fields)


def test_a_stream_is_read_in_any_order():
    samples = [Sample(image, number % 2) for number, image in enumerate(IMAGES)]
    source = open_object(_stream(samples, class_names=("a", "b")), SourceOptions())
    entries = source.entries()
    assert [(e.key, e.label) for e in entries[:2]] == [("row 0", 0), ("row 1", 1)]
    for number in (3, 0, 4):
        assert (source.read(entries[number], SHAPE).pixels == IMAGES[number]).all()
    assert source.access == "random" and Stream.access == "stream"
    assert source.description == "test, 2 classes, 5 images"


def test_a_stream_that_gives_other_images_in_a_second_pass_is_refused():
    samples = [Sample(image, 0) for image in IMAGES]
    with pytest.raises(ImagesError, match="same images in another order: it shuffles"):
        spooled(_stream(samples, samples[::-1]), None, 1 << 20)
    changed = [Sample(image + 1, 0) for image in IMAGES]
    with pytest.raises(ImagesError, match="changes them at random"):
        spooled(_stream(samples, changed), None, 1 << 20)
    with pytest.raises(ImagesError, match="read only once"):
        spooled(_stream(samples, []), None, 1 << 20)


def test_a_stream_is_bounded(monkeypatch):
    endless = Stream("endless", lambda: (Sample(IMAGES[0]) for _ in iter(int, 1)))
    with pytest.raises(ImagesError, match=r"more than 1,000 bytes of images.*--cache-bytes"):
        spooled(endless, None, 1000)
    monkeypatch.setattr("robustness.images.streams.MAX_ENTRIES", 20)
    with pytest.raises(ImagesError, match="more than 20 images"):
        spooled(endless, None, 1 << 20)
    with pytest.raises(ImagesError, match="gives no images"):
        spooled(_stream([]), None, 1000)
    monkeypatch.setattr("tempfile.TemporaryFile", _no_space)
    with pytest.raises(StorageError):
        spooled(endless, None, 1000)


def _no_space(*_):
    raise OSError(28, "No space left on device")


def test_bad_images_of_a_stream_are_outcomes():
    good = IMAGES[0]
    samples = [
        Sample(good), Sample(b"no picture"), Sample(good[0]), Sample(good.astype(np.int64) - 9),
        Sample(b"", fault="The row is empty."), Sample(good + 1),
    ]  # fmt: skip
    source = spooled(_stream(samples), None, 1 << 20)
    pictures = [source.read(entry, SHAPE) for entry in source.entries()]
    assert [p.pixels is not None for p in pictures] == [True, False, False, False, False, True]
    assert pictures[4].reason == "The row is empty."
    assert "from -9 to" in pictures[3].reason and "shape (2, 3)" in pictures[2].reason


@pytest.mark.parametrize(
    ("images", "factor"),
    [
        ([[0.0, 255.0]], 1),
        ([[0.0, 0.2], [17.3, 200.0]], 1),
        ([[0.0, 0.5]], 255),
        ([[0.25, 1.0]], 255),
        ([[-1.0, 1.0]], "scaled or normalised"),
        ([[0.0, 0.5], [-0.1, 0.5]], "scaled or normalised"),
        ([[0.0, 1.0]], "all of them 0 or 1"),
        ([[0.0, 2.6]], "which is neither"),
        ([[0.0, 300.0]], "which is neither"),
        ([[0.5], np.array([5], np.uint8)], "some images have an integer type and others floats"),
    ],
)
def test_the_range_of_all_images_says_what_floats_are(images, factor):
    seen = ValueRange()
    for image in images:
        seen.see(image if isinstance(image, np.ndarray) else np.array(image, np.float32))
    if isinstance(factor, str):
        with pytest.raises(ImagesError, match=factor):
            seen.factor("test")
    else:
        assert seen.factor("test") == factor


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_divided_by_255_are_the_same_counts_again(dtype):
    counts = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    again, note = to_counts(counts.astype(dtype) / dtype(255), 255)
    assert (again == counts).all() and not note
    again, note = to_counts((counts + 0.4).astype(dtype), 1)
    assert (again == counts).all() and note == "rounded to 8 bits"


def test_the_example_of_the_page_is_a_kind(plugged):
    page = (Path(__file__).parents[3] / "docs" / "adding-a-source.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    made: dict[str, Any] = {}
    exec(code, made)
    plugged(numbers=made["NUMBERS"])
    command = re.findall(r"--images (numbers:\d+)", page)[0]
    source = open_source(command)
    assert source.description == "numbers:8, 2 classes, 8 images"
    assert source.class_names == ("even", "odd")
    pixels = source.read(source.entries()[5], (16, 16, 3)).pixels
    assert pixels is not None
    assert (pixels[5] == 255).all() and pixels.sum() == 16 * 3 * 255


def test_the_example_of_a_source_reads_any_picture(plugged, tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "adding-a-source.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    made: dict[str, Any] = {}
    exec(code, made)
    plugged(npy=made["NPY"])
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.save(tmp_path / "a.npy", pixels)
    (tmp_path / "b.npy").write_text("no array")
    (tmp_path / "labels.json").write_text('{"b.npy": "dog", "a.npy": "cat"}')
    source = open_source(tmp_path)
    assert (source.class_names, len(source.entries())) == (("cat", "dog"), 2)
    first, second = (source.read(entry, (4, 4, 3)) for entry in source.entries())
    assert (first.pixels == pixels).all()
    assert second.pixels is None and "It cannot be read" in second.reason
    assert source.read(source.entries()[0], (8, 8, 3)).reason == "It has the shape (4, 4, 3)."
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ImagesError, match=r"cannot be read .*expected a folder of .npy files"):
        open_source(tmp_path)
